"""What a header tells about an image besides its size: whether it is turned, and whether it may be transparent."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import IO

from PIL import Image

from sdprep.errors import ImageError
from sdprep.folders import Folders, open_item
from sdprep.images.header import webp_size
from sdprep.images.opening import TURNS, open_image, size_of, turn_of, without_pillow_warnings
from sdprep.types import FailureCode, ImageItem

TRANSPARENT_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
ORIENTATION = 0x0112
# The turns that swap width and height.
SIDEWAYS = frozenset(
    {
        Image.Transpose.ROTATE_90,
        Image.Transpose.ROTATE_270,
        Image.Transpose.TRANSPOSE,
        Image.Transpose.TRANSVERSE,
    }
)
WEBP_HEAD, WEBP_ALPHA, WEBP_EXIF = 30, 0x10, 0x08
# A WebP file has some five chunks, an animation one per frame. Real EXIF blocks are below 64 kB.
MOST_CHUNKS, LARGEST_EXIF = 10_000, 1 << 20


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Width and height as stored, how EXIF turns the image, and whether it has an alpha channel or the like."""

    size: tuple[int, int]
    turn: Image.Transpose | None
    has_alpha: bool

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height of the image after it is turned."""
        return self.size[::-1] if self.turn in SIDEWAYS else self.size


@without_pillow_warnings.turned_on()
def read_facts(item: ImageItem, folders: Folders | None = None) -> ImageFacts:
    """The facts of an image, from its header alone. Raises ImageError with the code of what is wrong with the file."""
    try:
        with open_item(item, folders=folders) as stream:
            head = stream.read(WEBP_HEAD)
            stream.seek(0)
            if webp_size(head) is not None:
                # Pillow would decode it.
                return ImageFacts(size_of(stream), _turn_of_webp(stream, head), _is_transparent_webp(head))
            image = open_image(stream, whole=False)
            may_be = image.mode in TRANSPARENT_MODES or "transparency" in image.info
            return ImageFacts(image.size, turn_of(image), may_be)
    except OSError as error:
        raise ImageError(FailureCode.UNREADABLE, error.strerror or str(error)) from error


def _is_transparent_webp(head: bytes) -> bool:
    if head[12:16] == b"VP8X":
        return bool(head[20] & WEBP_ALPHA)
    return head[12:16] == b"VP8L" and bool(head[24] & 0x10)


def _turn_of_webp(stream: IO[bytes], head: bytes) -> Image.Transpose | None:
    if head[12:16] != b"VP8X" or not head[20] & WEBP_EXIF:
        return None
    stream.seek(12)
    for _ in range(MOST_CHUNKS):
        start = stream.read(8)
        length = int.from_bytes(start[4:], "little")
        if len(start) < 8:
            break
        if start[:4] == b"EXIF":
            return _turn_in(stream.read(min(length, LARGEST_EXIF)))
        stream.seek(length + length % 2, os.SEEK_CUR)
    return None


def _turn_in(block: bytes) -> Image.Transpose | None:
    exif = Image.Exif()
    try:
        exif.load(block if block.startswith(b"Exif") else b"Exif\0\0" + block)
        return TURNS.get(exif.get(ORIENTATION, 1))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - the parser raises anything about a broken block
        return None
