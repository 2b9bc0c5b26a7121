"""HEIC and JPEG XL, whose decoders are an extra of sdprep."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from sdprep.errors import ImageError
from sdprep.installation import here
from sdprep.types import FailureCode

# Pillow's name of each format, and the module that decodes it.
MODULES = {"HEIF": "pillow_heif", "JXL": "pillow_jxl"}
HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"})
AVIF_BRANDS = frozenset({b"avif", b"avis"})
JXL_STREAM = b"\xff\x0a"
JXL_BOXES = b"\0\0\0\x0cJXL \r\n\x87\n"
STREAM_BOXES = (b"jxlc", b"jxlp")
# Real files have about ten boxes at the top level, and about forty bytes of brands.
MOST_BOXES, MOST_BRANDS = 10_000, 4096
# Ratios of width to height in the header of JPEG XL.
RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
# The number of bits and the smallest value of a side, by the two bits before it.
SIDES = ((9, 1), (13, 1), (18, 1), (30, 1))


def recognised(head: bytes) -> str | None:
    """Pillow's name of the format if the first bytes of a file are HEIC or JPEG XL, else None."""
    if head.startswith((JXL_STREAM, JXL_BOXES)):
        return "JXL"
    return "HEIF" if _brands(head) & HEIC_BRANDS and head[8:12] not in AVIF_BRANDS else None


def is_image_in_boxes(head: bytes) -> bool:
    """Whether a file is HEIC, AVIF, or JPEG XL in boxes, intact or not."""
    return head.startswith(JXL_BOXES) or bool(_brands(head) & (HEIC_BRANDS | AVIF_BRANDS))


def _brands(head: bytes) -> set[bytes]:
    if head[4:8] != b"ftyp":
        return set()
    head = head[:MOST_BRANDS]
    end = int.from_bytes(head[:4], "big")
    return {head[place : place + 4] for place in (8, *range(16, min(end, len(head)), 4))}


def prepare(name: str, head: bytes) -> tuple[int, int] | None:
    """Register a decoder with Pillow; return the image size if the decoder tells it only after decoding.

    Raises ImageError `missing_decoder` if the decoder is not installed or cannot be loaded, and `corrupt`.
    """
    kind = {"HEIF": "HEIC", "JXL": "JPEG XL"}[name]
    if find_spec(MODULES[name]) is None:
        message = f"{kind} needs a decoder that is not installed: {here().install_extra('heic')}"
        raise ImageError(FailureCode.MISSING_DECODER, message)
    try:
        _register(name)
    except (ImportError, OSError) as error:
        message = f"{kind}: {MODULES[name]} is installed but cannot be loaded ({error}); fix it, then `sdprep retry`"
        raise ImageError(FailureCode.MISSING_DECODER, message) from error
    return jxl_size(head) if name == "JXL" else None


def _register(name: str) -> None:
    if name == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    else:
        import pillow_jxl  # noqa: F401 - importing it registers it


def jxl_size(head: bytes) -> tuple[int, int]:
    """Width and height of a decoded JPEG XL file (ISO/IEC 18181-1, SizeHeader and ImageMetadata).

    Raises ImageError `corrupt` if they are not in the first bytes.
    """
    stream = head if head.startswith(JXL_STREAM) else _stream_in_boxes(head)
    if not stream.startswith(JXL_STREAM):
        raise ImageError(FailureCode.CORRUPT, "JXL: its size is not in its first bytes")
    bits = int.from_bytes(stream[2:12], "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    def side(*, small: bool) -> int:
        if small:
            return 8 * (1 + take(5))
        count, least = SIDES[take(2)]
        return take(count) + least

    small = bool(take(1))
    height = side(small=small)
    ratio = take(3)
    across, down = RATIOS[ratio - 1]
    width = side(small=small) if ratio == 0 else height * across // down
    # The decoder turns all but recompressed JPEGs; the last four orientations swap width and height.
    has_orientation = not take(1) and take(1)
    turned = has_orientation and take(3) >= 4 and all(kind != b"jbrd" for kind, _ in _boxes(head))
    return (height, width) if turned else (width, height)


def _stream_in_boxes(head: bytes) -> bytes:
    """The beginning of the code stream: one box of kind `jxlc`, or the parts in all boxes of kind `jxlp`."""
    parts = [content if kind == b"jxlc" else content[4:] for kind, content in _boxes(head) if kind in STREAM_BOXES]
    return b"".join(parts)


def end_of_boxes(data: bytes) -> int:
    """The size that a file should have by the headers of its boxes; a truncated one is smaller."""
    end = 0
    for _, start, end in _places(data):  # noqa: B007 - the last one is wanted
        pass
    return end


def _boxes(head: bytes) -> Iterator[tuple[bytes, bytes]]:
    return ((kind, head[start:end]) for kind, start, end in _places(head))


def _places(head: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The boxes of a file: kind, start and end of the content."""
    place = 0
    for _ in range(MOST_BOXES):
        if place + 8 > len(head):
            return
        size, kind, start = int.from_bytes(head[place : place + 4], "big"), head[place + 4 : place + 8], place + 8
        if size == 1:
            size, start = int.from_bytes(head[start : start + 8], "big"), start + 8
        end = place + size if size else len(head)
        yield kind, start, end
        if end < start:
            return
        place = end
