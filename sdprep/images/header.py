"""Limits on how much of a file is read as its header, whatever the file claims."""

from __future__ import annotations

import io
import os
import sys
from typing import IO, Any

from PIL import TiffImagePlugin

# Metadata before the pixels: EXIF, XMP, ICC profiles, comments, thumbnails. A tenth of this is already rare.
HEADER_BYTES = 32 * 2**20
# A header of many tiny pieces takes far more memory and time than its bytes. Real ones take a few hundred reads.
HEADER_READS = 20_000
# What is read at each end of a file to tell a truncated file from a damaged one.
ENDS_BYTES = 2**20


class HeaderReader:
    """A file that seems to end after some bytes or reads, until `lift` is called; `exceeded` tells whether it did."""

    def __init__(self, stream: IO[bytes], most: int = HEADER_BYTES, reads: int = HEADER_READS) -> None:
        self._stream, self._left, self._reads = stream, most, reads
        self.exceeded, self._lifted = False, False
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int | None = -1) -> bytes:
        """Return the next `size` bytes, or all, within the limits."""
        if self._lifted:
            return self._stream.read(-1 if size is None else size)
        wanted = sys.maxsize if size is None or size < 0 else size
        allowed = min(wanted, self._left) if self._reads > 0 else 0
        data = self._stream.read(allowed)
        self._left -= len(data)
        self._reads -= 1
        if len(data) == allowed < wanted:
            self.exceeded = True
        return data

    def lift(self) -> None:
        """Remove the limits."""
        self._lifted = True


def webp_size(head: bytes) -> tuple[int, int] | None:
    """Width and height from the first 30 bytes of a WebP file, or None.

    Pillow's decoder allocates memory for all pixels before it tells the size.
    """
    if not (head.startswith(b"RIFF") and head[8:12] == b"WEBP" and len(head) >= 30):
        return None
    kind = head[12:16]
    if kind == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if kind == b"VP8L" and head[20] == 0x2F:
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
        return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    return None


def riff_end(head: bytes) -> int:
    """The size that a RIFF file, such as a WebP, should have by its header."""
    return 8 + int.from_bytes(head[4:8], "little")


def both_ends(stream: IO[bytes]) -> tuple[bytes, int]:
    """The beginning and the end of a file, and its size."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    if size <= 2 * ENDS_BYTES:
        return stream.read(), size
    beginning = stream.read(ENDS_BYTES)
    stream.seek(-ENDS_BYTES, os.SEEK_END)
    return beginning + stream.read(ENDS_BYTES), size


def limit_exif() -> None:
    """Limit what Pillow reads from an EXIF block to about the size of the block.

    Each of 65,535 entries may claim the whole block as its value, and Pillow copies them: one megabyte becomes many
    gigabytes. Real values do not overlap. Pillow reads such blocks while it opens JPEG and AVIF files, and treats a
    block beyond this limit as truncated.
    """
    load = TiffImagePlugin.ImageFileDirectory_v2.load

    def limited(directory: Any, stream: IO[bytes]) -> None:
        if isinstance(stream, io.BytesIO):
            most = 4 * stream.getbuffer().nbytes + HEADER_READS
            load(directory, HeaderReader(stream, most, sys.maxsize))  # type: ignore[arg-type]
        else:
            load(directory, stream)

    TiffImagePlugin.ImageFileDirectory_v2.load = limited  # type: ignore[assignment]


limit_exif()
