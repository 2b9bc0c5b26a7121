"""Whether a catalog is damaged, by a look at everything in it, and moving a damaged one aside."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import Any

from sdprep.catalog.database import SQLITE_ERRORS, damage_in, is_outside
from sdprep.catalog.schema import (
    CHANGE,
    NO_SENSE,
    STATE,
    as_bytes,
    as_number,
    as_pieces,
    as_table,
    as_text,
    as_time,
    check_change,
    check_state,
    unpacked,
)
from sdprep.errors import CatalogFailed


def _optional(check: Callable[[Any], object]) -> Callable[[Any], object]:
    return lambda value: None if value is None else check(value)


def as_name(key: Any) -> str:
    """Return the name of a file of a row. Raises TypeError or ValueError."""
    name = os.fsdecode(key if isinstance(key, str) else as_bytes(key))
    if "\0" in name:
        raise ValueError("a NUL is in no name of a file")
    return name


# What the columns of each table hold; results are not here, since a damaged one only counts as none.
COLUMNS: dict[str, dict[str, Callable[[Any], object]]] = {
    "runs": {
        "uid": as_text,
        "command": as_text,
        "settings": as_table,
        "model": _optional(as_text),
        "started": as_time,
        "ended": _optional(as_time),
    },
    "images": {"key": as_name, "size": as_number, "mtime_ns": as_number, "digest": as_bytes},
    "settings": {"json": as_table},
    "states": {
        "digest": as_bytes,
        "person": as_text,
        "machine": as_pieces,
        "removed": as_pieces,
    },
    "failures": {"message": as_text},
    "journal": {"key": as_name, "before": _optional(as_bytes), "after": _optional(as_bytes)},
}


def damage_of(file: Path) -> str | None:
    """Return what is wrong in a catalog of any size, or None; everything in it is looked at.

    Raises CatalogFailed if it cannot be read.
    """
    try:
        with closing(sqlite3.connect(str(file))) as db:
            db.execute("PRAGMA query_only = ON")
            return damage_in(db, file, "integrity_check") or _dangling(db) or _nonsense(db)
    except SQLITE_ERRORS as error:
        if is_outside(error):
            raise CatalogFailed(f"{file} cannot be used: {error}") from error
        return str(error)


def _dangling(db: sqlite3.Connection) -> str | None:
    """A row that refers to one that is gone."""
    row = db.execute("PRAGMA foreign_key_check").fetchone()
    return f"a row of {row[0]} refers to one of {row[2]} that is not there" if row else None


def _nonsense(db: sqlite3.Connection) -> str | None:
    """A row with content that sdprep never wrote."""
    for table, checks in COLUMNS.items():
        for row in db.execute(f"SELECT {', '.join(checks)} FROM {table}"):
            for (name, check), value in zip(checks.items(), row, strict=True):
                try:
                    check(value)
                except NO_SENSE:
                    return f"{name} in {table} is not as sdprep wrote it"
    # A catalog of schema 1 that is only read has no checksums.
    columns = {name for _, name, *_ in db.execute("PRAGMA table_info(states)")}
    checksum = "checksum" if "checksum" in columns else "NULL"
    try:
        for *row, known in db.execute(f"SELECT {STATE}, {checksum} FROM states"):
            check_state(row, known)
        for *row, known, status in db.execute(f"SELECT {CHANGE}, {checksum}, status FROM journal"):
            check_change(row, known, status)
    except NO_SENSE:
        return "a row of states or journal is not as sdprep wrote it"
    for digest, packed, data in db.execute("SELECT hash, packed, data FROM texts"):
        try:
            unpacked(packed, data, digest)
        except NO_SENSE:
            return "a kept text is not as sdprep wrote it"
    return None


def set_aside(file: Path) -> str:
    """Rename a damaged catalog and what SQLite keeps beside it, and return its new name. Raises CatalogFailed."""
    names = (f"{file.name}.broken-{number}" for number in count(1))
    kept = next(name for name in names if not os.path.lexists(file.with_name(name)))
    try:
        # The catalog first: SQLite deletes a log that has no catalog, while a catalog without its log looks whole.
        for suffix in ("", "-wal", "-shm", "-journal"):
            with suppress(FileNotFoundError):
                file.with_name(file.name + suffix).rename(file.with_name(kept + suffix))
    except OSError as error:
        raise CatalogFailed(f"{file} is damaged and cannot be renamed: {error.strerror}. Move it away") from error
    return kept
