"""The types of option values, on the command line and in settings files."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from sdprep.errors import UsageError
from sdprep.rules.exclude import COMMAS, split_list
from sdprep.sanitize import printable

# The largest whole number in a message to a worker.
MOST = 2**63 - 1
# How much of a wrong value a message quotes: list entries, characters.
MOST_SHOWN, LONGEST_SHOWN = 5, 200

RESOLUTION = re.compile(r"([0-9]{1,6})(?:[,x]([0-9]{1,6}))?")


class Raw(click.types.UnprocessedParamType):
    """The type of an option that a callback parses; a settings file may use one of `kinds`, described by `words`."""

    def __init__(self, words: str, *kinds: type) -> None:
        self.words, self.kinds = words, kinds


class UserPath(click.Path):
    """A path in which ~ is the home folder, also where no shell has replaced it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path. Raises BadParameter if it is not what it should be."""
        return super().convert(expand_home(value) if isinstance(value, str) else value, param, ctx)


class InputPath(UserPath):
    """An input of a command, of which `ctx.meta` has the text too: a path would lose a slash of a URL."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path."""
        if ctx is not None:
            ctx.meta.setdefault("inputs", []).append(str(value))
        return super().convert(value, param, ctx)


class Int64(click.IntRange):
    """A whole number within bounds, and of 64 bits at most."""

    name = "integer"

    def _describe_range(self) -> str:
        # click shows a range without bounds as x<=None.
        return "" if self.min is None and self.max is None else super()._describe_range()

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number. Raises BadParameter for any other text, and for larger ones."""
        number: int = super().convert(value, param, ctx)
        if abs(number) > MOST:
            self.fail(f"{value} is too large.", param, ctx)
        return number


class FiniteFloat(click.FloatRange):
    """A number within bounds: neither `nan`, which passes every bound, nor `inf`."""

    name = "float"

    def _describe_range(self) -> str:
        return "" if self.min is None and self.max is None else super()._describe_range()

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number. Raises BadParameter for any other text."""
        try:
            number: float = super().convert(value, param, ctx)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


def expand_home(text: str) -> str:
    """The text with the home folder for ~ or ~NAME at its start."""
    return os.path.expanduser(text)  # noqa: PTH111 - a Path would drop ./ and a slash at the end


def decode_utf8(text: str) -> str:
    """Text of the command line or the environment, read as UTF-8 if its encoding here could not read it."""
    try:
        return text if printable(text) == text else os.fsencode(text).decode("utf-8")
    except UnicodeError:
        return text


def hyphenate(name: str) -> str:
    """The official spelling of an option."""
    return name.replace("_", "-")


TEXTS = Raw("text or a list of texts", str, list)


def size(_: click.Context, __: click.Parameter, value: str) -> tuple[int, int]:
    """A callback that reads 1024, 512,768 or 512x768. Raises BadParameter for anything else."""
    found = RESOLUTION.fullmatch(value)
    if found is None or int(found[1]) == 0 or found[2] == "0":
        raise click.BadParameter(f"{value!r} is not a resolution; give pixels such as 1024 or 832,1216")
    return int(found[1]), int(found[2] or found[1])


def comma_list(_: click.Context, __: click.Parameter, value: Any) -> tuple[str, ...]:
    """A callback for lists of tags or words, as `read_list` reads them."""
    return read_list(value, split_list)


def read_list(value: Any, split: Callable[[str], tuple[str, ...]]) -> tuple[str, ...]:
    """The entries of a list option: of all its texts on the command line (a tuple), or of a list in a settings file.

    Raises BadParameter if a text has separators and no entry.
    """
    if isinstance(value, list):
        return tuple(entry.strip() for entry in value if entry.strip())
    texts = (value,) if isinstance(value, str) else value
    found = [split(text) for text in texts]
    for text, entries in zip(texts, found, strict=True):
        if not entries and set(text) & set(COMMAS):
            raise click.BadParameter(rf"{text!r} is an empty list; write a literal comma as \,")
    return tuple(entry for entries in found for entry in entries)


def one_or_several(_: click.Context, __: click.Parameter, value: Any) -> str | tuple[str, ...] | None:
    """A callback for one name, or several of them. Raises BadParameter for a blank one."""
    if value is None:
        return None
    names = (value,) if isinstance(value, str) else tuple(dict.fromkeys(value))
    if not names or not all(names):
        raise click.BadParameter("it is blank; give a value, or leave the option out")
    return names[0] if len(names) == 1 else names


def separator(_: click.Context, __: click.Parameter, value: str) -> str:
    r"""A callback for a separator, in which the two characters `\n` and `\t` mean a new line and a tab."""
    return value.replace(r"\n", "\n").replace(r"\t", "\t")


def check_kind(option: click.Option, value: Any, where: str) -> None:
    """Raise UsageError unless a value of a settings file has a type that its option takes.

    click would turn some others into text, or cut their decimals off.
    """
    words, kinds = _taken(option)
    texts = all(isinstance(part, str) for part in value) if isinstance(value, list) else True
    if type(value) not in kinds or not texts:
        raise click.UsageError(f"{where} takes {words}, not {_shown(value)}")


def value_used(ctx: click.Context, option: click.Option, value: Any, where: str) -> Any:
    """Return what a run uses for a value of a settings file. Raises UsageError if the option refuses it."""
    try:
        return option.process_value(ctx, value)
    except (click.UsageError, UsageError) as error:
        message = error.message if isinstance(error, click.UsageError) else str(error)
        raise click.UsageError(f"{where}: {message}") from error


def _shown(value: Any) -> str:
    """Return the beginning of a value as TOML. A table may be nested deeper than Python can recurse."""
    if isinstance(value, dict):
        return "{...}"
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value[:MOST_SHOWN]))}{', ...' if len(value) > MOST_SHOWN else ''}]"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _taken(option: click.Option) -> tuple[str, tuple[type, ...]]:
    """The types that a settings file may use for an option, in words and as Python's."""
    if option.multiple:
        return "a list of texts", (list,)
    if isinstance(option.type, Raw):
        return option.type.words, option.type.kinds
    if option.is_flag:
        return "true or false", (bool,)
    if isinstance(option.type, click.types.IntParamType):
        return "a whole number", (int,)
    if isinstance(option.type, click.types.FloatParamType):
        return "a number", (int, float)
    return "text", (str,)


def prompt_preset(ctx: click.Context, _: click.Parameter, name: str | None) -> None:
    """A callback of --prompt-preset, which stands for a --prompt."""
    if name is not None:
        _take_prompt(ctx, "--prompt-preset", f"{{preset:{name}}}")


def prompt_file(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    """A callback of --prompt-file, which stands for a --prompt. Raises BadParameter if it cannot be read."""
    if path is None:
        return
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise click.BadParameter(f"{path} cannot be read: {reason}") from error
    _take_prompt(ctx, "--prompt-file", text.rstrip("\r\n"))


def prompt(ctx: click.Context, param: click.Parameter, text: str | None) -> str | None:
    """A callback of --prompt, after the options that stand for one."""
    if "prompt" not in ctx.meta:
        return text
    if ctx.get_parameter_source("prompt") is ParameterSource.COMMANDLINE:
        _take_prompt(ctx, str(param.opts[0]), "")
    ctx.set_parameter_source("prompt", ParameterSource.COMMANDLINE)
    return str(ctx.meta["prompt"][1])


def _take_prompt(ctx: click.Context, option: str, text: str) -> None:
    """Keep a prompt for --prompt. Raises UsageError if two options give one."""
    if "prompt" in ctx.meta:
        raise click.UsageError(f"{ctx.meta['prompt'][0]} and {option} both say what to ask; give one of them", ctx)
    ctx.meta["prompt"] = option, text
