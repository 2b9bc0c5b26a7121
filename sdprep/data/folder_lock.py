"""One run at a time on a catalog: a file beside it that is locked, names its owner, and shows that the owner lives.

The system's own lock ends with its process, and so tells at once that a run of this machine is dead. Network shares may
not pass it on to other machines, or know none; there the time of the file, which its owner renews, decides instead. Of
two runs that begin in the same moment on such a share, one may overlook the other.
"""

from __future__ import annotations

import errno
import os
import platform
import stat
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec

from sdprep.errors import CatalogError, FolderInUse
from sdprep.rules.plain import plain

# Seconds between two signs of life, and after how many without one a run of another machine counts as dead.
BEAT = 30.0
STALE = 300.0
# More than any lock holds, and less than reading costs.
LONGEST = 10_000
Name = Annotated[str, msgspec.Meta(max_length=300)]

if sys.platform == "win32":
    import msvcrt

    # Far behind the text of the file, which stays readable: on Windows a locked part is not.
    LOCKED_BYTE = 1 << 30

    def _lock(file: int) -> None:
        os.lseek(file, LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        os.lseek(file, 0, os.SEEK_SET)
else:
    import fcntl

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Owner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The run that holds a lock; `boot` tells machines of one name apart, where the system says it."""

    command: Name
    pid: Annotated[int, msgspec.Meta(ge=1, lt=2**31)]
    host: Name
    boot: Name
    # Up to the year 2900: later ones have no date on every system.
    started: Annotated[float, msgspec.Meta(ge=0, lt=2.93e10)]

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.started))
        return f"sdprep {plain(self.command)}, process {self.pid} on {plain(self.host)}, since {since}"


class FolderLock:
    """The lock of a catalog; `path` lies beside it and stays there, empty while nobody is at work."""

    def __init__(self, catalog: Path, command: str) -> None:
        self.path = catalog.with_name(f"{catalog.name}.lock")
        self._owner = Owner(command, os.getpid(), platform.node(), _boot(), time.time())
        self._file: int | None = None
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)

    def acquire(self) -> Owner | None:
        """Take the lock; the owner that died with it, if one did.

        Raises FolderInUse if another run is at work, CatalogError for a file that is no lock, which keeps its content,
        and OSError if the file cannot be written.
        """
        file = _open(self.path)
        try:
            owner, locked = _read(file, self.path), _try_lock(file)
            if locked is False or (owner is not None and self._lives(owner, known=locked is not None)):
                raise FolderInUse(self.path.with_suffix(""), str(owner or "its name is not known yet"), STALE / 60)
            os.ftruncate(file, 0)
            os.write(file, msgspec.json.encode(self._owner))
        except BaseException:
            os.close(file)
            raise
        self._file = file
        self._heart.start()
        return owner

    def release(self) -> None:
        """Leave it to the next run."""
        if self._file is None:
            return
        self._ended.set()
        self._heart.join()
        os.ftruncate(self._file, 0)
        os.close(self._file)
        self._file = None

    def _lives(self, owner: Owner, *, known: bool) -> bool:
        """Whether the owner of a lock that nobody is known to hold is at work all the same."""
        ours = owner.boot == self._owner.boot or owner.host == self._owner.host
        if ours and (known or not _is_running(owner.pid)):
            return False
        # Both times are of the clock of the file's system, whatever that of this machine says.
        with tempfile.TemporaryFile(dir=self.path.parent) as now:
            return os.fstat(now.fileno()).st_mtime - self.path.stat().st_mtime < STALE

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            # A share that is away for a moment may be back for the next beat.
            with suppress(OSError):
                os.utime(self.path)


def _try_lock(file: int) -> bool | None:
    """Whether this process has the system's lock of a file now; None if its file system has no locks."""
    try:
        _lock(file)
    except OSError as error:
        return False if error.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK) else None
    return True


def _open(path: Path) -> int:
    """A lock file, made where there is none; links are not followed, and pipes not waited for."""
    # Not every system can be told so when it opens a file.
    if path.is_symlink():
        raise _no_lock(path, "it is a link")
    special = sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY"))
    file = os.open(path, os.O_RDWR | os.O_CREAT | special, 0o666)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise _no_lock(path, "it is no ordinary file")
    return file


def _read(file: int, path: Path) -> Owner | None:
    """The owner that a file names; None if it names none. Raises CatalogError if sdprep has not written it."""
    data = os.read(file, LONGEST)
    # What a loss of power can leave of a file that was just written: nothing, zeros, or the beginning.
    if not data.strip(b"\0") or (len(data) < LONGEST and b"}" not in data and data.startswith(b'{"command":"')):
        return None
    try:
        return msgspec.json.decode(data, type=Owner)
    except msgspec.MsgspecError as error:
        raise _no_lock(path, "it has other content") from error


def _no_lock(path: Path, reason: str) -> CatalogError:
    return CatalogError(
        f"{path} is no lock file of sdprep: {reason}. Nothing was changed\n"
        "Move it away if it is not wanted, or give --catalog PATH for another place"
    )


def _boot() -> str:
    """What tells this start of this machine from all others; it is the same in all its containers."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return platform.node()


def _is_running(pid: int) -> bool:
    """Whether there is such a process here; on Windows, where asking would end it, that is left open."""
    if sys.platform == "win32":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
