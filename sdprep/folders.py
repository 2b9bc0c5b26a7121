"""Folders below one root, opened one path component at a time so that no link on the way leads out of the root.

A folder is kept open, and its files are accessed by name through its descriptor: replacing a folder by a link while
sdprep runs has no effect. Where the system does not support that (Windows), paths are checked before each group of
files instead.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import IO

from sdprep.errors import ReadOnlyFolder
from sdprep.files import (
    FORBIDDEN,
    NEW_FILE,
    READ_FILE,
    check_regular,
    flag,
    read_stream,
    start_writing,
    sync,
    sync_names,
    write_all,
)
from sdprep.types import ImageItem

# Bytes of the largest sidecar; one with a thousand tags has some 20,000.
SIDECAR_LIMIT = 1_000_000
# The errors for a missing file, or for a name that no file can have.
NO_FILE = frozenset({errno.ENOENT, errno.ENAMETOOLONG})
# The errors of opening a link without following it; ENOTDIR if a folder was expected.
IS_LINK = frozenset({errno.ELOOP, errno.EMLINK, errno.ENOTDIR})
OPEN_FOLDER = os.O_RDONLY | flag("O_DIRECTORY") | flag("O_CLOEXEC")
NO_FOLLOW = flag("O_NOFOLLOW")


def is_below(path: str, root: str) -> bool:
    """Whether a path without links is `root` or below it."""
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


def step_into(above: int, name: str, *, make: bool) -> int:
    """Open a folder in an open folder without following links; the caller closes both. Raises OSError."""
    try:
        return os.open(name, OPEN_FOLDER | NO_FOLLOW, dir_fd=above)
    except FileNotFoundError:
        if not make:
            raise
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=above)
        sync_names(above)
    return os.open(name, OPEN_FOLDER | NO_FOLLOW, dir_fd=above)


class Folder:
    """One folder of `Folders`: its files by name. `descriptor` is None where the system needs full paths."""

    def __init__(self, folders: Folders, path: str, descriptor: int | None) -> None:
        self._folders, self.path, self.descriptor = folders, path, descriptor

    def _at(self, name: str) -> str:
        return name if self.descriptor is not None else os.path.join(self.path, name)

    def read(self, name: str, limit: int = SIDECAR_LIMIT) -> bytes | None:
        """Return the bytes of a file, or None if there is none or its name is too long.

        A link is followed if it stays below the root.

        Raises:
            PermissionError: it is a link that leads out of the root, a pipe or a device, or access is denied.
            OSError: it cannot be read; errno EFBIG if it is larger than `limit`.
        """
        try:
            file = self._open_unlinked(name)
        except OSError as error:
            if error.errno in NO_FILE:
                return None
            if error.errno in IS_LINK:
                return self._read_link(name, limit)
            raise
        try:
            return read_stream(file, limit, name)
        finally:
            os.close(file)

    def _open_unlinked(self, name: str) -> int:
        """Open a file for reading. Raises OSError with an errno of IS_LINK for a link."""
        if self.descriptor is None and os.path.islink(self._at(name)):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
        return os.open(self._at(name), READ_FILE | NO_FOLLOW, dir_fd=self.descriptor)

    def _read_link(self, name: str, limit: int) -> bytes | None:
        real = os.path.realpath(os.path.join(self.path, name))
        if not is_below(real, self._folders.root):
            message = f"it is a link that leads out of {self._folders.root}; replace it with a copy"
            raise PermissionError(errno.EACCES, message, name)
        if os.path.islink(real):
            raise OSError(errno.ELOOP, "it is a link to itself", name)
        folder = self._folders.find(self._folders.relative(Path(real).parent))
        return None if folder is None else folder.read(os.path.basename(real), limit)

    def open(self, name: str, buffering: int = -1) -> IO[bytes]:
        """Open a regular file for reading; a link is not followed.

        Raises:
            PermissionError: it is a link, a pipe or a device, or access is denied.
            OSError: it cannot be opened.
        """
        try:
            file = self._open_unlinked(name)
        except OSError as error:
            if error.errno not in IS_LINK:
                raise
            raise PermissionError(errno.EACCES, "a link has taken its place", name) from error
        try:
            check_regular(file, name)
            return os.fdopen(file, "rb", buffering)
        except BaseException:
            os.close(file)
            raise

    def write_new(self, name: str, data: bytes, *, private: bool) -> None:
        """Write a new file, `private` to its owner for now; `sync` brings it to the disk.

        Raises FileExistsError if there is anything under this name; a link is not followed.
        """
        file = os.open(self._at(name), NEW_FILE, 0o600 if private else 0o666, dir_fd=self.descriptor)
        try:
            try:
                write_all(file, data)
                start_writing(file)
            finally:
                # On a network share only closing may report that the disk is full.
                os.close(file)
        except BaseException:
            self.remove(name)
            raise

    def sync(self, name: str) -> None:
        """Sync the content of a file to the disk."""
        # Windows needs a writable file.
        file = os.open(self._at(name), os.O_RDWR | NO_FOLLOW | flag("O_CLOEXEC"), dir_fd=self.descriptor)
        try:
            sync(file)
        finally:
            os.close(file)

    def replace(self, temporary: str, name: str) -> None:
        """Replace a file by another in one step; the mode of a regular file is kept."""
        with suppress(FileNotFoundError):
            found = os.stat(self._at(name), dir_fd=self.descriptor, follow_symlinks=False)
            if stat.S_ISREG(found.st_mode):
                os.chmod(self._at(temporary), stat.S_IMODE(found.st_mode), dir_fd=self.descriptor)
        os.replace(self._at(temporary), self._at(name), src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        with suppress(FileNotFoundError):
            os.unlink(self._at(name), dir_fd=self.descriptor)

    def sync_names(self) -> None:
        """Sync the list of files in the folder to the disk; not supported on Windows."""
        if self.descriptor is not None:
            sync_names(self.descriptor)

    def obstacle(self, name: str) -> OSError | None:
        """Return what forbids making files here, or None; tried with a file that has no name, or else with `name`."""
        try:
            if not self._makes_nameless():
                self.write_new(name, b"", private=True)
                self.remove(name)
        except OSError as error:
            return error if error.errno in FORBIDDEN else None
        return None

    def _makes_nameless(self) -> bool:
        """Whether a file without a name could be made, which leaves nothing behind. Raises OSError if it may not."""
        if self.descriptor is None or not hasattr(os, "O_TMPFILE"):
            return False
        try:
            os.close(os.open(".", os.O_TMPFILE | os.O_WRONLY, 0o600, dir_fd=self.descriptor))
        except OSError as error:
            if error.errno in FORBIDDEN:
                raise
            return False
        return True


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

    def read(self, path: Path, limit: int = SIDECAR_LIMIT) -> bytes | None:
        """Return the bytes of a file below the root, or None where there is none. Raises as `Folder.read`."""
        folder = self.find(self.relative(path.parent))
        return None if folder is None else folder.read(path.name, limit)

    def relative(self, folder: Path) -> str:
        """Return the path of a folder relative to the root. Raises PermissionError if it does not begin with it."""
        # `Path.relative_to` takes twenty times as long.
        text = str(folder)
        root = self._named if is_below(text, self._named) else self.root
        if not is_below(text, root):
            raise self._outside(text)
        return text[len(root) :].lstrip(os.sep).replace(os.sep, "/")

    def _close_oldest(self) -> None:
        folder = self._open.pop(next(iter(self._open)))
        if folder is not None and folder.descriptor is not None:
            # Nothing was written through it, so an error loses nothing.
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
        # There is a link on the way: follow it if it stays below the root.
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
        # A resolved path has no links, unless it was changed since.
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
        return folders.read(path, limit)


def open_item(item: ImageItem, buffering: int = -1, folders: Folders | None = None) -> IO[bytes]:
    """Open the file of an image; links on the way may not lead out of the folder of the run, unless it `is_link`.

    `folders` are the open folders of the run, if the caller has them. Raises as `Folders.at` and `Folder.open`.
    """
    if item.is_link:
        real = Path(os.path.realpath(item.path))
        with Folders(real.parent) as there:
            return there.at("").open(real.name, buffering)
    above, _, name = item.within.rpartition("/")
    with nullcontext(folders) if folders is not None else Folders(item.folder) as below:
        return below.at(above).open(name, buffering)


def write_obstacle(root: Path, folder: Path) -> OSError | None:
    """Return the error of writing in a folder below `root`, or in its nearest existing parent; None if it is possible.

    A full disk does not count: it may have space later.
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
    """Raise ReadOnlyFolder with this advice if no file can be created in a folder."""
    obstacle = write_obstacle(folder, folder)
    if obstacle is not None:
        raise ReadOnlyFolder(folder, obstacle, advice)
