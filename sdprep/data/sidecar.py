"""Sidecars: how they are named, read and written."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

from sdprep.confine import is_inside
from sdprep.errors import ImageError, ReadOnlyFolder
from sdprep.types import FailureCode

# What says that nothing can be written in a folder.
FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
# What says that there is no file, or can be none of this name.
NO_FILE = frozenset({errno.ENOENT, errno.ENAMETOOLONG})


def sidecar_name(picture: str, extension: str, naming: str) -> str:
    """The sidecar of a picture, both by name or by path with forward slashes.

    It is `a.txt` for "stem", `a.jpg.txt` for "full".
    """
    dot = picture.rfind(".")
    return (picture if naming == "full" or dot <= picture.rfind("/") + 1 else picture[:dot]) + extension


def sidecar_path(target: Path, extension: str, naming: str) -> Path:
    """The sidecar of a picture as a path."""
    return target.with_name(sidecar_name(target.name, extension, naming))


def read_bytes(path: Path | str) -> bytes | None:
    """The bytes of a file, or None where there is none, or can be none since its name is too long.

    Raises PermissionError for pipes and devices, which may have no end.
    """
    try:
        ends = _has_an_end(os.stat(path).st_mode)  # noqa: PTH116 - as below
    except OSError:
        # Reading says what it is.
        ends = True
    if not ends:
        raise PermissionError(errno.EACCES, "it is no ordinary file", str(path))
    return _read(path)


def _has_an_end(mode: int) -> bool:
    """Whether a file is no pipe or device; of a folder, reading says itself what it is."""
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _read(path: Path | str) -> bytes | None:
    try:
        # Read in one go: a buffer would only cost time.
        with open(path, "rb", buffering=0) as stream:  # noqa: PTH123 - a path that is no Path, a million times
            return stream.readall()
    except OSError as error:
        if error.errno in NO_FILE:
            return None
        raise


def read_inside(path: Path | str, root: Path) -> bytes | None:
    """The bytes of a sidecar, or None where there is none.

    Raises ImageError `unreadable` for a link that leaves the folder `root`, and for pipes and devices.
    """
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            if not is_inside(Path(path), root):
                message = f"is a link that leaves {root}, which is not followed; replace it with a copy"
                raise ImageError(FailureCode.UNREADABLE, f"{Path(path).name} {message}")
            mode = Path(path).stat().st_mode
    except OSError as error:
        if error.errno in NO_FILE:
            return None
        raise
    if not _has_an_end(mode):
        raise ImageError(FailureCode.UNREADABLE, f"{Path(path).name} is no ordinary file")
    return _read(path)


def decode_text(data: bytes) -> str | None:
    """The text of a sidecar: UTF-8 with or without a byte order mark, or UTF-16 with one; None if it is neither."""
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def encode_text(text: str) -> bytes:
    """The bytes of a sidecar: UTF-8, LF, one final newline.

    A text without content is a lone newline, since sd-scripts stops at a file of 0 bytes.
    """
    return (text.rstrip("\n") + "\n").encode("utf-8")


def read_text(path: Path, root: Path) -> str | None:
    """The text of a sidecar, None where there is none.

    Raises ImageError `bad_text` if it is no text, and what `read_inside` raises.
    """
    data = read_inside(path, root)
    if data is None:
        return None
    text = decode_text(data)
    if text is None:
        raise ImageError(FailureCode.BAD_TEXT, f"{path.name} is neither UTF-8 nor UTF-16; save it as UTF-8")
    return text


def replace_file(path: Path, data: bytes | Iterable[bytes], temporary: Path) -> None:
    """Put `data`, whole or in parts, in place of a file in one step, by way of `temporary` in the same folder.

    A reader sees the old bytes or the new ones, never a part. The mode of a file that was there is kept. What already
    has the name of the temporary file, a link above all, is neither followed nor written: FileExistsError.
    """
    stream = open(temporary, "xb", opener=_no_follow)  # noqa: SIM115 - Path.open takes no opener
    try:
        with stream:
            stream.writelines((data,) if isinstance(data, bytes) else data)
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(path, temporary)
        os.replace(temporary, path)  # noqa: PTH105 - the one call that is atomic everywhere
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _no_follow(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def write_obstacle(folder: Path) -> OSError | None:
    """What forbids to make files in a folder, or in the nearest one above that exists; None if nothing does."""
    while not folder.exists():
        folder = folder.parent
    try:
        # Without a name where the system can do that, so that nothing is left behind whatever happens.
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error if error.errno in FORBIDDEN else None


def check_writable(folder: Path, advice: str) -> None:
    """Raise ReadOnlyFolder with an advice if no file can be made in a folder."""
    obstacle = write_obstacle(folder)
    if obstacle is not None:
        raise ReadOnlyFolder(folder, obstacle, advice)
