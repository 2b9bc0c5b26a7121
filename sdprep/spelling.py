"""File names and times as text that every reader of reports takes."""

from __future__ import annotations

import re
import time
from typing import Any


def json_ready(value: Any) -> Any:
    """The same value with every name written as `spell` does."""
    if isinstance(value, str):
        return spell(value)
    if isinstance(value, list):
        return [json_ready(each) for each in value]
    return {name: json_ready(each) for name, each in value.items()} if isinstance(value, dict) else value


def spell(name: str) -> str:
    r"""Return a name without lone surrogates, which readers of JSON refuse; a byte that is not UTF-8 is `\xff`."""
    return re.sub("[\ud800-\udfff]", _escaped, name)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def spell_time(seconds: float, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return a time of the clock as local date and time, or "unknown" if the system has no date for it."""
    try:
        return time.strftime(form, time.localtime(seconds))
    except (OverflowError, OSError, ValueError):
        return "unknown"
