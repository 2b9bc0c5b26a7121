"""Open the SQLite file of a catalog, after checking what is at its path: no links, no foreign files, no damage.

SQLite trusts the files beside a database, but a folder of images may have come with files that an attacker made.
"""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sdprep import __version__
from sdprep.catalog.migrations import migrate
from sdprep.catalog.schema import FOLDER, NO_SENSE, STEPS, as_table, as_text
from sdprep.errors import CatalogError, CatalogFailed, DamagedCatalog, NewerCatalog
from sdprep.installation import here

# A file of up to this many bytes is checked whenever it is opened, which takes less than 0.1 s.
CHECKED_BYTES = 64_000_000
# A version that a suggested command may contain.
VERSION = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6}){1,3}")
# Python cannot decode an SQLite message that quotes damaged bytes.
SQLITE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
# SQLite's codes for errors of the disk, permissions, memory or another process, never of the content:
# PERM, BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, FULL, CANTOPEN, PROTOCOL, NOLFS, AUTH.
# https://sqlite.org/rescode.html
OUTSIDE = frozenset({3, 5, 6, 7, 8, 9, 10, 13, 14, 15, 22, 23})
# How their messages begin, for Python 3.10, which does not expose the code.
MESSAGES = (
    "access permission denied",
    "attempt to write a readonly database",
    "authorization denied",
    "database is locked",
    "database or disk is full",
    "database schema is locked",
    "database table is locked",
    "disk I/O error",
    "interrupted",
    "large file support is disabled",
    "locking protocol",
    "out of memory",
    "unable to open database file",
)
# The errors of opening a write-ahead log on a read-only file system or one without shared memory: READONLY, CANTOPEN
# and PROTOCOL with all their extended codes, and of IOERR only SHMOPEN, SHMSIZE, SHMLOCK and SHMMAP.
NO_LOG = frozenset({8, 14, 15})
NO_SHARED_MEMORY = frozenset({4618, 4874, 5130, 5386})


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection to a catalog.

    `rollback` says that its file system was just found to have no write-ahead log; `backup` is the copy that was kept
    before its schema was migrated, if that was done now.
    """

    db: sqlite3.Connection
    rollback: bool = False
    backup: Path | None = None


def open_database(file: Path | None, *, read_only: bool = False) -> Opened:
    """Open a catalog, or create it; without a file, in memory.

    With `read_only` the file is never changed: an older schema is migrated in a temporary copy. The write-ahead log
    needs shared memory, which some network shares do not have; there the catalog uses a rollback journal.

    Raises:
        NewerCatalog: it has a schema that this sdprep does not know.
        DamagedCatalog: it is not a catalog, or damaged, which a second try confirmed.
        CatalogFailed: it cannot be read or written, which says nothing about its content.
    """
    try:
        return _tried(file, read_only)
    except DamagedCatalog:
        # A single failed read looks like damage.
        return _tried(file, read_only)


def _tried(file: Path | None, read_only: bool) -> Opened:
    try:
        try:
            return _opened(file, "WAL", read_only)
        except sqlite3.OperationalError as error:
            if file is None or not file.is_file() or not _lacks_log(error):
                raise
            if read_only or not os.access(file.parent, os.W_OK):
                return Opened(_unchanging(file))
            _give_up_log(file)
            opened = _opened(file, "DELETE", read_only)
            return Opened(opened.db, True, opened.backup)
    except OSError as error:
        raise CatalogFailed(f"{file} cannot be used: {error.strerror}") from error
    except SQLITE_ERRORS as error:
        if is_outside(error):
            raise CatalogFailed(f"{file} cannot be used: {error}") from error
        raise DamagedCatalog(f"{file} is not a catalog: {error}") from error


def is_outside(error: sqlite3.Error | UnicodeDecodeError) -> bool:
    """Whether an error has a cause other than the catalog's content."""
    code = getattr(error, "sqlite_errorcode", None)
    return str(error).startswith(MESSAGES) if code is None else code & 0xFF in OUTSIDE


def _lacks_log(error: sqlite3.Error) -> bool:
    """Whether an error may mean that the catalog's file system does not support a write-ahead log."""
    code = getattr(error, "sqlite_errorcode", None)
    return is_outside(error) if code is None else code & 0xFF in NO_LOG or code in NO_SHARED_MEMORY


def _opened(file: Path | None, mode: str, read_only: bool) -> Opened:
    if file is not None and read_only and _has_log(file):
        # When any other connection is closed, it merges the log of a killed run into the catalog.
        db = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    else:
        db = sqlite3.connect(str(file) if file else ":memory:", isolation_level=None)
    try:
        schema = _schema_of(db, file)
        if schema == len(STEPS):
            return Opened(db)
        if read_only:
            return Opened(_up_to_date_copy(db, schema))
        rollback = False
        if schema == 0:
            [got] = db.execute(f"PRAGMA journal_mode = {mode}").fetchone()
            rollback = file is not None and got.upper() != "WAL"
        return Opened(db, rollback, migrate(db, file, schema))
    except BaseException:
        db.close()
        raise


def _up_to_date_copy(db: sqlite3.Connection, schema: int) -> sqlite3.Connection:
    """A migrated copy in memory, or in an unnamed file if it is large; the catalog is closed."""
    copy = sqlite3.connect("", isolation_level=None)
    with closing(db):
        db.backup(copy)
    migrate(copy, None, schema)
    return copy


def _unchanging(file: Path) -> sqlite3.Connection:
    """A connection to a catalog in a read-only folder, where no log can be made. Raises CatalogFailed."""
    if _has_log(file):
        raise CatalogFailed(
            f"{file} cannot be used: {file.parent} is read-only, and the last run there did not finish. "
            "Make the folder writable, or copy it to a writable location"
        )
    db = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)
    try:
        schema = _schema_of(db, file)
        return db if schema == len(STEPS) else _up_to_date_copy(db, schema)
    except BaseException:
        db.close()
        raise


def _has_log(file: Path) -> bool:
    log = file.with_name(f"{file.name}-wal")
    return log.exists() and log.stat().st_size > 0


def _schema_of(db: sqlite3.Connection, file: Path | None) -> int:
    """The schema of a catalog, 0 for an empty file. Raises NewerCatalog, or DamagedCatalog if it is not a catalog."""
    [found] = db.execute("PRAGMA user_version").fetchone()
    held = _definitions(db)
    if found > len(STEPS):
        # A flipped bit in the number is damage, not a newer sdprep.
        if held in [_definitions_of(schema) for schema in range(1, len(STEPS) + 1)]:
            raise DamagedCatalog(f"{file} is damaged: it has schema number {found}, but the tables of an older schema")
        # A view of this name could return rows without end.
        is_known = any(each[1] == "runs" for each in held & _definitions_of(len(STEPS)))
        version = _newer_version(db) if is_known else None
        written = f" {version}" if version else ""
        raise NewerCatalog(
            f"{file} was written by a newer sdprep{written}. Update sdprep to use it: {here().update(version)} (the "
            f"catalog has schema {found}, this sdprep knows up to {len(STEPS)}; it was not changed)"
        )
    if found == 0 and not held:
        return 0
    if found <= 0 or held != _definitions_of(found):
        raise DamagedCatalog(f"{file} is not a catalog: it has other tables")
    if file is not None and file.stat().st_size <= CHECKED_BYTES and (fault := damage_in(db, file, "quick_check")):
        raise DamagedCatalog(f"{file} is damaged: {fault}")
    return int(found)


def _newer_version(db: sqlite3.Connection) -> str | None:
    """The newest version among the last runs of a catalog, if they can be read and it is newer than this sdprep."""
    try:
        rows = db.execute(
            "SELECT versions FROM runs WHERE length(versions) < 10000 ORDER BY id DESC LIMIT 100"
        ).fetchall()
        found = [as_text(as_table(versions)["sdprep"]) for [versions] in rows]
    except (*SQLITE_ERRORS, *NO_SENSE):
        # A newer schema may have any tables; then only its number is known.
        return None
    newest = max(filter(VERSION.fullmatch, found), key=_release, default=__version__)
    return newest if _release(newest) > _release(__version__) else None


def _release(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"[0-9]+", version)]


def _definitions(db: sqlite3.Connection) -> set[tuple[str, ...]]:
    """All tables, indices, triggers and views except SQLite's own."""
    rows = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT GLOB 'sqlite_*'")
    return {(*names, " ".join(str(sql).split())) for *names, sql in rows}


@cache
def _definitions_of(schema: int) -> set[tuple[str, ...]]:
    with closing(sqlite3.connect(":memory:")) as db:
        for step in STEPS[:schema]:
            db.executescript(step)
        return _definitions(db)


def damage_in(db: sqlite3.Connection, file: Path, check: str) -> str | None:
    """What SQLite finds wrong in a file, or None. Raises CatalogFailed if it could not read all of the file."""
    [found] = db.execute(f"PRAGMA {check}(1)").fetchone()
    if found == "ok":
        return None
    fault = str(found).splitlines()[-1]
    # SQLite reports a read that failed in the same list as damage.
    code = re.search(r"error code[ =](\d+)", fault)
    if "failed to get page" in fault or (code and int(code[1]) & 0xFF in OUTSIDE):
        raise CatalogFailed(f"{file} cannot be read completely: {fault}")
    return fault


def _give_up_log(file: Path) -> None:
    """Switch a catalog to the rollback journal; in exclusive mode SQLite needs no shared memory to read its log."""
    with closing(sqlite3.connect(str(file), isolation_level=None)) as db:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        [mode] = db.execute("PRAGMA journal_mode = DELETE").fetchone()
        if mode != "delete":
            raise CatalogFailed(f"{file} cannot be used: its journal mode cannot be changed from {mode}")


# How an SQLite file begins, and how a rollback journal ends that names a super-journal.
# https://sqlite.org/fileformat2.html#the_rollback_journal
MAGIC = b"SQLite format 3\0"
SUPER_JOURNAL = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"
ENDINGS = (".sqlite", ".sqlite3", ".db")


def check_catalog_path(file: Path) -> None:
    """Raise CatalogError if a link, a pipe or a foreign file is at the path of a catalog or SQLite's files beside it.

    A path that the user gave must be resolved before: the user's own links are allowed.
    """
    folder = file.parent
    if folder.name == FOLDER and folder.is_symlink():
        raise _unusable(folder, "is a link")
    # SQLite itself does not follow a link at -shm, and works without that file.
    for path in (file, *(file.with_name(file.name + suffix) for suffix in ("-wal", "-journal"))):
        if path.is_symlink():
            raise _unusable(path, "is a link")
        if path.exists() and not path.is_file():
            raise _unusable(path, "is not a regular file")
    if folder.name != FOLDER and file.exists() and not _may_be_catalog(file):
        raise _unusable(file, "is not a catalog, and was not changed")


def _may_be_catalog(file: Path) -> bool:
    """Whether a file is SQLite's, or an empty one with its extension, which a killed run may have left."""
    with file.open("rb") as stream:
        head = stream.read(len(MAGIC))
    return head == MAGIC or (not head and file.suffix in ENDINGS)


def check_journal(file: Path) -> None:
    """Raise DamagedCatalog if the rollback journal beside a catalog was not left by sdprep.

    SQLite deletes the file that a journal names as its super-journal; only transactions over several databases have
    one.
    """
    journal = file.with_name(file.name + "-journal")
    try:
        with journal.open("rb") as stream:
            found = os.fstat(stream.fileno())
            stream.seek(max(0, found.st_size - len(SUPER_JOURNAL)))
            end = stream.read()
    except FileNotFoundError:
        return
    # If both names are one file, it changes while SQLite reads it, and could end differently then.
    if end == SUPER_JOURNAL or (file.exists() and os.path.samestat(found, file.stat())):
        raise DamagedCatalog(f"{file} has a journal that is not its own: {journal.name} refers to other files")


def _unusable(path: Path, fault: str) -> CatalogError:
    return CatalogError(f"{path} {fault}. Move it away, or use --catalog PATH for another location")
