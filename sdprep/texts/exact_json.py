"""JSON of others: numbers are written again as they were spelled, keys in their order, strings with their content."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

# Deeper than any tool nests. Reading, comparing and writing a value take a call for each level.
MOST_LEVELS = 100

_encode = json.JSONEncoder(ensure_ascii=False).encode
# JSON lets them stand unescaped, but a terminal acts on them and other programs end a line at them.
_RAW_CONTROL = re.compile("[\x7f-\x9f\u2028\u2029]")


def _encoded(value: Any) -> str:
    return _RAW_CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", _encode(value))


@dataclass(frozen=True, slots=True, repr=False)
class Number:
    """A number of JSON as it was spelled: `1.0`, `0.10` and `1e999` mean nothing else when they are written again."""

    text: str

    def __repr__(self) -> str:
        return self.text


# Numbers repeat, and this keeps a file of a hundred million zeros from taking more memory than it has to.
_number = lru_cache(maxsize=65_536)(Number)


def parse_exactly(data: bytes) -> Any:
    """The value in JSON bytes, in UTF-8, UTF-16 or UTF-32, with a Number for every number.

    Raises ValueError for what is not JSON (NaN and Infinity are not), for an object that has a key twice, of which no
    reader knows which one counts, and for a value that is nested too deep.
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
    raise ValueError(f"{name} is not a number of JSON")


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
    return ValueError(f"it is nested deeper than {MOST_LEVELS} levels")


def dump_exactly(value: Any) -> bytes:
    """The bytes of a JSON value: UTF-8, LF, two spaces per level, one final newline; each Number as it was spelled."""
    # A lone surrogate has no UTF-8; this error handler happens to spell it as JSON does, so it survives as \udce9.
    return (_spelled(value, "\n") + "\n").encode("utf-8", "backslashreplace")


def _spelled(value: Any, line: str) -> str:
    """A value, the lines of which begin with `line`, a line break and the spaces of the level."""
    if isinstance(value, Number):
        return value.text
    inner = line + "  "
    if isinstance(value, dict):
        parts = [f"{inner}{_encoded(key)}: {_spelled(each, inner)}" for key, each in value.items()]
        return "{" + ",".join(parts) + line + "}" if parts else "{}"
    if isinstance(value, list):
        parts = [inner + _spelled(each, inner) for each in value]
        return "[" + ",".join(parts) + line + "]" if parts else "[]"
    return _encoded(value)
