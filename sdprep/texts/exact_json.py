"""JSON that is written again unchanged: numbers as they were spelled, keys in order, strings with their content."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

# Deeper than any tool nests. Reading, comparing and writing a value recurse once per level.
MOST_LEVELS = 100

_encode = json.JSONEncoder(ensure_ascii=False).encode
# JSON allows them unescaped, but terminals act on them and other programs end a line at them.
_RAW_CONTROL = re.compile("[\x7f-\x9f\u2028\u2029]")


def quote(value: Any) -> str:
    """A text, true, false, null or a number of Python as JSON has it; TOML and YAML read the texts as the same."""
    if type(value) is str and value.isascii() and "\x7f" not in value:
        # As below, in less time: a metadata file has half a million texts.
        return _encode(value)
    return _RAW_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", _encode(value))


@dataclass(frozen=True, slots=True, repr=False)
class Number:
    """A JSON number as it was spelled, so that `1.0`, `0.10` and `1e999` are written again unchanged."""

    text: str

    def __repr__(self) -> str:
        return self.text


# Numbers repeat, and sharing them saves memory.
_number = lru_cache(maxsize=65_536)(Number)


def parse_exactly(data: bytes | str) -> Any:
    """The value of JSON, as text or as bytes in UTF-8, UTF-16 or UTF-32, with a Number for every number.

    Raises ValueError for invalid JSON (NaN and Infinity are invalid), for an object that has a key twice, since
    readers disagree about which one counts, and for a value that is nested too deeply.
    """
    try:
        value = json.loads(
            data, parse_int=_number, parse_float=_number, parse_constant=_refuse, object_pairs_hook=_object
        )
        _check_levels(value, MOST_LEVELS)
    except RecursionError:
        raise _too_deep() from None
    return value


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        [(twice, _), *_] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"an object has the key {twice!r} twice")
    return found


def _check_levels(value: Any, left: int) -> None:
    if not isinstance(value, dict | list):
        return
    if not left:
        raise _too_deep()
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, dict | list):
            _check_levels(inner, left - 1)


def _too_deep() -> ValueError:
    return ValueError(f"it has more than {MOST_LEVELS} levels of nesting")


def dump_exactly(value: Any) -> bytes:
    """The bytes of a JSON value: UTF-8, LF, two spaces per level, one final newline; each Number as spelled."""
    # A lone surrogate has no UTF-8; this error handler writes it as JSON does, as in \udce9.
    return (_spelled(value, "\n") + "\n").encode("utf-8", "backslashreplace")


def dump_line(value: Any) -> bytes:
    """The bytes of a JSON value on one line, with the line end; each Number as spelled."""
    return (_on_one_line(value) + "\n").encode("utf-8", "backslashreplace")


def _on_one_line(value: Any) -> str:
    if isinstance(value, Number):
        return value.text
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quote(key)}: {_on_one_line(each)}" for key, each in value.items()) + "}"
    return "[" + ", ".join(map(_on_one_line, value)) + "]" if isinstance(value, list) else quote(value)


def _spelled(value: Any, line: str) -> str:
    """The text of a value; each of its lines begins with `line`, a line break and the spaces of the level."""
    if isinstance(value, Number):
        return value.text
    inner = line + "  "
    if isinstance(value, dict):
        parts = [f"{inner}{quote(key)}: {_spelled(each, inner)}" for key, each in value.items()]
        return _joined("{", parts, line + "}") if parts else "{}"
    if isinstance(value, list):
        parts = [inner + _spelled(each, inner) for each in value]
        return _joined("[", parts, line + "]") if parts else "[]"
    return quote(value)


def _joined(opening: str, parts: list[str], closing: str) -> str:
    # Brackets added to the joined text would copy it whole, beside all parts: the peak of a merge's memory.
    parts[0] = opening + parts[0]
    parts[-1] += closing
    return ",".join(parts)
