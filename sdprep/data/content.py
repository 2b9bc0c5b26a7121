"""What the rows of a catalog hold, as bytes and JSON: packed texts, tables, pieces of text."""

from __future__ import annotations

import json
import zlib
from typing import Any

from sdprep.types import FailureCode

# What content raises that sdprep never wrote.
NO_SENSE = (ValueError, TypeError, KeyError, RecursionError, zlib.error)
CODES = frozenset(code.value for code in FailureCode)


def unpacked(packed: int, data: bytes) -> bytes:
    """The bytes of a kept text. Raises one of NO_SENSE."""
    return zlib.decompress(data) if packed else memoryview(data).tobytes()


def as_table(text: str) -> dict[str, Any]:
    """The JSON object of a row. Raises one of NO_SENSE."""
    return dict(**json.loads(text))


def as_pieces(text: str) -> tuple[str, ...]:
    """The JSON list of texts of a row. Raises one of NO_SENSE."""
    return tuple(map(as_text, json.loads(text)))


def as_text(value: Any) -> str:
    """A text of a row. Raises one of NO_SENSE."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def dump(value: Any) -> str:
    """JSON for a row."""
    # Escaped, since a file name that is not Unicode could not be stored otherwise.
    return json.dumps(value, ensure_ascii=True, sort_keys=True)
