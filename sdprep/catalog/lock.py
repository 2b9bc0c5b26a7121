"""One run at a time per catalog: a lock of the operating system, which ends with its process, and its owner.

The lock file beside the catalog is never written and may contain anything. The owner file is for messages only and
never keeps a run from taking the lock.
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
from sdprep.files import read_limited, replace_file
from sdprep.sanitize import printable_time, strip_invisible

# Seconds that a run waits for another one to end, and between two tries.
WAIT = 1.0
POLL = 0.05
# Bytes; more than any owner file has.
OWNER_LIMIT = 10_000
# The errors of a file system without locks, such as some network shares.
NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP})
Name = Annotated[str, msgspec.Meta(max_length=300)]


class Owner(msgspec.Struct, frozen=True):
    """The run that holds a lock.

    `boot` distinguishes machines with the same name; `lock` is the inode of the lock file, so that a copied owner file
    is not believed.
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
        # A soft lock would take the presence of the file for a running command.
        self._lock = FileLock(self.path, thread_local=False, fallback_to_soft=False, preserve_lock_file=True)

    def acquire(self, wait: float = WAIT) -> Owner | None:
        """Take the lock, and return its last owner if that was killed while it held the lock.

        Raises:
            FolderInUse: another run holds it, and still does after these seconds.
            CatalogError: the lock file is a link, a pipe or a folder.
            OSError: the lock file cannot be made or opened.
        """
        self._check_lock_file()
        try:
            self._lock.acquire(timeout=wait, poll_interval=POLL)
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
        """Release the lock."""
        with suppress(OSError):
            self._owner_file.unlink(missing_ok=True)
        self._lock.release()

    def _check_lock_file(self) -> None:
        """Raise CatalogError unless the lock file is regular or missing: a pipe would block."""
        if self.path.is_symlink():
            raise self._unusable("it is a link")
        if self.path.exists() and not self.path.is_file():
            raise self._unusable("it is not a regular file")

    def _unusable(self, reason: str) -> CatalogError:
        return CatalogError(
            f"{self.path} cannot be used as a lock: {reason}. Nothing was changed\n"
            "Remove it, or use --catalog PATH for another location"
        )

    def _holder(self) -> str:
        """Return a description of the run that holds the lock, or "" if it is not known."""
        owner = self._read_owner()
        # The owner file may be left over from an earlier run.
        here = owner is not None and (owner.host, owner.boot) == (platform.node(), _boot())
        return "" if owner is None or (here and not _is_running(owner.pid)) else str(owner)

    def _read_owner(self) -> Owner | None:
        """Return the owner from the owner file, or None if there is none or it does not belong to this lock file."""
        try:
            if self._owner_file.is_symlink():
                return None
            owner = msgspec.json.decode(read_limited(self._owner_file, OWNER_LIMIT), type=Owner)
            return owner if owner.lock == self.path.stat().st_ino else None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None

    def _write_owner(self) -> None:
        """Name this run in the owner file; the lock works without it too."""
        with suppress(OSError):
            inode = self.path.stat().st_ino
            owner = Owner(self._command, os.getpid(), platform.node()[:300], _boot(), inode, time.time())
            replace_file(self._owner_file, [msgspec.json.encode(owner)])


def _boot() -> str:
    """Return the id of this boot of the machine, which all its containers share; "" where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _is_running(pid: int) -> bool:
    """Whether a process may be running here; always true on Windows, where the check would end it."""
    if sys.platform == "win32" or pid <= 0:
        return sys.platform == "win32"
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
