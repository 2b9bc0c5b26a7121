"""Images damaged at random go through whole runs: each has one outcome, in bounded memory, and harms no other.

`--images N` says how many; each number gives the same image in every run.
"""

import random
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sdprep.config import MergeSettings, PathOptions
from sdprep.tasks.merge import merge
from sdprep.types import FailureCode
from tests.corpus import HEIC, JXL
from tests.images.bombs import behind, exif_bomb, good, in_segments
from tests.images.files import NOISE, chunk, encoded, exif
from tests.stories.telling import codes, tag, texts

# A damaged header may claim up to this, and such images are decoded.
MAX_PIXELS = 1_000_000
# What a run over them may take besides the program.
ROOM = 2**30
TOGETHER = 100
GOOD = 3
PALETTE = NOISE.quantize(16)
# What a damaged image may come to: nothing that would blame the disk, the model or the memory.
EXPECTED = {"empty_file", "not_an_image", "truncated", "corrupt", "too_large", "missing_decoder"}
assert {code.value for code in FailureCode} >= EXPECTED


def animated(kind: str) -> bytes:
    return encoded(NOISE, kind, save_all=True, append_images=[Image.new("RGB", NOISE.size), NOISE])


SEEDS = [
    encoded(NOISE, "JPEG", exif=exif(6)),
    encoded(NOISE, "JPEG", progressive=True),
    encoded(NOISE.convert("CMYK"), "JPEG"),
    animated("MPO"),
    encoded(NOISE, exif=exif(8)),
    encoded(PALETTE, transparency=3),
    encoded(NOISE.convert("LA")),
    encoded(NOISE.convert("I;16")),
    encoded(NOISE.convert("1")),
    animated("PNG"),
    encoded(NOISE, "WEBP", lossless=True),
    encoded(NOISE.convert("RGBA"), "WEBP", exif=exif(3)),
    animated("WEBP"),
    encoded(PALETTE, "GIF", transparency=2),
    animated("GIF"),
    encoded(NOISE, "BMP"),
    encoded(PALETTE, "BMP"),
    encoded(NOISE, "AVIF", exif=exif(5)),
    animated("AVIF"),
    HEIC,
    JXL,
]


# Damages


def flipped(data: bytes, chance: random.Random) -> bytes:
    """Some bytes anywhere are others."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 20)):
        found[chance.randrange(len(found))] = chance.choice((0, 1, 127, 128, 255, chance.randrange(256)))
    return bytes(found)


def other_header(data: bytes, chance: random.Random) -> bytes:
    """Some of the first bytes are others."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        found[chance.randrange(min(64, len(found)))] = chance.randrange(256)
    return bytes(found)


def cut(data: bytes, chance: random.Random) -> bytes:
    """The end is missing."""
    return data[: chance.randrange(len(data))]


def moved(data: bytes, chance: random.Random) -> bytes:
    """A part is missing, doubled, or full of zeros."""
    start = chance.randrange(len(data))
    end = min(len(data), start + chance.choice((1, 4, 100, 5000)))
    return data[:start] + chance.choice((b"", data[start:end] * 2, bytes(end - start))) + data[end:]


def longer(data: bytes, chance: random.Random) -> bytes:
    """Another image, or rubbish, lies behind it."""
    return data + chance.choice((chance.choice(SEEDS), chance.randbytes(3000), bytes(70_000)))


def other_metadata(data: bytes, chance: random.Random) -> bytes:
    """There is another EXIF block: a bomb, or rubbish that looks like one."""
    block = chance.choice((exif_bomb(50_000), b"II*\0\x08\0\0\0" + chance.randbytes(300), chance.randbytes(100)))
    if data.startswith(b"\x89PNG"):
        return behind(33, data, chunk(chance.choice((b"eXIf", b"iCCP", b"iTXt", b"zTXt", b"gAMA")), block))
    if data.startswith(b"\xff\xd8"):
        return behind(2, data, in_segments(block))
    if data.startswith(b"GIF"):
        return behind(13, data, b"\x21\xff\x0bXMP DataXMP" + b"".join(b"\x05abcde" for _ in range(99)) + b"\0")
    return flipped(data, chance)


def other_chunks(data: bytes, chance: random.Random) -> bytes:
    """The chunks of a PNG are others, in another order, or of other content, each with its right checksum."""
    if not data.startswith(b"\x89PNG"):
        return moved(data, chance)
    chunks, place = [], 8
    while place < len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(chunks))
        kind, content = chunks[at]
        act = chance.randrange(5)
        if act == 0 and len(chunks) > 1:
            del chunks[at]
        elif act == 1:
            chunks.insert(chance.randrange(len(chunks)), (kind, content))
        elif act == 2:
            chunks[at] = kind, flipped(content, chance) if content else b"\0"
        elif act == 3:
            chunks[at] = chance.choice((b"PLTE", b"tRNS", b"acTL", b"fcTL", b"IDAT", b"IEND", b"eXIf")), content
        else:
            chunks[at] = kind, content[: chance.randrange(len(content) + 1)]
    return data[:8] + b"".join(chunk(*each) for each in chunks)


def other_sides(data: bytes, chance: random.Random) -> bytes:
    """The header of a PNG says something else, with the right checksum: sides, depth, kind of colour, order."""
    if not data.startswith(b"\x89PNG"):
        return other_header(data, chance)
    sides = b"".join(chance.choice((0, 1, 2**31 - 1, chance.randrange(3000))).to_bytes(4, "big") for _ in range(2))
    rest = bytes((chance.choice((1, 2, 4, 8, 16)), chance.randrange(7), 0, 0, chance.randrange(2)))
    return data[:8] + chunk(b"IHDR", sides + rest) + data[33:]


def other_pixels(data: bytes, chance: random.Random) -> bytes:
    """A PNG is followed by rows of other length than its header says."""
    if not data.startswith(b"\x89PNG"):
        return flipped(data, chance)
    rows = zlib.compress(bytes(chance.choice((0, 1, 100_000))))
    return data[:33] + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


DAMAGES: list[Callable[[bytes, random.Random], bytes]] = [
    flipped,
    other_header,
    cut,
    moved,
    longer,
    other_metadata,
    other_chunks,
    other_sides,
    other_pixels,
]


# Runs


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Inside, this process has no more than so many further addresses, where the system can say so."""
    if sys.platform != "linux":
        yield
        return
    import resource

    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def damaged(folder: Path, numbers: range) -> None:
    """Write a damaged image for each number; the same number gives the same one."""
    for number in numbers:
        chance = random.Random(number)
        data = chance.choice(SEEDS)
        for _ in range(chance.randint(1, 2)):
            data = chance.choice(DAMAGES)(data, chance) if data else data
        (folder / f"damaged-{number}.{chance.choice(('png', 'jpg', 'webp', 'gif', 'avif', 'bmp'))}").write_bytes(data)


def outcomes(report: Any) -> tuple[set[str], int, dict[str, str]]:
    """The codes and how many have none; the report has each image once."""
    found = codes(report)
    assert report.uncounted == report.remaining == 0
    assert len(found) == report.failed
    return set(found.values()), report.found - report.failed, found


def test_each_of_many_damaged_images_has_one_outcome_and_harms_no_other(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    many = request.config.getoption("--images")
    for start in range(0, many, TOGETHER):
        folder = tmp_path / str(start)
        folder.mkdir()
        damaged(folder, range(start, min(many, start + TOGETHER)))
        good(folder, GOOD)
        with bounded_memory():
            first = outcomes(tag(folder, max_pixels=MAX_PIXELS))
            again = outcomes(tag(folder, max_pixels=MAX_PIXELS))
            lenient = outcomes(tag(folder, max_pixels=MAX_PIXELS, allow_truncated=True, exact_decode=True))
            merged = outcomes(merge(folder, MergeSettings(paths=PathOptions())))
        for found in (first, lenient, merged):
            assert found[0] <= EXPECTED
        assert first == again
        assert {f"good-{number}.txt" for number in range(GOOD)} <= set(texts(folder))
