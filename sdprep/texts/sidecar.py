"""Sidecars: how they are named, read and written."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from sdprep.errors import ImageError
from sdprep.folders import Folder
from sdprep.paths import stem_of
from sdprep.sanitize import NO_TEXT
from sdprep.types import Failure, FailureCode, ImageItem, ImageWarning

# Names in a message; there may be a million.
NAMES_SHOWN = 5
NO_ENCODING = "neither UTF-8 nor UTF-16 with a byte order mark"
# This many ASCII bytes in a row are not UTF-16: another program has appended them in its own encoding.
_ASCII_IN_UTF_16 = re.compile(rb"[\t\r\n -~]{12}")
# The byte order marks of sidecars, and the encodings that they tell.
MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def sidecar_name(image: str, extension: str, naming: str) -> str:
    """The sidecar of an image, both by name or by path with forward slashes.

    It is `a.txt` for "stem" and `a.jpg.txt` for "full".
    """
    return (image if naming == "full" else stem_of(image)) + extension


def sidecar_path(target: Path, extension: str, naming: str) -> Path:
    """The sidecar of an image as a path."""
    return target.with_name(sidecar_name(target.name, extension, naming))


def sidecar_collisions(items: Sequence[ImageItem], extension: str, naming: str) -> list[Failure]:
    """A failure for every image that would share its sidecar with another.

    Names are compared as on macOS and Windows, so that a dataset can be moved there. Images whose own names differ
    only in letter case are on a file system that also distinguishes their sidecars, unless those are written elsewhere.
    """
    seen: set[str] = set()
    shared: dict[str, list[ImageItem]] = {}
    for item in items:
        name = _folded(sidecar_name(item.rel, extension, naming))
        if name in seen:
            shared[name] = []
        seen.add(name)
    # Only now, since groups for a million images would double the memory and few datasets need them.
    for item in items if shared else ():
        name = _folded(sidecar_name(item.rel, extension, naming))
        if name in shared:
            shared[name].append(item)
    failures = []
    for group in shared.values():
        elsewhere = group[0].target_folder != group[0].folder
        if elsewhere or len({_folded(item.rel) for item in group}) > 1:
            names = ", ".join(item.rel for item in group[:NAMES_SHOWN])
            names += f" and {len(group) - NAMES_SHOWN} more" if len(group) > NAMES_SHOWN else ""
            message = f"{names} would share one sidecar; rename one, or use --sidecar-name full (a.jpg{extension})"
            failures += [Failure(item, FailureCode.STEM_COLLISION, message) for item in group]
    return failures


def _folded(name: str) -> str:
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


def decode_text(data: bytes) -> str | None:
    """The text of a sidecar: UTF-8 with or without a byte order mark, or UTF-16 with one; None if it is neither.

    Bytes that decode to what cannot be text give None too: text in an uncertain encoding is never extended.
    """
    is_utf_16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16") if is_utf_16 else _from_utf_8(data)
    except UnicodeDecodeError:
        return None
    if is_utf_16 and _ASCII_IN_UTF_16.search(data):
        return None
    return None if NO_TEXT.search(text) else text


def encode_like(before: bytes, text: str) -> bytes:
    """The bytes of a text in the encoding of a sidecar that can be decoded, with its byte order mark."""
    mark, encoding = next(((mark, name) for mark, name in MARKS if before.startswith(mark)), (b"", "utf-8"))
    return mark + text.encode(encoding)


def decoding_fault(name: str, data: bytes) -> str:
    """Why a sidecar cannot be decoded: the first byte that is no text, and what to do."""
    mark, encoding = next(((mark, name) for mark, name in MARKS if data.startswith(mark)), (b"", "utf-8"))
    body = data[len(mark) :]
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError as error:
        place = error.start
    else:
        found, mixed = NO_TEXT.search(text), _ASCII_IN_UTF_16.search(body)
        place = len(text[: found.start()].encode(encoding)) if found else mixed.start() if mixed else 0
    return (
        f"{name} is {NO_ENCODING}: byte {len(mark) + place} cannot be read; "
        "`sdprep import --encoding gb18030` reads another encoding"
    )


def _from_utf_8(data: bytes) -> str:
    # As "utf-8-sig", which takes three times as long.
    return data.removeprefix(codecs.BOM_UTF8).decode("utf-8")


def find_warning(data: bytes) -> ImageWarning | None:
    """What a trainer finds wrong with the bytes of a sidecar.

    sd-scripts stops at a file of 0 bytes and at one that is not UTF-8, and reads only the first line of a text.
    """
    if not data:
        return ImageWarning.EMPTY_SIDECAR
    return _warning_of_text(data) if decode_text(data) is not None else ImageWarning.NOT_UTF_8


def _warning_of_text(data: bytes) -> ImageWarning | None:
    """The same of bytes that can be decoded."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return ImageWarning.NOT_UTF_8
    lines = data.rstrip()
    return ImageWarning.SEVERAL_LINES if b"\n" in lines or b"\r" in lines else None


def encode_text(text: str) -> bytes:
    """The bytes of a sidecar: UTF-8, LF, one final newline.

    A text without content is a lone newline, since sd-scripts stops at a file of 0 bytes.
    """
    return (text.rstrip("\n") + "\n").encode("utf-8")


def read_text(folder: Folder, name: str) -> tuple[str | None, ImageWarning | None]:
    """The text of a sidecar, None where there is none, and what a trainer finds wrong with it.

    Raises ImageError `bad_text` if it cannot be decoded, and OSError as `Folder.read`.
    """
    data = folder.read(name)
    if data is None:
        return None, None
    text = decode_text(data)
    if text is None:
        raise ImageError(FailureCode.BAD_TEXT, f"{name} is {NO_ENCODING}; save it as UTF-8")
    return text, _warning_of_text(data) if data else ImageWarning.EMPTY_SIDECAR
