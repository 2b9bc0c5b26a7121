"""Image files of every kind, made in memory."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sdprep.images.decode import decode
from sdprep.types import Decoded, Failure, Fit, ImageItem

FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"]
NOISE = Image.fromarray(np.random.default_rng(7).integers(0, 256, (40, 56, 3), dtype=np.uint8))
SQUARE = Fit(8, "squash")


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def plain(mode: str, color: Any, size: tuple[int, int] = (6, 4)) -> Image.Image:
    return Image.new(mode, size, color)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def raw_png(size: tuple[int, int], depth: int, color: int, row: bytes, extra: bytes = b"") -> bytes:
    """A PNG written by hand, of one row; `color` is the colour type of the format."""
    header = struct.pack(">IIBBBBB", *size, depth, color, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + body


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def item_of(path: Path) -> ImageItem:
    return ImageItem.at(path)


def decoded(folder: Path, data: bytes, fit: Fit = SQUARE, name: str = "a.jpg") -> Decoded | Failure:
    (folder / name).write_bytes(data)
    return decode(item_of(folder / name), fit)
