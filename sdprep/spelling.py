"""File names and times as text that every reader of reports takes."""

from __future__ import annotations

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
    r"""A file name as text: bytes that are no UTF-8, which strict readers of JSON refuse, are written as `ÿ`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def spell_time(seconds: float, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return a time of the clock as local date and time, or "unknown" if the system has no date for it."""
    try:
        return time.strftime(form, time.localtime(seconds))
    except (OverflowError, OSError, ValueError):
        return "unknown"
