"""The segments of JPEG files and the chunks of PNG files, for what a decoder accepts or rejects without need.

libjpeg fills what is missing of an image with grey, without an error if the file ends in an end marker. Pillow rejects
a PNG with a damaged or large chunk of text, which other programs leave out.
"""

from __future__ import annotations

import os
import random
import zlib
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

# Where data of a JPEG is missing, its colours are the middle of their range. Pillow inverts CMYK.
FILLED = {127, 128}
# What is inserted after the data of a scan. Any bits make other pixels than grey; after them come restart intervals,
# since in a JPEG that is divided into such intervals the next one may be missing.
NOISE = random.Random(0).randbytes(4096).replace(b"\xff", b"\xfe")
MORE_DATA = NOISE + b"".join(bytes((0xFF, 0xD0 + number % 8)) + NOISE for number in range(16))
SCAN, END = b"\xff\xda", b"\xff\xd9"
FRAMES = frozenset({0xC0, 0xC1, 0xC2})
WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
COEFFICIENTS = 64

PNG = b"\x89PNG\r\n\x1a\n"
# The chunks that decide the pixels or the frames of a PNG; without the others it is the same image.
ESSENTIAL = frozenset({b"tRNS", b"eXIf", b"acTL", b"fcTL", b"fdAT"})
# A PNG of 100 megapixels has some 50,000 chunks.
MOST_CHUNKS = 500_000
# Bytes of a chunk before the pixels; a palette has 780.
LARGEST_CHUNK = 1 << 20


def with_more_data(data: bytes, image: Image.Image) -> bytes | None:
    """A JPEG with data inserted at the end of its last scan; None if nothing suggests that data is missing there.

    The pixels differ from those of `image`, which was decoded from `data`, only if some of them were missing. What
    lacks nothing but the last bits of a progressive image gives None.
    """
    frame, start = _frame(data)
    is_suspect = _is_unfinished(data, frame, start) if "progressive" in image.info else _ends_in_grey(image)
    end = data.find(END, start) if frame and is_suspect else -1
    # Data cannot end in this byte: a marker begins with it.
    while end > 0 and data[end - 1] == 0xFF:
        end -= 1
    return data[:end] + MORE_DATA + data[end:] if end > 0 else None


def _ends_in_grey(image: Image.Image) -> bool:
    last = image.getpixel((image.width - 1, image.height - 1))
    return FILLED.issuperset(last if isinstance(last, tuple) else (last,))


def _is_unfinished(data: bytes, frame: int, start: int) -> bool:
    """Whether the scans of a progressive JPEG leave out a coefficient, or its last bits; the format allows that."""
    finished: set[tuple[int, int]] = set()
    # This marker cannot be part of the data of a scan.
    while start >= 0:
        count = data[start + 4]
        components, rest = data[start + 5 : start + 5 + 2 * count : 2], start + 5 + 2 * count
        first, last, low_bit = data[rest], data[rest + 1], data[rest + 2] & 15
        if low_bit == 0:
            finished.update((name, each) for name in components for each in range(first, min(last + 1, COEFFICIENTS)))
        start = data.find(SCAN, rest)
    return len(finished) < COEFFICIENTS * data[frame + 9]


def _frame(data: bytes) -> tuple[int, int]:
    """Where the frame header and the first scan of a JPEG begin; 0 and -1 without them."""
    frame, at = 0, 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == SCAN[1]:
            return frame, at
        if marker == 0xFF or marker in WITHOUT_LENGTH:
            # A filler byte, or a marker by itself.
            at += 1 if marker == 0xFF else 2
            continue
        frame = at if marker in FRAMES else frame
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return 0, -1


def without_metadata(stream: IO[bytes], *, header_only: bool = False) -> bytes | None:
    """A PNG without its text, profile and other chunks that do not decide its pixels; None if there are none.

    An EXIF block stays if its checksum is right, since it may say how the image is turned. With `header_only` the
    result ends where the pixels begin, and little of a large file is read.
    """
    if stream.read(len(PNG)) != PNG:
        return None
    kept, dropped = [PNG], False
    for _ in range(MOST_CHUNKS):
        head = stream.read(8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if len(head) < 8 or (header_only and kind == b"IDAT"):
            return b"".join((*kept, head)) if dropped else None
        if not _is_needed(kind):
            dropped = True
            stream.seek(length + 4, os.SEEK_CUR)
        elif header_only and length > LARGEST_CHUNK:
            return None
        else:
            body = stream.read(length + 4)
            is_sound = kind != b"eXIf" or zlib.crc32(kind + body[:-4]) == int.from_bytes(body[-4:], "big")
            kept += [head, body] if is_sound else []
            dropped = dropped or not is_sound
    return None


def _is_needed(kind: bytes) -> bool:
    """Whether a chunk may belong to the image: a critical one, which begins with a capital, or one of a few others."""
    return kind[:1].isupper() or not kind.isalpha() or kind in ESSENTIAL
