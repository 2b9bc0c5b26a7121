"""Which catalog an image belongs to: the nearest one at or above its folder, else one made for the run."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from sdprep.data.catalog import FILE, FOLDER, Catalog
from sdprep.data.journal import recover
from sdprep.errors import CatalogError


def find_catalog(folder: Path) -> Path | None:
    """The nearest catalog at or above a folder, not above the home folder nor on another file system."""
    while not folder.exists():
        folder = folder.parent
    device = folder.stat().st_dev
    home = Path.home().resolve()
    for place in (folder, *folder.parents):
        if place.stat().st_dev != device or place in home.parents:
            return None
        if (place / FOLDER / FILE).is_file():
            return place / FOLDER / FILE
    return None


def catalogs_below(folder: Path) -> Iterator[Path]:
    """Every catalog in a folder and its subfolders; links are not followed."""
    for place, names, _ in os.walk(folder):
        if (Path(place) / FOLDER / FILE).is_file():
            yield Path(place) / FOLDER / FILE
        names[:] = sorted(name for name in names if not name.startswith("."))


class Catalogs:
    """The catalogs of one run, opened when the first image of each is met.

    `fixed` is the one catalog of the run (`--catalog`, or that of an output folder); without it, `home` is the folder
    that gets a catalog where an image has none at or above it. In a rehearsal nothing is created or kept.
    """

    def __init__(self, home: Path, fixed: Path | None = None, *, rehearsal: bool = False) -> None:
        self._home, self._fixed, self._rehearsal = home, fixed, rehearsal
        self._open: dict[Path, Catalog] = {}
        self._by_folder: dict[Path, Catalog] = {}

    def __enter__(self) -> Catalogs:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        for catalog in self._open.values():
            catalog.close()
        if isinstance(error, sqlite3.Error):
            raise CatalogError(f"the catalog of {self._home} cannot be used: {error}") from error

    def __iter__(self) -> Iterator[Catalog]:
        return iter(list(self._open.values()))

    def of(self, folder: Path) -> Catalog:
        """The catalog of the images of a folder."""
        if folder not in self._by_folder:
            self._by_folder[folder] = self.at(self._fixed or find_catalog(folder) or self._home / FOLDER / FILE)
        return self._by_folder[folder]

    def at(self, file: Path) -> Catalog:
        """The catalog of a file, opened once; changes that a killed run left half done are settled first."""
        if file not in self._open:
            root = file.parent.parent if file.parent.name == FOLDER else file.parent
            if not self._rehearsal:
                _make_folder(file.parent)
            kept = None if self._rehearsal and not file.exists() else file
            self._open[file] = Catalog(kept, root, rehearsal=self._rehearsal)
            recover(self._open[file])
        return self._open[file]


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if folder.name == FOLDER and not (folder / ".gitignore").exists():
            (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise CatalogError(
            f"{folder} cannot be written ({error.strerror}). Give --output-dir for pictures that must stay untouched, "
            "or --catalog for another place"
        ) from error
