"""Catalogs that stay open between the actions of a long-lived command, each locked while an action writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from sdprep.catalog.catalog import Catalog
from sdprep.catalog.database import check_catalog_path
from sdprep.catalog.schema import FileStat, file_stat
from sdprep.catalog.session import CatalogAccess, CatalogSession

Stamps = tuple[FileStat | None, FileStat | None]


class KeptCatalogs(CatalogSession):
    """The catalogs of one thread, to be entered once for each action; between two actions nothing is locked.

    An action that ends in an error closes them, so that the next one opens them anew, with all checks.
    """

    _locked: frozenset[Path] = frozenset()
    _ready: frozenset[Path] = frozenset()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # What each catalog's file was when it was opened.
        self._stamps: dict[Path, Stamps] = {}

    def anew(self, access: CatalogAccess) -> CatalogSession:
        """The same catalogs for an action with this access; it waits for no lock, since it can be tried again."""
        self._access = replace(access, wait=0.0)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None:
            self._end(error)
            return
        for catalog in self:
            catalog.flush()
        for lock in self._locks:
            lock.release()
        self._begin_anew()

    def close(self) -> None:
        """Close all catalogs."""
        self._end(None)

    def at(self, file: Path) -> Catalog:
        """The catalog of a file, locked for this action if that writes. Raises as that of the base class."""
        known = self._open.get(file)
        if known is not None and file not in self._ready:
            if self._access.mode.writes:
                check_catalog_path(file)
                self._lock(file)
            if known.is_replaced or self._is_outdated(file, known):
                self._open.pop(file).db.close()
            else:
                self._resolve(known)
        if file not in self._open:
            self._stamps[file] = _stamps(file)
        found = super().at(file)
        self._ready |= {file}
        return found

    def _is_outdated(self, file: Path, catalog: Catalog) -> bool:
        """Whether a catalog in memory, of a file that was missing or of an older schema, is not what is there now."""
        [_, _, path] = catalog.db.execute("PRAGMA database_list").fetchone()
        return path == "" and _stamps(file) != self._stamps[file]

    def _lock(self, file: Path) -> None:
        if file not in self._locked:
            super()._lock(file)
            self._locked |= {file}

    def _end(self, error: BaseException | None) -> None:
        try:
            super().__exit__(None, error, None)
        finally:
            self._open = {}
            self._begin_anew()

    def _begin_anew(self) -> None:
        self._locks, self._made, self._by_folder = [], {}, {}
        self._locked = self._ready = frozenset()


def _stamps(file: Path) -> Stamps:
    """What a catalog and its write-ahead log are now: the schema of a new one may be in the log alone."""
    return _stamp(file), _stamp(file.with_name(f"{file.name}-wal"))


def _stamp(file: Path) -> FileStat | None:
    try:
        return file_stat(file.stat())
    except OSError:
        return None
