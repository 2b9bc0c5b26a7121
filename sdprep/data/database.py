"""Opening the SQLite file of a catalog: whether it is one, whole, and how its file system lets it be written."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path

from sdprep.errors import CatalogFailed, DamagedCatalog, NewerCatalog

# A file of up to this many bytes is looked through whenever it is opened, which takes less than a tenth of a second.
LOOKED_THROUGH = 64_000_000


def open_database(file: Path | None, schema: str, version: int) -> tuple[sqlite3.Connection, bool]:
    """A connection to a catalog, made where there is none, and whether its write-ahead log had to be given up now.

    None as the file is one in memory. The log needs memory that processes share, which some network shares do not have;
    the older rollback journal does without. Raises NewerCatalog, DamagedCatalog, or CatalogFailed.
    """
    try:
        try:
            return _opened(file, schema, version, "WAL")
        except sqlite3.OperationalError:
            if file is None or not file.is_file():
                raise
            if not os.access(file.parent, os.W_OK):
                return _unchanging(file, schema, version), False
            _give_up_log(file)
            return _opened(file, schema, version, "DELETE")[0], True
    except sqlite3.OperationalError as error:
        raise CatalogFailed(f"{file} cannot be used: {error}") from error
    except sqlite3.DatabaseError as error:
        # SQLite says no more of a file that is none of its own, or is damaged, than the class that all others are of.
        if type(error) is not sqlite3.DatabaseError:
            raise
        raise DamagedCatalog(f"{file} is no catalog: {error}") from error


def _opened(file: Path | None, schema: str, version: int, mode: str) -> tuple[sqlite3.Connection, bool]:
    """A connection, and whether a new file was refused the log."""
    db = sqlite3.connect(str(file) if file else ":memory:", isolation_level=None)
    try:
        if _holds_catalog(db, file, schema, version):
            return db, False
        [got] = db.execute(f"PRAGMA journal_mode = {mode}").fetchone()
        db.executescript(f"BEGIN; {schema} PRAGMA user_version = {version}; COMMIT;")
    except BaseException:
        db.close()
        raise
    return db, file is not None and got.upper() != "WAL"


def _unchanging(file: Path, schema: str, version: int) -> sqlite3.Connection:
    """A connection to a catalog in a folder that is read-only, where no log can be had. Raises CatalogFailed."""
    log = file.with_name(f"{file.name}-wal")
    if log.exists() and log.stat().st_size > 0:
        raise CatalogFailed(
            f"{file} cannot be used: {file.parent} is read-only, and the last run there was broken off. "
            "Make the folder writable, or copy it to where it can be written"
        )
    db = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)
    try:
        _holds_catalog(db, file, schema, version)
    except BaseException:
        db.close()
        raise
    return db


def _holds_catalog(db: sqlite3.Connection, file: Path | None, schema: str, version: int) -> bool:
    """Whether a file holds a catalog, rather than nothing. Raises NewerCatalog, or DamagedCatalog for all else."""
    [found] = db.execute("PRAGMA user_version").fetchone()
    if found > version:
        raise NewerCatalog(f"{file} was written by a newer sdprep")
    held = _definitions(db)
    if found == 0 and not held:
        return False
    if found == 0 or held != _definitions_of(schema):
        raise DamagedCatalog(f"{file} is no catalog: it has other tables")
    if file is not None and file.stat().st_size <= LOOKED_THROUGH and (fault := _fault_in(db)) is not None:
        raise DamagedCatalog(f"{file} is damaged: {fault}")
    return True


def _definitions(db: sqlite3.Connection) -> set[tuple[str, ...]]:
    """All tables, indices, triggers and views but those that SQLite makes for itself."""
    rows = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT GLOB 'sqlite_*'")
    return {(*names, " ".join(str(sql).split())) for *names, sql in rows}


@cache
def _definitions_of(schema: str) -> set[tuple[str, ...]]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(schema)
        return _definitions(db)


def _fault_in(db: sqlite3.Connection) -> str | None:
    [found] = db.execute("PRAGMA quick_check(1)").fetchone()
    return None if found == "ok" else str(found).splitlines()[-1]


def fault_of(file: Path) -> str | None:
    """What is wrong inside a catalog of any size, texts that are no Unicode among it; None if nothing is."""
    try:
        with closing(sqlite3.connect(str(file))) as db:
            fault = _fault_in(db)
            tables = [] if fault else [name for kind, name, *_ in _definitions(db) if kind == "table"]
            for table in tables:
                for _ in db.execute(f'SELECT * FROM "{table}"'):
                    pass
            return fault
    except sqlite3.DatabaseError as error:
        return str(error)


def _give_up_log(file: Path) -> None:
    """Turn a catalog to the rollback journal; alone with the file, SQLite needs no shared memory for its log."""
    with closing(sqlite3.connect(str(file), isolation_level=None)) as db:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        [mode] = db.execute("PRAGMA journal_mode = DELETE").fetchone()
        if mode != "delete":
            raise sqlite3.OperationalError(f"its journal mode stays {mode}")
