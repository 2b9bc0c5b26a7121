"""Which catalog an image belongs to: the nearest one at or above its folder, else one made for the run.

A command that writes has its catalogs to itself: it takes the lock of each before it looks inside.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from sdprep.catalog.catalog import Catalog
from sdprep.catalog.damage import damage_of, set_aside
from sdprep.catalog.database import SQLITE_ERRORS, check_catalog_path, check_journal, is_outside
from sdprep.catalog.journal import look_at_open_changes, recover
from sdprep.catalog.lock import FolderLock
from sdprep.catalog.schema import FILE, FOLDER
from sdprep.errors import CatalogError, CatalogFailed, DamagedCatalog, ReadOnlyFolder, SdprepError
from sdprep.files import FORBIDDEN, real_path

LOST = (
    "Your text files are untouched. What is lost is undo, the stored results, and the knowledge of what sdprep wrote: "
    "texts that are there count as yours (--refresh takes those back that are sdprep's)"
)
AGAIN = "What was written so far is kept; run the command again to go on"
ADVICE = "Give --output-dir for images that must stay untouched, or --catalog for another place"
# What says that there is no file, or can be none of this name.
NOTHING_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP})
WOULD_ASIDE = "A run would put it aside and begin a new one"


class AccessMode(Enum):
    """What a command wants of catalogs.

    One that adds to them gets new ones where none can be used. One that changes what they tell needs those that are
    there. One that only reads, or rehearses, writes nothing and takes no lock, and so keeps nobody from work.
    """

    ADD = auto()
    CHANGE = auto()
    READ = auto()
    DRY_RUN = auto()

    @property
    def writes(self) -> bool:
        """Whether such a command writes to catalogs."""
        return self in (AccessMode.ADD, AccessMode.CHANGE)


@dataclass(frozen=True, slots=True)
class CatalogAccess:
    """Who opens catalogs, what for, and who hears what a user should know of them."""

    command: str
    purpose: AccessMode
    note: Callable[[str], None]


def find_catalog(folder: Path) -> Path | None:
    """The nearest catalog at or above a folder, not above the home folder nor on another file system.

    Raises CatalogFailed for a place that may have one and cannot be looked at.
    """
    while (found := _look_at(folder)) is None:
        folder = folder.parent
    above_home = _above_home()
    for place in (folder, *folder.parents):
        here = _look_at(place)
        if here is None or here.st_dev != found.st_dev or place in above_home:
            return None
        if _has_catalog(place):
            return place / FOLDER / FILE
    return None


def _above_home() -> frozenset[Path]:
    """The folders above the home folder; none where there is no home folder."""
    # Path.home() raises where nobody knows the user.
    home = Path(os.path.expanduser("~"))  # noqa: PTH111
    return frozenset(real_path(home).parents) if home.is_absolute() else frozenset()


def catalogs_below(folder: Path) -> Iterator[Path]:
    """Every catalog in a folder and its subfolders; links are not followed. Raises CatalogFailed as `find_catalog`."""
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        # A folder that cannot be entered or listed has nothing that a run could have been at work with.
        if not os.access(place, os.X_OK):
            continue
        if _has_catalog(place):
            yield place / FOLDER / FILE
        with suppress(OSError), os.scandir(place) as entries:
            found = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
            waiting += [place / name for name in sorted(found, reverse=True) if not name.startswith(".")]


def _has_catalog(place: Path) -> bool:
    found = _look_at(place / FOLDER / FILE)
    return found is not None and stat.S_ISREG(found.st_mode)


def _look_at(path: Path) -> os.stat_result | None:
    """What is at a path; None if nothing is or can be there. Raises CatalogFailed if that cannot be known."""
    try:
        return path.stat()
    except OSError as error:
        if error.errno in NOTHING_THERE:
            return None
        raise CatalogFailed(f"{path} cannot be looked at: {error.strerror}. {ADVICE}") from error


class CatalogSession:
    """The catalogs of one run, opened when the first image of each is met.

    `fixed` is the one catalog of the run (`--catalog`, or that of an output folder); without it, `home` is the folder
    that gets a catalog where an image has none at or above it. Unless the catalogs are `trusted`, what they tell of
    files outside of `home` and of their own folders is not acted on.
    """

    def __init__(self, home: Path, access: CatalogAccess, fixed: Path | None = None, *, trusted: bool = False) -> None:
        self._home, self._access, self._fixed, self._trusted = home, access, fixed, trusted
        self._open: dict[Path, Catalog] = {}
        self._by_folder: dict[Path, Catalog] = {}
        self._locks: list[FolderLock] = []
        self._refused: CatalogError | None = None

    def __enter__(self) -> CatalogSession:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        with ExitStack() as ends:
            for lock in self._locks:
                ends.callback(lock.release)
            fault = self._close(error)
            answer = fault
            if isinstance(fault, (*SQLITE_ERRORS, DamagedCatalog)) and fault is not self._refused:
                answer = self._answer(fault)
            if answer is not None and answer is not error:
                raise answer from fault

    def _close(self, error: BaseException | None) -> BaseException | None:
        """Close all catalogs; the error that ended the command, or else the first one of closing."""
        for catalog in self._open.values():
            try:
                # After an error nothing more is written, which would fail again and hide the first reason.
                catalog.db.close() if error else catalog.close()
            except (*SQLITE_ERRORS, SdprepError) as fault:
                error = error or fault
        return error

    def _answer(self, fault: BaseException) -> BaseException:
        """What to say of an error of a catalog; one that a second look finds damaged is put aside if that is allowed.

        Raises CatalogFailed if a catalog cannot be looked at.
        """
        if not (isinstance(fault, SQLITE_ERRORS) and is_outside(fault)):
            for file in [file for file, catalog in self._open.items() if catalog.file is not None]:
                if damage_of(file) is not None:
                    said = isinstance(fault, DamagedCatalog)
                    return self._answer_damage(file, str(fault) if said else f"{file} is damaged: {fault}")
        if isinstance(fault, UnicodeDecodeError):
            # Of something else: no catalog is damaged.
            return fault
        return CatalogFailed(f"the catalog of {self._home} cannot be used: {fault}. {AGAIN}")

    def _answer_damage(self, file: Path, error: str) -> CatalogError:
        if self._may_set_aside(file):
            self._set_aside(file, error)
            return CatalogFailed(f"{error}. {AGAIN}")
        advice = WOULD_ASIDE if self._access.purpose is AccessMode.DRY_RUN else f"Move it away. {LOST}"
        return DamagedCatalog(f"{error}. {advice}")

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
            try:
                check_catalog_path(file)
                if self._access.purpose.writes:
                    self._lock(file)
                catalog = self._open[file] = self._usable(file)
            except OSError as error:
                raise CatalogFailed(f"{file} cannot be used: {error.strerror}. {ADVICE}") from error
            self._tell_of(catalog)
            if self._access.purpose.writes:
                recover(catalog, None if self._trusted else self._home)
            elif self._access.purpose is AccessMode.READ:
                look_at_open_changes(catalog, None if self._trusted else self._home)
        return self._open[file]

    def _tell_of(self, catalog: Catalog) -> None:
        if catalog.rollback and catalog.file:
            self._access.note(
                f"{catalog.file.parent} bears no write-ahead log, as on some network shares: the catalog does without "
                "from now on, which is slower. --catalog PATH puts it on a local disk"
            )
        if catalog.backup is not None:
            self._access.note(
                f"{catalog.file} was written by an older sdprep and was brought up to date; a copy of what it was is "
                f"kept as {catalog.backup.name}"
            )

    def _lock(self, file: Path) -> None:
        """Take the lock of a catalog."""
        lock = FolderLock(file, self._access.command)
        try:
            if self._access.purpose is AccessMode.ADD:
                _make_folder(file.parent)
            dead = lock.acquire()
        except OSError as error:
            if error.errno in FORBIDDEN:
                raise ReadOnlyFolder(file.parent, error, ADVICE) from error
            raise CatalogFailed(f"{file.parent} cannot be written ({error.strerror}). {ADVICE}") from error
        self._locks.append(lock)
        if dead is not None:
            self._access.note(f"the last run here did not end by itself ({dead}); what it left half done is settled")
        if not lock.is_exclusive:
            self._access.note(
                f"{file.parent} is on a file system without locks: do not start another run there before this one has "
                "ended. --catalog PATH puts the catalog on a local disk"
            )

    def _usable(self, file: Path) -> Catalog:
        """The catalog of a file, or a new one in the place of one that is damaged."""
        root = file.parent.parent if file.parent.name == FOLDER else file.parent
        rehearsal, read_only = self._access.purpose is AccessMode.DRY_RUN, not self._access.purpose.writes
        try:
            check_journal(file)
            return Catalog(None if rehearsal and not file.exists() else file, root, rehearsal=read_only)
        except DamagedCatalog as error:
            if rehearsal:
                self._access.note(f"{error}. {WOULD_ASIDE}")
                return Catalog(None, root, rehearsal=True)
            if not self._may_set_aside(file):
                self._refused = DamagedCatalog(f"{error}. Move it away. {LOST}")
                raise self._refused from error
            self._set_aside(file, str(error))
            return Catalog(file, root)

    def _may_set_aside(self, file: Path) -> bool:
        """Whether a file that is no use as a catalog is one of sdprep's; what --catalog names may be anything."""
        return self._access.purpose is AccessMode.ADD and file.parent.name == FOLDER

    def _set_aside(self, file: Path, error: str) -> None:
        kept = set_aside(file)
        self._access.note(f"{error}. It is now called {kept}; a new one takes its place. {LOST}")


def _make_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    ignore = folder / ".gitignore"
    if folder.name == FOLDER and not ignore.exists():
        # Not through a link to a file that is not there yet.
        with suppress(FileExistsError), ignore.open("x", encoding="utf-8") as stream:
            stream.write("*\n")
