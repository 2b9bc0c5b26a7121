"""The open file of a catalog: transactions, what its rows must hold, and whether it is still in its place."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from sdprep.catalog.database import open_database
from sdprep.catalog.schema import NO_SENSE
from sdprep.errors import CatalogFailed, DamagedCatalog


class CatalogFile:
    """An open catalog file; without a file, one in memory. In a rehearsal nothing is written.

    `rollback` says that its file system bears no write-ahead log, which was found out now; `backup` is the copy from
    before its schema was brought up to date, if that was done now.

    Raises:
        DamagedCatalog: it is not a catalog, or a row holds what sdprep never wrote.
        NewerCatalog: a newer sdprep wrote it.
        CatalogFailed: it cannot be read or written, or was deleted or replaced since it was opened.
    """

    def __init__(self, file: Path | None, *, rehearsal: bool = False) -> None:
        self.file, self.rehearsal = file, rehearsal
        opened = open_database(file, read_only=rehearsal)
        self.db, self.rollback, self.backup = opened.db, opened.rollback, opened.backup
        self._identity = self._identity_now()
        self._prepare()

    def _prepare(self) -> None:
        self.db.execute("PRAGMA synchronous = FULL")
        if self.rehearsal:
            self.db.execute("PRAGMA query_only = ON")

    def close(self) -> None:
        """End the connection."""
        self.db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All rows written inside are committed together, or none is; an inner one is part of the outer."""
        if self.db.in_transaction:
            yield
            return
        try:
            self.db.execute("BEGIN IMMEDIATE")
            self._write_noted()
            yield
            self.db.execute("COMMIT")
        except BaseException as error:
            self._forget_uncommitted()
            # A disk that is full may have ended it already.
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                # That the file is gone explains more than what SQLite makes of it.
                self.check_catalog_path()
            raise
        self.check_catalog_path()

    def _write_noted(self) -> None:
        """Write the rows that were noted for the next transaction."""

    def _forget_uncommitted(self) -> None:
        """Forget what was known of rows that were not committed."""

    def check_catalog_path(self) -> None:
        """Raise CatalogFailed if the file was deleted, moved or replaced: what is written to it then is lost."""
        if self._identity_now() != self._identity:
            raise CatalogFailed(
                f"{self.file} was deleted, moved or replaced while this command was at work with it. "
                "Texts that were written stay; run the command again to go on"
            )

    def _identity_now(self) -> tuple[int, int] | None:
        """What tells the file at the path of the catalog from any other; None if there is none."""
        if self.file is None:
            return None
        try:
            found = self.file.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    @contextlib.contextmanager
    def decoding(self, what: str) -> Iterator[None]:
        """Inside, content of rows is made sense of. Raises DamagedCatalog where it makes none."""
        try:
            yield
        except NO_SENSE as error:
            raise DamagedCatalog(f"{self.file} is damaged: {what} is not as sdprep wrote it") from error
