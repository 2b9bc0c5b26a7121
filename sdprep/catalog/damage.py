"""Whether a catalog is damaged, by reading all of it, and moving a damaged one aside."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

from sdprep.catalog.catalog import Catalog
from sdprep.catalog.database import SQLITE_ERRORS, damage_in, is_outside
from sdprep.catalog.history import runs
from sdprep.catalog.schema import AT_ONCE, as_number, as_text
from sdprep.catalog.stated import stated_rows
from sdprep.errors import CatalogFailed, DamagedCatalog


def is_damaged(file: Path) -> bool:
    """Whether anything in a catalog is not as sdprep wrote it. Raises CatalogFailed if it cannot be read."""
    try:
        with closing(sqlite3.connect(str(file))) as db:
            db.execute("PRAGMA query_only = ON")
            if damage_in(db, file, "integrity_check") or db.execute("PRAGMA foreign_key_check").fetchone():
                return True
        with closing(Catalog(file, file.parent, dry_run=True)) as catalog:
            _read_everything(catalog)
    except DamagedCatalog:
        return True
    except SQLITE_ERRORS as error:
        if is_outside(error):
            raise CatalogFailed(f"{file} cannot be used: {error}") from error
        return True
    return False


def _read_everything(catalog: Catalog) -> None:
    """Read all rows as the commands read them. Raises DamagedCatalog; a damaged result only counts as none."""
    runs(catalog)
    for change in catalog.changes():
        catalog.path(change.key)
    for table, read in (("images", catalog.images), ("sidecars", catalog.states)):
        keys = catalog.db.execute(f"SELECT key FROM {table}")
        while some := [key for [key] in keys.fetchmany(AT_ONCE)]:
            read(some)
    for [digest] in catalog.db.execute("SELECT hash FROM texts"):
        catalog.text(digest)
    stated_rows(catalog)
    with catalog.decoding("where a sidecar was moved"):
        for key, former in catalog.db.execute("SELECT key, former FROM moves"):
            catalog.path(key), catalog.path(former)
    with catalog.decoding("the stars of an image"):
        for [stars] in catalog.db.execute("SELECT stars FROM marks"):
            as_number(stars)
    with catalog.decoding("what it knows of an image that failed"):
        for [message] in catalog.db.execute("SELECT message FROM failures"):
            as_text(message)


def move_aside(file: Path) -> str:
    """Rename a damaged catalog and what SQLite keeps beside it, and return its new name. Raises CatalogFailed."""
    names = (f"{file.name}.broken-{number}" for number in count(1))
    kept = next(name for name in names if not os.path.lexists(file.with_name(name)))
    try:
        # The catalog first: SQLite deletes a log without a catalog, while a catalog without its log looks intact.
        for suffix in ("", "-wal", "-shm", "-journal"):
            with suppress(FileNotFoundError):
                file.with_name(file.name + suffix).rename(file.with_name(kept + suffix))
    except OSError as error:
        raise CatalogFailed(f"{file} is damaged and cannot be renamed: {error.strerror}. Move it away") from error
    return kept
