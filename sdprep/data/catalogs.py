"""Which catalog an image belongs to: the nearest one at or above its folder, else one made for the run.

A run has its catalogs to itself: it takes the lock of each before it looks inside.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from enum import Enum, auto
from itertools import count
from pathlib import Path

from sdprep.data.catalog import FILE, FOLDER, Catalog
from sdprep.data.database import fault_of
from sdprep.data.folder_lock import FolderLock
from sdprep.data.journal import recover
from sdprep.data.places import check_journal, check_place
from sdprep.errors import CatalogError, CatalogFailed, DamagedCatalog, FolderInUse, NewerCatalog, ReadOnlyFolder
from sdprep.files import FORBIDDEN, real_path

LOST = (
    "Your text files are untouched. What is lost is undo, the stored results, and the knowledge of what sdprep wrote: "
    "texts that are there count as yours (--refresh takes those back that are sdprep's)"
)
# How Python's sqlite3 begins where a text of a row is none.
NO_UNICODE = "Could not decode to UTF-8"
AGAIN = "What was written so far is kept; run the command again to go on"
ADVICE = "Give --output-dir for pictures that must stay untouched, or --catalog for another place"


class Purpose(Enum):
    """What a command wants of catalogs.

    One that adds to them gets new ones where none can be used. One that changes what they tell needs those that are
    there, as does one that only reads, which passes over the lock. A rehearsal makes and keeps nothing.
    """

    ADD = auto()
    CHANGE = auto()
    READ = auto()
    REHEARSE = auto()


@dataclass(frozen=True, slots=True)
class Access:
    """Who opens catalogs, what for, and who hears what a person should know of them."""

    command: str
    purpose: Purpose
    note: Callable[[str], None]


def find_catalog(folder: Path) -> Path | None:
    """The nearest catalog at or above a folder, not above the home folder nor on another file system."""
    while not folder.exists():
        folder = folder.parent
    device = folder.stat().st_dev
    home = real_path(Path.home())
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
    that gets a catalog where an image has none at or above it. Unless the catalogs are `trusted`, what they tell of
    files outside of `home` and of their own folders is not acted on.
    """

    def __init__(self, home: Path, access: Access, fixed: Path | None = None, *, trusted: bool = False) -> None:
        self._home, self._access, self._fixed, self._trusted = home, access, fixed, trusted
        self._open: dict[Path, Catalog] = {}
        self._by_folder: dict[Path, Catalog] = {}
        self._locks: list[FolderLock] = []

    def __enter__(self) -> Catalogs:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            with ExitStack() as ends:
                for lock in self._locks:
                    ends.callback(lock.release)
                if type(error) is sqlite3.DatabaseError or NO_UNICODE in str(error):
                    ends.callback(self._set_damaged_aside)
                if isinstance(error, DamagedCatalog):
                    ends.callback(self._end_for, error)
                for catalog in self._open.values():
                    # After a fault nothing more is written, which would fail again and hide the first reason.
                    ends.callback(catalog.close if error is None else catalog.db.close)
            if isinstance(error, sqlite3.Error):
                raise error
        except sqlite3.Error as fault:
            raise CatalogFailed(f"the catalog of {self._home} cannot be used: {fault}. {AGAIN}") from fault

    def __iter__(self) -> Iterator[Catalog]:
        return iter(list(self._open.values()))

    def of(self, folder: Path) -> Catalog:
        """The catalog of the images of a folder."""
        if folder not in self._by_folder:
            self._by_folder[folder] = self.at(self._fixed or find_catalog(folder) or self._home / FOLDER / FILE)
        return self._by_folder[folder]

    def at(self, file: Path) -> Catalog:
        """The catalog of a file, opened once; changes that a killed run left half done are settled first.

        Raises FolderInUse if another run is at work with it, and ReadOnlyFolder or CatalogError if it cannot be used.
        """
        if file not in self._open:
            purpose = self._access.purpose
            check_place(file)
            locked = purpose is not Purpose.REHEARSE and self._lock(file)
            self._open[file] = self._usable(file)
            if self._open[file].rollback:
                self._access.note(
                    f"{file.parent} bears no write-ahead log, as on some network shares: the catalog does without from "
                    "now on, which is slower. --catalog PATH puts it on a local disk"
                )
            if locked:
                recover(self._open[file], None if self._trusted else self._home)
            if locked and purpose is Purpose.READ:
                self._locks.pop().release()
        return self._open[file]

    def _lock(self, file: Path) -> bool:
        """Whether the catalog is this run's alone; one that only reads may go without."""
        lock = FolderLock(file, self._access.command)
        try:
            if self._access.purpose is Purpose.ADD:
                _make_folder(file.parent)
            dead = lock.acquire()
        except (OSError, FolderInUse) as error:
            if self._access.purpose is Purpose.READ:
                return False
            if isinstance(error, FolderInUse):
                raise
            if error.errno in FORBIDDEN:
                raise ReadOnlyFolder(file.parent, error, ADVICE) from error
            raise CatalogFailed(f"{file.parent} cannot be written ({error.strerror}). {ADVICE}") from error
        self._locks.append(lock)
        if dead is not None and self._access.purpose is not Purpose.READ:
            self._access.note(f"the last run here did not end by itself ({dead}); what it left half done is settled")
        return True

    def _usable(self, file: Path) -> Catalog:
        """The catalog of a file, or a new one in the place of one that cannot be used."""
        root = file.parent.parent if file.parent.name == FOLDER else file.parent
        rehearsal = self._access.purpose is Purpose.REHEARSE
        try:
            check_journal(file)
            return Catalog(None if rehearsal and not file.exists() else file, root, rehearsal=rehearsal)
        except (DamagedCatalog, NewerCatalog) as error:
            if rehearsal:
                self._access.note(f"{error}; a run would put it aside and begin a new one")
                return Catalog(None, root, rehearsal=True)
            if not self._may_set_aside(file):
                advice = "Update sdprep to use it" if isinstance(error, NewerCatalog) else f"Move it away. {LOST}"
                raise type(error)(f"{error}. {advice}") from error
            self._set_aside(file, error)
            return Catalog(file, root)

    def _may_set_aside(self, file: Path) -> bool:
        """Whether a file that is no use as a catalog is one of sdprep's; what --catalog names may be anything."""
        return self._access.purpose is Purpose.ADD and file.parent.name == FOLDER

    def _set_aside(self, file: Path, error: CatalogError) -> None:
        kind = "newer" if isinstance(error, NewerCatalog) else "broken"
        number = next(number for number in count(1) if not file.with_name(f"{file.name}.{kind}-{number}").exists())
        kept = f"{file.name}.{kind}-{number}"
        for suffix in ("-wal", "-shm", "-journal", ""):
            with suppress(FileNotFoundError):
                file.with_name(file.name + suffix).rename(file.with_name(kept + suffix))
        self._access.note(f"{error}. It is now called {kept}, and a new one was begun. {LOST}")

    def _end_for(self, error: DamagedCatalog) -> None:
        """Make room for the next run after a row that makes no sense, and say so."""
        for file in [file for file, catalog in self._open.items() if catalog.damage]:
            if self._may_set_aside(file):
                self._set_aside(file, error)
                raise CatalogFailed(f"{error}. {AGAIN}") from error
            rehearsal = self._access.purpose is Purpose.REHEARSE
            advice = "A run would put it aside and begin a new one" if rehearsal else f"Move it away. {LOST}"
            raise DamagedCatalog(f"{error}. {advice}") from error

    def _set_damaged_aside(self) -> None:
        """Make room for the next run after a fault that only the work with a catalog has shown."""
        for file, catalog in self._open.items():
            fault = None if catalog.file is None else fault_of(file)
            if fault and self._may_set_aside(file):
                self._set_aside(file, DamagedCatalog(f"{file} is damaged: {fault}"))


def _make_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    ignore = folder / ".gitignore"
    if folder.name == FOLDER and not ignore.exists():
        # Not through a link to a file that is not there yet.
        with suppress(FileExistsError), ignore.open("x", encoding="utf-8") as stream:
            stream.write("*\n")
