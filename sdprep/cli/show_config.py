"""`--show-config`: the settings of a folder with their origins, as TOML that `--config` reads back."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import click

from sdprep.cli.param_types import hyphenate
from sdprep.cli.stated import BUILT_IN, effective, gather
from sdprep.rules.exclude import COMMAS, SEMICOLONS
from sdprep.sanitize import escape


def show_config(ctx: click.Context, directory: Path) -> None:
    """Print every setting of a folder, its value and where it comes from.

    Built-in values are comments: `--config` states what it reads, and a run remembers what is stated.
    """
    click.echo(f"[{ctx.info_name}]")
    for name, each in effective(ctx, gather(ctx, directory)).items():
        origin = json.dumps(each.origin, ensure_ascii=False)[1:-1]
        if each.value is None:
            click.echo(f"# {hyphenate(name)} is not set  # {origin}")
            continue
        try:
            mark = "# " if each.origin == BUILT_IN else ""
            click.echo(f"{mark}{hyphenate(name)} = {as_toml(each.value)}  # {origin}")
        except UnicodeEncodeError:
            click.echo(f"# {hyphenate(name)} cannot be in TOML, since it is not UTF-8: {each.value}  # {origin}")


def as_toml(value: Any) -> str:
    """A value of an option as TOML that the option reads back. Raises UnicodeEncodeError for text that is not UTF-8."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, tuple):
        return f"[{', '.join(_quoted(each if isinstance(each, str) else _pair(*each)) for each in value)}]"
    return _quoted(os.fspath(value))


def _pair(first: str, second: str | float) -> str:
    """A pair as its option takes it: a category with its threshold, or a tag with its replacement."""
    if not isinstance(second, str):
        return f"{first}={second!r}"
    return ",".join(re.sub(rf"([{COMMAS}{SEMICOLONS}])", r"\\\1", tag) for tag in (first, second))


def _quoted(text: str) -> str:
    """A TOML string in which all characters are visible."""
    text.encode("utf-8")
    return "".join(each if escape(each) == each else _code(ord(each)) for each in json.dumps(text, ensure_ascii=False))


def _code(code: int) -> str:
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
