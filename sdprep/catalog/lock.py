"""One run at a time on a catalog: a lock of the operating system, which ends with its process, and who holds it.

The lock file beside the catalog is never written and may hold anything. The owner file is for messages only: whatever
it says, it keeps nobody from the lock.
"""

from __future__ import annotations

import errno
import os
import platform
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import msgspec
from filelock import FileLock, Timeout

from sdprep.errors import CatalogError, FolderInUse
from sdprep.files import read_limited
from sdprep.sanitize import printable_time, strip_invisible

# Seconds that a run waits for another one to end before it gives up, and between two tries.
WAIT = 1.0
POLL = 0.05
# More than any owner file has.
OWNER_LIMIT = 10_000
# What a file system says that has no locks, as some network shares.
NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP})
Name = Annotated[str, msgspec.Meta(max_length=300)]


class Owner(msgspec.Struct, frozen=True):
    """The run that holds a lock.

    `boot` tells machines of one name apart; `lock` is the number of the lock file, so that a copied owner file counts
    for nothing.
    """

    command: Name
    pid: int
    host: Name
    boot: Name
    lock: int
    started: float

    def __str__(self) -> str:
        since = printable_time(self.started)
        return (
            f"sdprep {strip_invisible(self.command)}, process {self.pid} on {strip_invisible(self.host)}, since {since}"
        )


class FolderLock:
    """The lock of a catalog. `is_exclusive` is false where the file system has no locks."""

    def __init__(self, catalog: Path, command: str) -> None:
        self.path = catalog.with_name(f"{catalog.name}.lock")
        self.is_exclusive = True
        self._catalog, self._command = catalog, command
        self._owner_file = catalog.with_name(f"{catalog.name}.owner")
        # A soft lock would take the mere presence of a file for a run at work.
        self._lock = FileLock(self.path, thread_local=False, fallback_to_soft=False, preserve_lock_file=True)

    def acquire(self) -> Owner | None:
        """Take the lock, and return the owner that died with it, if one did.

        Raises:
            FolderInUse: another run holds it, and still does after a second.
            CatalogError: a link, a pipe or a folder is in its place.
            OSError: the lock file cannot be made or opened.
        """
        self._check_place()
        try:
            self._lock.acquire(timeout=WAIT, poll_interval=POLL)
        except Timeout as error:
            raise FolderInUse(self._catalog, self._holder()) from error
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            self.is_exclusive = False
        dead = self._read_owner() if self.is_exclusive else None
        self._write_owner()
        return dead

    def release(self) -> None:
        """Leave the lock to the next run."""
        with suppress(OSError):
            self._owner_file.unlink(missing_ok=True)
        self._lock.release()

    def _check_place(self) -> None:
        """Raise CatalogError for what is not a regular file, which is neither followed nor waited for."""
        if self.path.is_symlink():
            raise self._refused("it is a link")
        if self.path.exists() and not self.path.is_file():
            raise self._refused("it is not a regular file")

    def _refused(self, reason: str) -> CatalogError:
        return CatalogError(
            f"{self.path} cannot be used as a lock: {reason}. Nothing was changed\n"
            "Remove it, or give --catalog PATH for another place"
        )

    def _holder(self) -> str:
        """Return who holds the lock, as far as that is known."""
        owner = self._read_owner()
        # The owner file may be older than the run that holds the lock now.
        here = owner is not None and (owner.host, owner.boot) == (platform.node(), _boot())
        return "" if owner is None or (here and not _is_running(owner.pid)) else str(owner)

    def _read_owner(self) -> Owner | None:
        """Return the owner that the owner file names; None if there is none, or none that can be believed."""
        try:
            if self._owner_file.is_symlink():
                return None
            owner = msgspec.json.decode(read_limited(self._owner_file, OWNER_LIMIT), type=Owner)
            return owner if owner.lock == self.path.stat().st_ino else None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None

    def _write_owner(self) -> None:
        """Name this run in the owner file, in one step; where that cannot be done, the lock holds all the same."""
        temporary = self._owner_file.with_name(f"{self._owner_file.name}.tmp")
        with suppress(OSError):
            inode = self.path.stat().st_ino
            owner = Owner(self._command, os.getpid(), platform.node()[:300], _boot(), inode, time.time())
            # A run that was killed may have left it; nobody else writes while the lock is held.
            temporary.unlink(missing_ok=True)
            with temporary.open("xb") as stream:
                stream.write(msgspec.json.encode(owner))
            temporary.replace(self._owner_file)


def _boot() -> str:
    """Return what tells this start of this machine from all others; it is the same in all its containers."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _is_running(pid: int) -> bool:
    """Whether there may be such a process here; on Windows, where asking would end it, that is left open."""
    if sys.platform == "win32" or pid <= 0:
        return sys.platform == "win32"
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
