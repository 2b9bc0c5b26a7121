"""What may lie where a catalog is to lie, looked at before anything there is opened, made or locked.

SQLite believes the files beside a database. Whoever made a folder of pictures may have put them there, or links.
"""

from __future__ import annotations

import os
from pathlib import Path

from sdprep.data.catalog import FOLDER
from sdprep.errors import CatalogError, DamagedCatalog

# How a file of SQLite begins, and how the name of a super-journal ends, the last thing in a rollback journal.
# https://sqlite.org/fileformat2.html#the_rollback_journal
MAGIC = b"SQLite format 3\0"
SUPER_JOURNAL = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"
ENDINGS = (".sqlite", ".sqlite3", ".db")


def check_place(file: Path) -> None:
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
