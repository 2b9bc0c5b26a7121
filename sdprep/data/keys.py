"""How a catalog calls files, and tells whether one is as it was."""

from __future__ import annotations

import os

Key = str | bytes
# Size in bytes and time of change in nanoseconds of a file.
Stamp = tuple[int, int]


def as_key(text: str) -> Key:
    """The key of a path with forward slashes: itself, or its bytes if it is not Unicode."""
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return os.fsencode(text)
    return text


def stamp_of(found: os.stat_result) -> Stamp:
    """Return the stamp of a file. Times beyond the year 2262 are wrapped, since SQLite has no such numbers."""
    return found.st_size, (found.st_mtime_ns + (1 << 63)) % (1 << 64) - (1 << 63)
