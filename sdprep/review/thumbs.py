"""Thumbnails that were made before: one file beside the catalog, of a bounded size; deleting it loses only time."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from sdprep.catalog.database import SQLITE_ERRORS, check_catalog_path, check_journal
from sdprep.catalog.schema import FileStat, file_stat
from sdprep.catalog.session import make_folder
from sdprep.errors import CatalogError
from sdprep.types import ImageItem

T = TypeVar("T")
FILE = "thumbs.sqlite"
# Bytes of all thumbnails; those of 60,000 images.
MOST_BYTES = 450_000_000
# The share that goes when there are more, the oldest first.
PRUNED = 0.2
TABLE = (
    "CREATE TABLE thumbs (id INTEGER PRIMARY KEY, key BLOB UNIQUE NOT NULL, size INTEGER NOT NULL, "
    "mtime_ns INTEGER NOT NULL, data BLOB NOT NULL)"
)


class Thumbs:
    """The thumbnails of the images below `root`, in a file in `folder`; all calls come from one thread.

    Without a file, as in a folder that cannot be written, nothing is kept, and `note` gets the reason.
    """

    def __init__(self, folder: Path, root: Path, note: Callable[[str], None], most_bytes: int = MOST_BYTES) -> None:
        self._file, self._root, self._note, self._most = folder / FILE, f"{root}{os.sep}", note, most_bytes
        self._db: sqlite3.Connection | None = None
        self._is_open = False
        self._bytes = 0

    def find(self, item: ImageItem) -> bytes | None:
        """The thumbnail of an image as it is now, or None."""
        stamp, db = _stamp(item), self._opened()
        if db is None or stamp is None:
            return None
        select = "SELECT data FROM thumbs WHERE key = ? AND size = ? AND mtime_ns = ?"
        row = self._tried(lambda: db.execute(select, (self._key(item), *stamp)).fetchone())
        return row[0] if row is not None and isinstance(row[0], bytes) else None

    def keep(self, item: ImageItem, data: bytes) -> None:
        """Keep the thumbnail of an image."""
        stamp, db = _stamp(item), self._opened()
        if db is None or stamp is None:
            return
        row = self._key(item), *stamp, data
        insert = "INSERT OR REPLACE INTO thumbs (key, size, mtime_ns, data) VALUES (?, ?, ?, ?)"
        self._tried(lambda: self._insert(db, insert, row, len(data)))

    def _insert(self, db: sqlite3.Connection, insert: str, row: tuple[object, ...], length: int) -> None:
        db.execute(insert, row)
        self._bytes += length
        if self._bytes > self._most:
            self._prune(db)

    def close(self) -> None:
        """Close the file."""
        if self._db is not None:
            self._db.close()
        self._db = None

    def _key(self, item: ImageItem) -> bytes:
        return os.fsencode(str(item.path).removeprefix(self._root))

    def _opened(self) -> sqlite3.Connection | None:
        if not self._is_open:
            self._is_open = True
            try:
                make_folder(self._file.parent)
                check_catalog_path(self._file)
                check_journal(self._file)
                self._db = self._connected()
            except (OSError, CatalogError, *SQLITE_ERRORS) as error:
                self._note(f"thumbnails are not kept for the next time: {error}")
        return self._db

    def _connected(self) -> sqlite3.Connection:
        for is_new in (False, True):
            if is_new:
                self._remove()
            db = sqlite3.connect(self._file, isolation_level=None)
            try:
                if self._prepare(db):
                    return db
            except sqlite3.DatabaseError:
                if is_new:
                    db.close()
                    raise
            db.close()
        raise CatalogError(f"{self._file} cannot be replaced")

    def _prepare(self, db: sqlite3.Connection) -> bool:
        """Whether the file is one of thumbnails; an empty one becomes that."""
        found = [sql for [sql] in db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")]
        if found not in ([], [TABLE]):
            return False
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = OFF")
        if not found:
            db.execute(TABLE)
        [self._bytes] = db.execute("SELECT coalesce(sum(length(data)), 0) FROM thumbs").fetchone()
        if self._bytes > self._most:
            self._prune(db)
        return True

    def _prune(self, db: sqlite3.Connection) -> None:
        left = int(self._most * (1 - PRUNED))
        rows = db.execute("SELECT id, length(data) FROM thumbs ORDER BY id DESC")
        total, last = 0, 0
        for number, length in rows:
            total += length
            if total > left:
                last = number
                break
        db.execute("DELETE FROM thumbs WHERE id <= ?", (last,))
        [self._bytes] = db.execute("SELECT coalesce(sum(length(data)), 0) FROM thumbs").fetchone()

    def _remove(self) -> None:
        for end in ("", "-wal", "-shm", "-journal"):
            self._file.with_name(f"{FILE}{end}").unlink(missing_ok=True)

    def _tried(self, query: Callable[[], T]) -> T | None:
        """The result of a query; a file that fails is given up for this session."""
        try:
            return query()
        except SQLITE_ERRORS as error:
            self._note(f"thumbnails are not kept any more: {error}")
            self.close()
            return None


def _stamp(item: ImageItem) -> FileStat | None:
    with suppress(OSError):
        return file_stat(os.stat(item.path))  # noqa: PTH116 - as in the catalog
    return None
