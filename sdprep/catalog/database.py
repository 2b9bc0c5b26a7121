"""Open the SQLite file of a catalog, after checking what is at its path: no links, no foreign files, no damage.

SQLite trusts the files beside a database, and whoever made a folder of images may have put them there.
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

# A file of up to this many bytes is looked through whenever it is opened, which takes less than a tenth of a second.
LOOKED_THROUGH = 64_000_000
# A version that a command line may name.
VERSION = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6}){1,3}")
# Python cannot decode a message of SQLite's that quotes damaged bytes.
SQLITE_ERRORS = (sqlite3.Error, UnicodeDecodeError)
# SQLite's codes for what a disk, its rights, memory or another process is to blame for, and never the content:
# PERM, BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, FULL, CANTOPEN, PROTOCOL, NOLFS, AUTH.
# https://sqlite.org/rescode.html
OUTSIDE = frozenset({3, 5, 6, 7, 8, 9, 10, 13, 14, 15, 22, 23})
# How their messages begin, where Python does not tell the code (3.10).
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
# What a file system without shared memory, or a read-only one, makes of opening a write-ahead log: READONLY, CANTOPEN
# and PROTOCOL with all their extended codes, and of IOERR only SHMOPEN, SHMSIZE, SHMLOCK and SHMMAP.
NO_LOG = frozenset({8, 14, 15})
NO_SHARED_MEMORY = frozenset({4618, 4874, 5130, 5386})


@dataclass(frozen=True, slots=True)
class Opened:
    """A connection to a catalog.

    `rollback` says that its file system was found now not to bear a write-ahead log; `backup` is the copy of the
    catalog from before it was brought to this schema, if it was brought to it now.
    """

    db: sqlite3.Connection
    rollback: bool = False
    backup: Path | None = None


def open_database(file: Path | None, *, read_only: bool = False) -> Opened:
    """Open a catalog, made where there is none; without a file, in memory.

    One that is only read is never changed: an older schema is brought up to date in a temporary copy. The log needs
    memory that processes share, which some network shares do not have; the older rollback journal does without.

    Raises:
        NewerCatalog: it has a schema that this sdprep does not know.
        DamagedCatalog: it is not a catalog, or damaged; it was looked at twice.
        CatalogFailed: it cannot be read or written, which says nothing about its content.
    """
    try:
        return _tried(file, read_only)
    except DamagedCatalog:
        # A single read that went wrong looks like damage.
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
        raise DamagedCatalog(f"{file} is no catalog: {error}") from error


def is_outside(error: sqlite3.Error | UnicodeDecodeError) -> bool:
    """Whether an error is no fault of the catalog's content."""
    code = getattr(error, "sqlite_errorcode", None)
    return str(error).startswith(MESSAGES) if code is None else code & 0xFF in OUTSIDE


def _lacks_log(error: sqlite3.Error) -> bool:
    """Whether an error may come from a write-ahead log that does not work where the catalog lies."""
    code = getattr(error, "sqlite_errorcode", None)
    return is_outside(error) if code is None else code & 0xFF in NO_LOG or code in NO_SHARED_MEMORY


def _opened(file: Path | None, mode: str, read_only: bool) -> Opened:
    if file is not None and read_only and _has_log(file):
        # Any other connection moves the log that a killed run left into the catalog when it is closed.
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
    """A copy in memory, or in a nameless file if it is large; the catalog is closed."""
    copy = sqlite3.connect("", isolation_level=None)
    with closing(db):
        db.backup(copy)
    migrate(copy, None, schema)
    return copy


def _unchanging(file: Path) -> sqlite3.Connection:
    """A connection to a catalog in a folder that is read-only, where there can be no log. Raises CatalogFailed."""
    if _has_log(file):
        raise CatalogFailed(
            f"{file} cannot be used: {file.parent} is read-only, and the last run there was broken off. "
            "Make the folder writable, or copy it to where it can be written"
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
    """The schema of a catalog, 0 for an empty file. Raises NewerCatalog, or DamagedCatalog for all else."""
    [found] = db.execute("PRAGMA user_version").fetchone()
    held = _definitions(db)
    if found > len(STEPS):
        # A flipped bit in the number is damage, not a newer sdprep.
        if held in [_definitions_of(schema) for schema in range(1, len(STEPS) + 1)]:
            raise DamagedCatalog(f"{file} is damaged: it says schema {found}, and has the tables of an older one")
        # A view of that name could be read without end.
        is_known = any(each[1] == "runs" for each in held & _definitions_of(len(STEPS)))
        version = _newer_version(db) if is_known else None
        written, install = (f" {version}", f"'sdprep>={version}'") if version else ("", "--upgrade sdprep")
        raise NewerCatalog(
            f"{file} was written by a newer sdprep{written}. Update sdprep to use it: pip install {install} (the "
            f"catalog has schema {found}, this sdprep knows up to {len(STEPS)}; it was left as it is)"
        )
    if found == 0 and not held:
        return 0
    if found <= 0 or held != _definitions_of(found):
        raise DamagedCatalog(f"{file} is no catalog: it has other tables")
    if file is not None and file.stat().st_size <= LOOKED_THROUGH and (fault := damage_in(db, file, "quick_check")):
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
        # The tables of a newer schema may be any; then its number is all that is known.
        return None
    newest = max(filter(VERSION.fullmatch, found), key=_release, default=__version__)
    return newest if _release(newest) > _release(__version__) else None


def _release(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"[0-9]+", version)]


def _definitions(db: sqlite3.Connection) -> set[tuple[str, ...]]:
    """All tables, indices, triggers and views but those that SQLite makes for itself."""
    rows = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT GLOB 'sqlite_*'")
    return {(*names, " ".join(str(sql).split())) for *names, sql in rows}


@cache
def _definitions_of(schema: int) -> set[tuple[str, ...]]:
    with closing(sqlite3.connect(":memory:")) as db:
        for step in STEPS[:schema]:
            db.executescript(step)
        return _definitions(db)


def damage_in(db: sqlite3.Connection, file: Path, check: str) -> str | None:
    """What SQLite finds wrong in a file. Raises CatalogFailed if it could not read the file to the end."""
    [found] = db.execute(f"PRAGMA {check}(1)").fetchone()
    if found == "ok":
        return None
    fault = str(found).splitlines()[-1]
    # SQLite reports a read that failed in the same list as damage.
    code = re.search(r"error code[ =](\d+)", fault)
    if "failed to get page" in fault or (code and int(code[1]) & 0xFF in OUTSIDE):
        raise CatalogFailed(f"{file} cannot be read to its end: {fault}")
    return fault


def _give_up_log(file: Path) -> None:
    """Turn a catalog to the rollback journal; alone with the file, SQLite needs no shared memory for its log."""
    with closing(sqlite3.connect(str(file), isolation_level=None)) as db:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        [mode] = db.execute("PRAGMA journal_mode = DELETE").fetchone()
        if mode != "delete":
            raise CatalogFailed(f"{file} cannot be used: its journal mode stays {mode}")


# How a file of SQLite begins, and how the name of a super-journal ends, the last thing in a rollback journal.
# https://sqlite.org/fileformat2.html#the_rollback_journal
MAGIC = b"SQLite format 3\0"
SUPER_JOURNAL = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"
ENDINGS = (".sqlite", ".sqlite3", ".db")


def check_catalog_path(file: Path) -> None:
    """Raise CatalogError if a link, a pipe or a file of another kind is where a catalog or a file of it is to be.

    The path of a file that a person names must be resolved: a link of their own is then no link any more.
    """
    folder = file.parent
    if folder.name == FOLDER and folder.is_symlink():
        raise _refused(folder, "is a link")
    # SQLite itself follows no link at -shm, and does without that file then.
    for path in (file, *(file.with_name(file.name + suffix) for suffix in ("-wal", "-journal"))):
        if path.is_symlink():
            raise _refused(path, "is a link")
        if path.exists() and not path.is_file():
            raise _refused(path, "is no ordinary file")
    if folder.name != FOLDER and file.exists() and not _may_be_catalog(file):
        raise _refused(file, "is no catalog, and stays as it is")


def _may_be_catalog(file: Path) -> bool:
    """Whether a file is SQLite's, or an empty one whose name says so: a run that died may have left that."""
    with file.open("rb") as stream:
        head = stream.read(len(MAGIC))
    return head == MAGIC or (not head and file.suffix in ENDINGS)


def check_journal(file: Path) -> None:
    """Raise DamagedCatalog if the rollback journal of a catalog is one that no sdprep has left.

    SQLite deletes the file that a journal names as its super-journal. Only a change of several databases has one.
    """
    journal = file.with_name(file.name + "-journal")
    try:
        with journal.open("rb") as stream:
            found = os.fstat(stream.fileno())
            stream.seek(max(0, found.st_size - len(SUPER_JOURNAL)))
            end = stream.read()
    except FileNotFoundError:
        return
    # One file under both names would change while SQLite reads it, and could get another end.
    if end == SUPER_JOURNAL or (file.exists() and os.path.samestat(found, file.stat())):
        raise DamagedCatalog(f"{file} has a journal that is not its own: {journal.name} is about other files too")


def _refused(path: Path, fault: str) -> CatalogError:
    return CatalogError(f"{path} {fault}. Move it away, or give --catalog PATH for another place")
