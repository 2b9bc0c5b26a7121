"""Sidecars: how they are named, read and written."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import shutil
import tempfile
from pathlib import Path

from sdprep.errors import ImageError, ReadOnlyFolder
from sdprep.types import FailureCode

# What says that nothing can be written in a folder.
FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def sidecar_path(target: Path, extension: str, naming: str) -> Path:
    """The sidecar of a picture: `a.txt` for "stem", `a.jpg.txt` for "full"."""
    stem = target.name if naming == "full" else target.stem
    return target.with_name(stem + extension)


def read_bytes(path: Path) -> bytes | None:
    """The bytes of a sidecar, or None where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


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


def read_text(path: Path) -> str | None:
    """The text of a sidecar, None where there is none. Raises ImageError `bad_text` if it is no text."""
    data = read_bytes(path)
    if data is None:
        return None
    text = decode_text(data)
    if text is None:
        raise ImageError(FailureCode.BAD_TEXT, f"{path.name} is neither UTF-8 nor UTF-16; save it as UTF-8")
    return text


def replace_file(path: Path, data: bytes, temporary: Path) -> None:
    """Put `data` in place of a file in one step, by way of `temporary` in the same folder.

    A reader sees the old bytes or the new ones, never a part. The mode of a file that was there is kept.
    """
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(path, temporary)
        os.replace(temporary, path)  # noqa: PTH105 - the one call that is atomic everywhere
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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
