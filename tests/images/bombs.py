"""Small files that would take much memory, or much time, if what they claim were believed."""

import struct
import zlib
from pathlib import Path

from PIL import Image

from tests.images.files import chunk, encoded, plain

SMALL = plain("RGB", (200, 30, 90), (32, 24))
# Larger than any image file that is read.
ENORMOUS = 6 * 2**30


def png(width: int, height: int, color: int = 2, before: bytes = b"", rows: bytes = b"\0\0\0\0") -> bytes:
    """A PNG of these sides with chunks before its pixels, of which there may be too few."""
    header = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + pixels


def exif_bomb(size: int) -> bytes:
    """An EXIF block whose every entry claims the same half of it as its value."""
    entries = size // 24
    start = 10 + 12 * entries + 4
    values = size - start
    each = b"".join(struct.pack("<HHII", 1 + number, 7, values, start) for number in range(entries))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", entries) + each + bytes(4) + bytes(values)


def in_segments(block: bytes) -> bytes:
    """An EXIF block as JPEG segments."""
    parts = [block[place : place + 65_000] for place in range(0, len(block), 65_000)]
    return b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 8) + b"Exif\0\0" + part for part in parts)


def behind(start: int, data: bytes, more: bytes) -> bytes:
    """An image with more bytes behind its first ones."""
    return data[:start] + more + data[start:]


def raw_profile(block: bytes) -> bytes:
    """A PNG chunk with an EXIF block in it, packed."""
    text = f"\nexif\n  {len(block)}\n{block.hex()}".encode()
    return chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text, 9))


EXIF = exif_bomb(300_000)
WEBP_CANVAS = b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + (16_382).to_bytes(3, "little") * 2
# What each is as bytes, what decoding says of it, and what reading its size does: a size, or a code.
BOMBS: dict[str, tuple[bytes, str, str]] = {
    "sides-of-34000.png": (png(34_000, 34_000), "too_large", "34000x34000"),
    "a-side-of-90-million.png": (png(90_000_000, 1), "too_large", "90000000x1"),
    "no-palette.png": (png(1, 1, color=3, rows=b"\0\0"), "corrupt", "1x1"),
    "exif.jpg": (behind(2, encoded(SMALL, "JPEG"), in_segments(EXIF)), "decoded", "32x24"),
    "exif.png": (png(1, 1, before=chunk(b"eXIf", EXIF)), "decoded", "1x1"),
    "exif.webp": (encoded(SMALL, "WEBP", exif=EXIF), "decoded", "32x24"),
    "exif-packed.png": (png(1, 1, before=raw_profile(exif_bomb(240_000))), "decoded", "1x1"),
    "segments.jpg": (behind(2, encoded(SMALL, "JPEG"), b"\xff\xe0\0\2" * 2_000_000), "too_large", "too_large"),
    "extensions.gif": (behind(13, encoded(SMALL, "GIF"), b"\x21\xfe\x01a\0" * 2_000_000), "too_large", "too_large"),
    "chunks.png": (png(1, 1, before=chunk(b"prVt", b"") * 1_000_000), "too_large", "too_large"),
    "canvas.webp": (WEBP_CANVAS, "too_large", "16383x16383"),
    "brands.avif": (struct.pack(">I", 20_000_000) + b"ftypavif" + bytes(20_000_000), "corrupt", "corrupt"),
    "boxes.avif": (b"\0\0\0\x18ftypavif\0\0\0\0mif1avif" + b"\0\0\0\x08free" * 2_000_000, "corrupt", "corrupt"),
}
# The first bytes of files of ENORMOUS size, which takes no room on disk.
SPARSE: dict[str, tuple[bytes, str, str]] = {
    "zeros.png": (b"", "too_large", "not_an_image"),
    "sparse.png": (png(8, 8)[:40], "too_large", "truncated"),
    "text.png": (png(8, 8)[:33] + struct.pack(">I", 2**31 - 1) + b"tEXt", "too_large", "too_large"),
    "sparse.jpg": (encoded(SMALL, "JPEG")[:20], "too_large", "too_large"),
    "sparse.gif": (encoded(SMALL, "GIF")[:13] + b"\x21\xfe\xff", "too_large", "too_large"),
    "sparse.webp": (encoded(SMALL, "WEBP"), "too_large", "32x24"),
    "sparse.avif": (encoded(SMALL, "AVIF"), "too_large", "32x24"),
    "sparse.bmp": (encoded(SMALL, "BMP"), "too_large", "32x24"),
}


def write(folder: Path) -> dict[str, tuple[str, str]]:
    """Put all of them into a folder; what each comes to."""
    for name, (data, _, _) in {**BOMBS, **SPARSE}.items():
        with (folder / name).open("wb") as stream:
            stream.write(data)
            if name in SPARSE:
                stream.truncate(ENORMOUS)
    return {name: (decoded, size) for name, (_, decoded, size) in {**BOMBS, **SPARSE}.items()}


def good(folder: Path, count: int) -> None:
    """Small sound images, no two alike."""
    for number in range(count):
        Image.new("RGB", (32, 32), (number, 90, 10)).save(folder / f"good-{number}.png")
