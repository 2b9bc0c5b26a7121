"""Migrating a catalog to this sdprep's schema, in one transaction, after a backup."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path

from sdprep.catalog.schema import STEPS
from sdprep.errors import CatalogFailed
from sdprep.files import sync_folder


def migrate(db: sqlite3.Connection, file: Path | None, schema: int) -> Path | None:
    """Apply all steps after `schema` (0: an empty file), or none; return the backup that was made before.

    Raises CatalogFailed, sqlite3.Error or OSError if the backup or a step fails; the catalog is then unchanged.
    """
    backup = _back_up(db, file, schema) if schema and file else None
    try:
        db.executescript(f"BEGIN IMMEDIATE; {''.join(STEPS[schema:])} PRAGMA user_version = {len(STEPS)}; COMMIT;")
    except BaseException as error:
        if db.in_transaction:
            db.execute("ROLLBACK")
        if schema and isinstance(error, sqlite3.Error) and type(error) is not sqlite3.DatabaseError:
            # Python raises plain DatabaseError for damage; its subclasses have other causes.
            raise CatalogFailed(
                f"{file} cannot be migrated to schema {len(STEPS)} and is unchanged: {error}"
            ) from error
        raise
    return backup


def _back_up(db: sqlite3.Connection, file: Path, schema: int) -> Path:
    """Copy a catalog to a file beside it, which gets its final name when it is complete and on the disk."""
    temporary = file.with_name(f"{file.name}.copy.tmp")
    # A killed run may have left it, and SQLite would follow a link.
    try:
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as error:
        raise CatalogFailed(
            f"{file} cannot be backed up before its migration: {temporary}: {error.strerror}. "
            "Move that file or folder away"
        ) from error
    try:
        with closing(sqlite3.connect(str(temporary), isolation_level=None)) as copy:
            db.backup(copy)
        os.fsync(descriptor)
        backup = _free_name(file.with_name(f"{file.name}.schema-{schema}"))
        temporary.rename(backup)
        sync_folder(file.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    return backup


def _free_name(wanted: Path) -> Path:
    names = (wanted.with_name(f"{wanted.name}.{number}") for number in count(2))
    return wanted if not os.path.lexists(wanted) else next(name for name in names if not os.path.lexists(name))
