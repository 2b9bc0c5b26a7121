"""Bringing a catalog to this sdprep's schema, in one transaction, after a copy of it was kept."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path

from sdprep.catalog.schema import STEPS
from sdprep.errors import CatalogFailed


def migrate(db: sqlite3.Connection, file: Path | None, schema: int) -> Path | None:
    """Take all steps that come after `schema` (0: an empty file), or none; return the copy that was kept before.

    Raises CatalogFailed, sqlite3.Error or OSError if the copy or a step fails; the catalog is then as it was.
    """
    backup = _keep_copy(db, file, schema) if schema and file else None
    try:
        db.executescript(f"BEGIN IMMEDIATE; {''.join(STEPS[schema:])} PRAGMA user_version = {len(STEPS)}; COMMIT;")
    except BaseException as error:
        if db.in_transaction:
            db.execute("ROLLBACK")
        if schema and isinstance(error, sqlite3.Error) and type(error) is not sqlite3.DatabaseError:
            # Python raises DatabaseError itself for damage: all else is no fault of the content.
            raise CatalogFailed(
                f"{file} cannot be brought to schema {len(STEPS)} and stays as it is: {error}"
            ) from error
        raise
    return backup


def _keep_copy(db: sqlite3.Connection, file: Path, schema: int) -> Path:
    """Copy a catalog to a file beside it that is on the disk, whole, before it gets its name."""
    temporary = file.with_name(f"{file.name}.copy.tmp")
    # A run that was killed may have left it, and SQLite would follow a link.
    try:
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as error:
        raise CatalogFailed(
            f"{file} cannot be copied before it is brought up to date: {temporary}: {error.strerror}. "
            "Move that file or folder away"
        ) from error
    try:
        with closing(sqlite3.connect(str(temporary), isolation_level=None)) as copy:
            db.backup(copy)
        os.fsync(descriptor)
        backup = _free_name(file.with_name(f"{file.name}.schema-{schema}"))
        temporary.rename(backup)
        _sync_folder(file.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    return backup


def _sync_folder(folder: Path) -> None:
    """Have the names in a folder reach the disk, where the system can do that."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _free_name(wanted: Path) -> Path:
    names = (wanted.with_name(f"{wanted.name}.{number}") for number in count(2))
    return wanted if not os.path.lexists(wanted) else next(name for name in names if not os.path.lexists(name))
