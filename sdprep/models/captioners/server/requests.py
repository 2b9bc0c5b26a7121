"""Which requests have no stored answer yet: a file beside the catalog, so that a run knows what a killed one had asked.

A line "+ KEY" says that a request goes out, "- KEY" that it came to nothing, and "- IMAGE", which begins the keys of an
image, that its answers are stored. "=" begins a run. Lines are appended by two processes, and never synced: what a
killed process wrote stays, and after a power cut a count may be wrong, but no answer is lost by that.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sdprep.errors import CatalogFailed
from sdprep.files import FILE_LIMIT, flag, read_limited, replace_file, write_all

LINE = re.compile(rb"[+-] ([0-9a-f]{16})(\.[0-9a-f]{16})?|=")
APPEND = os.O_WRONLY | os.O_APPEND | flag("O_NOFOLLOW") | flag("O_CLOEXEC") | flag("O_BINARY")


class RequestLog:
    """Appends to the file. Raises CatalogFailed if it cannot be written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = os.open(path, APPEND)
        except OSError as error:
            raise _failed(path, error) from error

    def start(self, key: str) -> None:
        """Note a request that goes out."""
        self._append(f"+ {key}\n")

    def end(self, key: str) -> None:
        """Note that a request gave no caption."""
        self._append(f"- {key}\n")

    def settle(self, digest: bytes) -> None:
        """Note that what became of an image is stored."""
        self._append(f"- {_image(digest)}\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _append(self, line: str) -> None:
        try:
            write_all(self._file, line.encode())
        except OSError as error:
            raise _failed(self._path, error) from error


def request_key(digest: bytes, number: int, question: bytes) -> str:
    """What names a request: the SHA-256 of an image, which of its captions is asked for, and all that is asked."""
    return f"{_image(digest)}.{hashlib.sha256(b'%d %b' % (number, question)).hexdigest()[:16]}"


def log_of(catalog: Path) -> Path:
    """Where the requests for the images of a catalog are noted."""
    return catalog.with_name(f"{catalog.name}.requests")


def begin_log(paths: Sequence[Path]) -> Path:
    """The file for a new run, the first of these; it takes over what earlier runs have left in all of them."""
    open_requests = set[str]().union(*(_read(path).open for path in paths))
    _write(paths[0], open_requests, "=\n")
    for path in paths[1:]:
        path.unlink(missing_ok=True)
    return paths[0]


def finish_log(path: Path) -> int:
    """How many requests of earlier runs were made again; only requests without a stored answer stay in the file."""
    found = _read(path)
    if found.open:
        _write(path, found.open)
    else:
        path.unlink(missing_ok=True)
    return found.again


@dataclass(slots=True)
class _Requests:
    """Requests without a stored answer: those of this run by image, and those of `earlier` runs."""

    earlier: set[str] = field(default_factory=set)
    now: dict[str, set[str]] = field(default_factory=dict)
    again: int = 0

    @property
    def open(self) -> set[str]:
        """All of them."""
        return self.earlier.union(*self.now.values())

    def take(self, sign: str, image: str, key: str | None) -> None:
        """Take note of a line."""
        if sign == "=":
            self.earlier, self.now = self.open, {}
        elif sign == "+" and key is not None:
            self.again += key in self.earlier
            self.earlier.discard(key)
            self.now.setdefault(image, set()).add(key)
        elif key is None:
            self.now.pop(image, None)
        else:
            self.now.get(image, set()).discard(key)


def _read(path: Path) -> _Requests:
    """What a file says, which is empty where there is none; lines that sdprep never wrote are ignored."""
    found = _Requests()
    try:
        data = read_limited(path, FILE_LIMIT)
    except FileNotFoundError:
        return found
    except OSError as error:
        raise _failed(path, error) from error
    for line in data.splitlines():
        if match := LINE.fullmatch(line):
            sign, _, key = line.decode().partition(" ")
            found.take(sign, (match[1] or b"").decode(), key if match[2] else None)
    return found


def _write(path: Path, requests: set[str], end: str = "") -> None:
    try:
        replace_file(path, ["".join([*(f"+ {key}\n" for key in sorted(requests)), end]).encode()])
    except OSError as error:
        raise _failed(path, error) from error


def _image(digest: bytes) -> str:
    return digest.hex()[:16]


def _failed(path: Path, error: OSError) -> CatalogFailed:
    return CatalogFailed(f"{path} cannot be used: {error.strerror}")
