"""Which catalog an image belongs to: the nearest one at or above its folder, or a new one in the folder of the run.

A command that writes takes the lock of each catalog before it opens it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from sdprep.catalog.catalog import Catalog
from sdprep.catalog.damage import is_damaged, move_aside
from sdprep.catalog.database import SQLITE_ERRORS, check_catalog_path, check_journal, is_outside
from sdprep.catalog.journal import infer_outcomes, recover
from sdprep.catalog.lock import WAIT, FolderLock
from sdprep.catalog.schema import FILE, FOLDER
from sdprep.errors import CatalogError, CatalogFailed, DamagedCatalog, ReadOnlyFolder, SdprepError
from sdprep.files import FORBIDDEN, real_path

LOST = (
    "Your sidecar files are unchanged. Undo, the stored results and the record of what sdprep wrote are lost: existing "
    "sidecars now count as yours (--refresh recognizes those that sdprep wrote)"
)
RUN_AGAIN = "What was written so far is kept; run the command again to continue"
ADVICE = "Use --output-dir for images in a read-only folder, or --catalog for another location"
# The errors for a path without a file, or one that no file can have.
NOTHING_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP})
# The tables with what a run has stored or done.
REMEMBERED = ("results", "failures", "states", "journal", "marks")
# What a new catalog leaves in its folder when it is removed.
LEFT_BEHIND = frozenset({".gitignore", f"{FILE}.lock"})
WOULD_REPLACE = "A run would move it aside and create a new one"


class AccessMode(Enum):
    """How a command uses catalogs.

    ADD creates a catalog where there is none, or a damaged one. CHANGE needs existing catalogs. READ and DRY_RUN write
    nothing and take no lock, so that other runs can work.
    """

    ADD = auto()
    CHANGE = auto()
    READ = auto()
    DRY_RUN = auto()

    @property
    def writes(self) -> bool:
        """Whether the command writes to catalogs."""
        return self in (AccessMode.ADD, AccessMode.CHANGE)


@dataclass(frozen=True, slots=True)
class CatalogAccess:
    """The command that opens catalogs, its mode, what it does with notes for the user, and how long it waits for locks.

    `wait` is in seconds.
    """

    command: str
    mode: AccessMode
    note: Callable[[str], None]
    wait: float = WAIT


def find_catalog(folder: Path) -> Path | None:
    """The nearest catalog at or above a folder, but not above the home folder or on another file system.

    Raises CatalogFailed for a folder that cannot be searched.
    """
    while (found := _stat(folder)) is None:
        folder = folder.parent
    above_home = _above_home()
    for above in (folder, *folder.parents):
        here = _stat(above)
        if here is None or here.st_dev != found.st_dev or above in above_home:
            return None
        if _has_catalog(above):
            return above / FOLDER / FILE
    return None


def _above_home() -> frozenset[Path]:
    """The folders above the home folder; empty without a home folder."""
    # Path.home() raises for an unknown user.
    home = Path(os.path.expanduser("~"))  # noqa: PTH111
    return frozenset(real_path(home).parents) if home.is_absolute() else frozenset()


def catalogs_below(folder: Path) -> Iterator[Path]:
    """Every catalog in a folder and its subfolders; links are not followed. Raises CatalogFailed as `find_catalog`."""
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        # No run can have written in a folder that cannot be entered or listed.
        if not os.access(current, os.X_OK):
            continue
        if _has_catalog(current):
            yield current / FOLDER / FILE
        with suppress(OSError), os.scandir(current) as entries:
            found = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
            waiting += [current / name for name in sorted(found, reverse=True) if not name.startswith(".")]


def _has_catalog(folder: Path) -> bool:
    found = _stat(folder / FOLDER / FILE)
    return found is not None and stat.S_ISREG(found.st_mode)


def _stat(path: Path) -> os.stat_result | None:
    """The status of a path, or None if nothing is there. Raises CatalogFailed if it cannot be read."""
    try:
        return path.stat()
    except OSError as error:
        if error.errno in NOTHING_THERE:
            return None
        raise CatalogFailed(f"{path} cannot be accessed: {error.strerror}. {ADVICE}") from error


class CatalogSession:
    """The catalogs of one run, each opened with its first image.

    `fixed` is the only catalog of the run (`--catalog`, or that of an output folder); without it, `homes` are folders,
    of which the highest one above an image gets a catalog if the image has none at or above it; their number may grow
    during the run. Unless the catalogs
    are `trusted`, their entries for files outside `homes` and outside their own folders are ignored.
    """

    def __init__(
        self, homes: Collection[Path], access: CatalogAccess, fixed: Path | None = None, *, trusted: bool = False
    ) -> None:
        self._homes, self._access, self._fixed, self._trusted = homes, access, fixed, trusted
        self._open: dict[Path, Catalog] = {}
        self._by_folder: dict[Path, Catalog] = {}
        self._locks: list[FolderLock] = []
        # The folders that this run made for each new catalog, by its file, the innermost first; none if they existed.
        self._made: dict[Path, list[Path]] = {}
        self._reported: CatalogError | None = None

    def anew(self, access: CatalogAccess) -> CatalogSession:
        """The catalogs of the same images for another access."""
        return CatalogSession(self._homes, access, self._fixed, trusted=self._trusted)

    def __enter__(self) -> CatalogSession:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        with ExitStack() as ends:
            unused = self._unused() if error else {}
            cause = self._close(error)
            for file, folders in unused.items():
                # Called in reverse order: the folders go when the lock in them is released.
                ends.callback(_remove_folders, folders)
                _remove_files(file)
            for lock in self._locks:
                ends.callback(lock.release)
            raised = cause
            if isinstance(cause, (*SQLITE_ERRORS, DamagedCatalog)) and cause is not self._reported:
                raised = self._explain(cause)
            if raised is not None and raised is not error:
                raise raised from cause

    def _unused(self) -> dict[Path, list[Path]]:
        """The folders of new catalogs in which nothing was stored: a run that failed at its start leaves none of them.

        A catalog whose lock is not exclusive stays, since another run may have opened it meanwhile.
        """
        exclusive = {lock.path.parent for lock in self._locks if lock.is_exclusive}
        found = {}
        for file, folders in self._made.items():
            catalog = self._open.get(file)
            with suppress(*SQLITE_ERRORS):
                # A catalog in a folder that was there before is not this run's to remove.
                if folders and file.parent in exclusive and (catalog is None or _is_empty(catalog)):
                    found[file] = folders
        return found

    def _close(self, error: BaseException | None) -> BaseException | None:
        """Close all catalogs; return the error that ended the command, or else the first error of closing."""
        for catalog in self._open.values():
            try:
                # After an error nothing more is written: it would fail again and hide the first cause.
                catalog.db.close() if error else catalog.close()
            except (*SQLITE_ERRORS, SdprepError) as closing_error:
                error = error or closing_error
        return error

    def _explain(self, cause: BaseException) -> BaseException:
        """The error to raise for an error of a catalog; one that is found damaged is moved aside if that is allowed.

        Raises CatalogFailed if a catalog cannot be read.
        """
        if not (isinstance(cause, SQLITE_ERRORS) and is_outside(cause)):
            for file in [file for file, catalog in self._open.items() if catalog.file is not None]:
                if is_damaged(file):
                    is_explained = isinstance(cause, DamagedCatalog)
                    return self._damaged(file, str(cause) if is_explained else f"{file} is damaged: {cause}")
        if isinstance(cause, UnicodeDecodeError):
            # It is not about a catalog: none is damaged.
            return cause
        return CatalogFailed(f"the catalog of {next(iter(self._homes))} cannot be used: {cause}. {RUN_AGAIN}")

    def _damaged(self, file: Path, error: str) -> CatalogError:
        if self._may_move_aside(file):
            self._move_aside(file, error)
            return CatalogFailed(f"{error}. {RUN_AGAIN}")
        advice = WOULD_REPLACE if self._access.mode is AccessMode.DRY_RUN else f"Move it away. {LOST}"
        return DamagedCatalog(f"{error}. {advice}")

    def __iter__(self) -> Iterator[Catalog]:
        return iter(list(self._open.values()))

    def of(self, folder: Path) -> Catalog:
        """The catalog of the images of a folder."""
        if folder not in self._by_folder:
            self._by_folder[folder] = self.at(self._fixed or find_catalog(folder) or self._home(folder) / FOLDER / FILE)
        return self._by_folder[folder]

    def _home(self, folder: Path) -> Path:
        """The folder that gets a new catalog for the images of a folder."""
        above = (each for each in (*reversed(folder.parents), folder) if each in self._homes)
        return next(above, next(iter(self._homes)))

    def at(self, file: Path) -> Catalog:
        """The catalog of a file, opened once; unfinished changes of a killed run are resolved first.

        Raises FolderInUse if another run is using it, and ReadOnlyFolder or CatalogError if it cannot be used.
        """
        if file not in self._open:
            try:
                check_catalog_path(file)
                if self._access.mode.writes:
                    self._lock(file)
                catalog = self._open[file] = self._usable(file)
            except OSError as error:
                raise CatalogFailed(f"{file} cannot be used: {error.strerror}. {ADVICE}") from error
            self._note_changes(catalog)
            self._resolve(catalog)
        return self._open[file]

    def _resolve(self, catalog: Catalog) -> None:
        """Resolve the unfinished changes of killed runs, or only infer their outcome if nothing may be written."""
        for home in [None] if self._trusted else self._homes:
            if self._access.mode.writes:
                recover(catalog, home)
            elif self._access.mode is AccessMode.READ:
                infer_outcomes(catalog, home)

    def _note_changes(self, catalog: Catalog) -> None:
        if catalog.rollback and catalog.file:
            self._access.note(
                f"{catalog.file.parent} does not support a write-ahead log, as on some network shares: the catalog "
                "uses a rollback journal from now on, which is slower. --catalog PATH puts it on a local disk"
            )
        if catalog.backup is not None:
            self._access.note(
                f"{catalog.file} was written by an older sdprep and has been migrated; a copy of the old file is kept "
                f"as {catalog.backup.name}"
            )

    def _lock(self, file: Path) -> None:
        lock = FolderLock(file, self._access.command)
        try:
            folders = make_folder(file.parent) if self._access.mode is AccessMode.ADD else []
            dead = lock.acquire(self._access.wait)
            # Looked for with the lock held: a file that was there before is never removed, whatever it is.
            if self._access.mode is AccessMode.ADD and not any(os.path.lexists(path) for path in _files(file)):
                self._made[file] = folders
        except OSError as error:
            if error.errno in FORBIDDEN:
                raise ReadOnlyFolder(file.parent, error, ADVICE) from error
            raise CatalogFailed(f"{file.parent} cannot be written ({error.strerror}). {ADVICE}") from error
        self._locks.append(lock)
        if dead is not None:
            self._access.note(f"the last run here was killed ({dead}); its unfinished changes have been resolved")
        if not lock.is_exclusive:
            self._access.note(
                f"{file.parent} is on a file system without locks: do not start another run there before this one has "
                "ended. --catalog PATH puts the catalog on a local disk"
            )

    def _usable(self, file: Path) -> Catalog:
        """The catalog of a file, or a new one if it is damaged."""
        root = file.parent.parent if file.parent.name == FOLDER else file.parent
        dry_run, read_only = self._access.mode is AccessMode.DRY_RUN, not self._access.mode.writes
        try:
            check_journal(file)
            return Catalog(None if dry_run and not file.exists() else file, root, dry_run=read_only)
        except DamagedCatalog as error:
            if dry_run:
                self._access.note(f"{error}. {WOULD_REPLACE}")
                return Catalog(None, root, dry_run=True)
            if not self._may_move_aside(file):
                self._reported = DamagedCatalog(f"{error}. Move it away. {LOST}")
                raise self._reported from error
            self._move_aside(file, str(error))
            return Catalog(file, root)

    def _may_move_aside(self, file: Path) -> bool:
        """Whether a damaged file may be renamed: only in sdprep's own folder, since --catalog may name any file."""
        return self._access.mode is AccessMode.ADD and file.parent.name == FOLDER

    def _move_aside(self, file: Path, error: str) -> None:
        kept = move_aside(file)
        self._access.note(f"{error}. It was renamed to {kept} and replaced by a new one. {LOST}")


def make_folder(folder: Path) -> list[Path]:
    """Make the folder of a catalog, and return those that were not there before, the innermost first."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    ignore = folder / ".gitignore"
    if folder.name == FOLDER and not ignore.exists():
        # Mode x does not follow a link to a missing file.
        with suppress(FileExistsError), ignore.open("x", encoding="utf-8") as stream:
            stream.write("*\n")
    return missing if folder in missing else []


def _is_empty(catalog: Catalog) -> bool:
    """Whether a catalog remembers nothing that a later run would miss."""
    return not any(catalog.db.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() for table in REMEMBERED)


def _files(file: Path) -> list[Path]:
    """The file of a catalog and those that SQLite keeps beside it."""
    return [file, *(file.with_name(f"{file.name}{end}") for end in ("-wal", "-shm", "-journal"))]


def _remove_files(file: Path) -> None:
    """Remove an unused catalog that this run has made, while its lock is held."""
    for path in _files(file):
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _remove_folders(folders: list[Path]) -> None:
    """Remove the folders that this run made for a catalog, as far as nothing else is in them."""
    with suppress(OSError):
        for folder in folders:
            if folder.name == FOLDER and {path.name for path in folder.iterdir()} <= LEFT_BEHIND:
                for name in LEFT_BEHIND:
                    (folder / name).unlink(missing_ok=True)
            folder.rmdir()
