"""Reading untrusted files of limited size, and writing files so that they survive a power cut."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path
from zlib import crc32

from sdprep.errors import ModelError

CHUNK = 1 << 20
LARGEST_TOML = 64 << 10
# Bytes of the largest file that is replaced, and so kept in a catalog: a metadata JSON of some three million images.
FILE_LIMIT = 1 << 30
# tomllib takes quadratic time in the parts of a key: 30,000 dots take half a minute.
MOST_DOTS = 500
# The errors of a folder in which nothing may be written.
FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
# Errors that concern all files: the disk is full, or the process has too many open files or too little memory. All
# others concern one file.
FOR_ALL_FILES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM})


def flag(name: str) -> int:
    """Return a flag of `os.open`, 0 where the system does not have it."""
    found: int = getattr(os, name, 0)
    return found


# Non-blocking, since opening a pipe waits for its other end; for regular files it makes no difference.
READ_FILE = os.O_RDONLY | flag("O_NONBLOCK") | flag("O_NOCTTY") | flag("O_CLOEXEC") | flag("O_BINARY")
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | flag("O_NOFOLLOW") | flag("O_CLOEXEC") | flag("O_BINARY")


def real_path(path: Path) -> Path:
    """Return an absolute path without links; a link to itself stays, and fails when it is used.

    `Path.resolve` raises RuntimeError for such a link before Python 3.13.
    """
    return Path(os.path.realpath(path))


def read_limited(path: Path | str, limit: int) -> bytes:
    """Return the bytes of a regular file of at most `limit` bytes.

    The size is checked before reading, and again while reading, since the file may grow.

    Raises:
        PermissionError: it is a pipe, a socket or a device, which may be endless.
        OSError: it cannot be read; errno EFBIG if it is larger than `limit`.
    """
    descriptor = os.open(path, READ_FILE)
    try:
        return read_stream(descriptor, limit, str(path))
    finally:
        os.close(descriptor)


def read_toml_bytes(path: Path | str, limit: int = LARGEST_TOML) -> bytes:
    """Return the bytes of a TOML file, which has no keys that take long to parse.

    Raises:
        OSError: as `read_limited`.
        ValueError: a line has more dots than any key needs.
    """
    data = read_limited(path, limit)
    if any(line.count(b".") > MOST_DOTS for line in data.split(b"\n")):
        raise ValueError(f"a line has more than {MOST_DOTS} dots")
    return data


def read_stream(descriptor: int, limit: int, name: str) -> bytes:
    """Return the bytes of a file that was just opened; `name` is for the message. Raises as `read_limited`."""
    found = check_regular(descriptor, name)
    if found.st_size > limit:
        raise _too_large(limit, name)
    # One byte more than the size: a shorter read then confirms the end.
    data, missing = b"", found.st_size + 1
    while part := os.read(descriptor, missing):
        data = data + part if data else part
        if len(data) > limit:
            raise _too_large(limit, name)
        missing = CHUNK if len(part) == missing else missing - len(part)
    return data


def check_regular(descriptor: int, name: str) -> os.stat_result:
    """Return the status of an open file. Raises PermissionError for a folder, a pipe or a device."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise PermissionError(errno.EACCES, "it is not a regular file", name)
    return found


def _too_large(limit: int, name: str) -> OSError:
    return OSError(errno.EFBIG, f"it is larger than {limit:,} bytes, the limit for such files", name)


def replace_file(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file, or replace it, in one step that survives a power cut. Raises OSError."""
    # Always the same temporary name: the next process replaces what a killed one left.
    temporary = path.with_name(f".sdprep-{crc32(os.fsencode(path.name)):08x}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        write_synced(temporary, parts)
        os.replace(temporary, path)  # noqa: PTH105 - the one call that is atomic everywhere
        sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_synced(path: Path, parts: Iterable[bytes]) -> None:
    """Write a new file and sync it to the disk. Raises OSError, also if there is a file of this name."""
    file = os.open(path, NEW_FILE, 0o666)
    try:
        for part in parts:
            write_all(file, part)
        sync(file)
    finally:
        os.close(file)


def sync_folder(path: Path) -> None:
    """Sync the list of files in a folder to the disk, where the system supports that."""
    if sys.platform == "win32":
        return
    folder = os.open(path, os.O_RDONLY)
    try:
        sync_names(folder)
    finally:
        os.close(folder)


def sync_names(folder: int) -> None:
    """Sync the list of files in an open folder to the disk, if its file system supports that."""
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF):
            raise


def write_all(descriptor: int, data: bytes) -> None:
    """Write all bytes, in as many calls as the system needs."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def start_writing(descriptor: int) -> None:
    """Have the system start writing a file to the disk, so that `sync` need not wait long.

    Syncing the files of a group one by one takes three times as long; git does the same (core.fsyncMethod=batch).
    """
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def sync(descriptor: int) -> None:
    """Sync the content of a file to the disk. Raises OSError."""
    (os.fdatasync if hasattr(os, "fdatasync") else os.fsync)(descriptor)


def configs_folder(kind: str) -> Path:
    """The folder of "models" or "presets" that come with sdprep: in a wheel inside the package, in a checkout beside.

    Raises ModelError if there is neither.
    """
    package = Path(__file__).parent
    for folder in (package / "configs" / kind, package.parent / "configs" / kind):
        if folder.is_dir():
            return folder
    raise ModelError(f"configs/{kind} is missing beside {package}\nThe installation is damaged: reinstall sdprep")
