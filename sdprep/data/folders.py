"""Folders below one root, opened part by part so that no link on the way leads out of it.

A folder is held open, and its files are reached by their names alone: whoever puts a link in the place of a folder
while sdprep runs gains nothing. Where the system cannot reach files that way (Windows), paths are checked before each
group of files instead.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import IO

from sdprep.data.open_folder import IS_LINK, NO_FOLLOW, OPEN_FOLDER, Folder, is_below, step_into
from sdprep.errors import ReadOnlyFolder
from sdprep.types import ImageItem

# The most folders that are open at once: some systems allow a process 256 files in all.
MOST_OPEN = 16
BY_NAME = os.open in os.supports_dir_fd and os.rename in os.supports_dir_fd


class Folders:
    """The folders below `root`, a path that was resolved when the command began; to be used in a `with` block."""

    def __init__(self, root: Path) -> None:
        self._named = str(root)
        self._open: dict[str, Folder | None] = {}

    @cached_property
    def root(self) -> str:
        """The path of the root without links, for messages and where there is a link on the way."""
        return os.path.realpath(self._named)

    def __enter__(self) -> Folders:
        return self

    def __exit__(self, *_: object) -> None:
        while self._open:
            self._close_oldest()

    def at(self, rel: str, *, make: bool = False) -> Folder:
        """Return the folder of a relative path with forward slashes, "" for the root; `make` makes missing ones.

        Raises:
            FileNotFoundError: it is not there.
            PermissionError: a link on the way leads out of the root, or access is denied.
            OSError: it is not a folder or cannot be opened.
        """
        folder = self.find(rel, make=make)
        if folder is None:
            raise FileNotFoundError(errno.ENOENT, "its folder is not there", os.path.join(self.root, rel))
        return folder

    def find(self, rel: str, *, make: bool = False) -> Folder | None:
        """Return the folder of a relative path, or None if it is not there. Raises as `at` does otherwise."""
        found = self._open.get(rel)
        if found is None and (make or rel not in self._open):
            if len(self._open) >= MOST_OPEN:
                self._close_oldest()
            found = self._open[rel] = self._opened(rel, make=make)
        return found

    def relative(self, folder: Path) -> str:
        """Return the path of a folder relative to the root. Raises PermissionError if it does not begin with it."""
        # As `Path.relative_to`, which takes twenty times as long.
        text = str(folder)
        root = self._named if is_below(text, self._named) else self.root
        if not is_below(text, root):
            raise self._outside(text)
        return text[len(root) :].lstrip(os.sep).replace(os.sep, "/")

    def _close_oldest(self) -> None:
        folder = self._open.pop(next(iter(self._open)))
        if folder is not None and folder.descriptor is not None:
            # Nothing was written through it, so a disk that fails now loses nothing.
            with suppress(OSError):
                os.close(folder.descriptor)

    def _opened(self, rel: str, *, make: bool) -> Folder | None:
        parts = [part for part in rel.split("/") if part]
        try:
            if ".." not in parts and BY_NAME:
                return self._descended(parts, make=make)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in IS_LINK:
                raise
        # There is a link on the way: it may be followed as long as it stays below the root, and not while it changes.
        real = os.path.realpath(os.path.join(self.root, rel))
        if not is_below(real, self.root):
            raise self._outside(os.path.join(self.root, rel))
        parts = [part for part in real[len(self.root) :].split(os.sep) if part]
        try:
            return self._descended(parts, make=make) if BY_NAME else self._by_path(real, make=make)
        except FileNotFoundError:
            return None

    def _descended(self, parts: Iterable[str], *, make: bool) -> Folder:
        if make:
            Path(self._named).mkdir(parents=True, exist_ok=True)
        # What was resolved is a link no more, unless somebody has exchanged it since.
        descriptor, path = os.open(self._named, OPEN_FOLDER | NO_FOLLOW), self._named
        for part in parts:
            above = descriptor
            try:
                descriptor = step_into(above, part, make=make)
            finally:
                os.close(above)
            path = os.path.join(path, part)
        return Folder(self, path, descriptor)

    def _by_path(self, path: str, *, make: bool) -> Folder:
        if make:
            os.makedirs(path, exist_ok=True)
        if not os.path.isdir(path):
            raise FileNotFoundError(errno.ENOENT, "its folder is not there", path)
        return Folder(self, path, None)

    def _outside(self, path: str) -> PermissionError:
        return PermissionError(errno.EACCES, f"a link leads out of {self.root}", path)


def read_below(root: Path, path: Path, limit: int) -> bytes | None:
    """Return the bytes of a file below `root`, or None where there is none. Raises as `Folder.read`."""
    with Folders(root) as folders:
        folder = folders.find(folders.relative(path.parent))
        return None if folder is None else folder.read(path.name, limit)


def open_item(item: ImageItem, buffering: int = -1) -> IO[bytes]:
    """Open the file of an image, which links on the way may not lead out of the folder of the run.

    Raises as `Folders.at` and `Folder.open`.
    """
    place, _, name = item.rel.rpartition("/")
    with Folders(item.folder) as folders:
        return folders.at(place).open(name, buffering)


def write_obstacle(root: Path, folder: Path) -> OSError | None:
    """Return what forbids writing in a folder below `root`, or in the nearest one above that is there; None if nothing.

    A full disk is no such thing: it may have room when the time comes.
    """
    try:
        while not os.path.lexists(root):
            root, folder = root.parent, root.parent
        with Folders(root) as folders:
            rel = folders.relative(folder)
            while (found := folders.find(rel)) is None and rel:
                rel = rel.rpartition("/")[0]
            return found.obstacle(f".sdprep-probe-{os.getpid()}.tmp") if found is not None else None
    except OSError as error:
        return error


def check_writable(folder: Path, advice: str) -> None:
    """Raise ReadOnlyFolder with an advice if no file can be made in a folder."""
    obstacle = write_obstacle(folder, folder)
    if obstacle is not None:
        raise ReadOnlyFolder(folder, obstacle, advice)
