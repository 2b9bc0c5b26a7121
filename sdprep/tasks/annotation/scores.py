"""The file of `tag --scores`: JSON Lines, written again by each run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from sdprep.catalog.journal import Change
from sdprep.errors import UsageError, WriteError
from sdprep.files import FILE_LIMIT, real_path, replace_file
from sdprep.folders import read_below

# Characters in a line of scores; enough for ten thousand labels.
MOST_OF_A_LINE = 10_000_000


def check_scores_path(path: Path) -> None:
    """Raise UsageError if scores would replace anything but older scores, or more than the journal keeps."""
    if not path.parent.is_dir():
        raise UsageError(f"--scores {path}: there is no folder {path.parent}")
    if not os.path.lexists(path) or (path.is_file() and path.stat().st_size == 0):
        return
    # Opening a pipe would wait for its other end.
    if not path.is_file():
        raise UsageError(f"--scores {path}: it is not a regular file; give another name")
    if path.stat().st_size > FILE_LIMIT:
        raise UsageError(_too_large(path))
    try:
        with path.open(encoding="utf-8") as stream:
            first = json.loads(stream.readline(MOST_OF_A_LINE))
    except (OSError, ValueError, RecursionError):
        first = None
    if not isinstance(first, dict) or "path" not in first:
        raise UsageError(f"--scores {path}: this file is there and holds no scores; give another name")


def write_scores(path: Path, lines: Iterable[bytes], replace: Callable[[Change], None]) -> None:
    """Write the lines to a file; an existing one is replaced by `replace`, through the journal, so `undo` restores it.

    Raises WriteError if it cannot be written or has changed meanwhile, UsageError if it is too large for the journal.
    """
    path = real_path(path.parent) / path.name
    try:
        before = read_below(path.parent, path, FILE_LIMIT)
        if not before:
            replace_file(path, lines)
            return
        change = Change(path, before, _joined(path, lines))
        if change.after != before:
            replace(change)
    except OSError as error:
        raise WriteError(error) from error


def _joined(path: Path, lines: Iterable[bytes]) -> bytes:
    parts, size = list[bytes](), 0
    for line in lines:
        parts.append(line)
        size += len(line)
        if size > FILE_LIMIT:
            raise UsageError(_too_large(path))
    return b"".join(parts)


def _too_large(path: Path) -> str:
    return f"--scores {path}: a file of more than {FILE_LIMIT:,} bytes is not replaced; give a name that is not taken"
