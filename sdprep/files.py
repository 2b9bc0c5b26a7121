"""Reading and writing files that a stranger may have made or sized."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

CHUNK = 1 << 20


def read_limited(path: Path | str, limit: int) -> bytes:
    """Return the bytes of a regular file of at most `limit` bytes.

    The size is checked before anything is read, and a file that grows meanwhile is not read further.

    Raises:
        PermissionError: it is a pipe, a socket or a device, which may have no end.
        OSError: it cannot be read; errno EFBIG if it is larger than `limit`.
    """
    # Non-blocking, since opening a pipe waits for its other end; regular files know no difference.
    flags = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY"))
    with os.fdopen(os.open(path, flags), "rb", buffering=0) as stream:
        return read_stream(stream.fileno(), limit, str(path))


def read_stream(descriptor: int, limit: int, name: str) -> bytes:
    """Return the bytes behind a file descriptor that was just opened; `name` is for the message.

    Raises what `read_limited` raises.
    """
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise PermissionError(errno.EACCES, "it is not a regular file", name)
    if found.st_size > limit:
        raise _too_large(limit, name)
    # One byte more than the file says it has: the read that returns less then confirms the end.
    data, missing = b"", found.st_size + 1
    while part := os.read(descriptor, missing):
        data = data + part if data else part
        if len(data) > limit:
            raise _too_large(limit, name)
        if len(part) == missing:
            missing = CHUNK
        else:
            missing -= len(part)
    return data


def _too_large(limit: int, name: str) -> OSError:
    return OSError(errno.EFBIG, f"it is larger than {limit:,} bytes, the limit for such files", name)
