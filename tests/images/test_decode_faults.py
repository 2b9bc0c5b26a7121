"""What is wrong with a file becomes a code; what does not matter about it spoils nothing."""

import hashlib
import struct
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sdprep.errors import ImageError
from sdprep.images.decode import decode, open_rgb, read_size
from sdprep.types import MAX_PIXELS, Decoded, Failure, FailureCode, Fit, ImageItem
from tests.images.files import FORMATS, NOISE, SQUARE, decoded, encoded, item_of, plain, raw_png


def code_of(data: bytes) -> FailureCode:
    with pytest.raises(ImageError) as caught:
        open_rgb(data)
    return caught.value.code


@pytest.mark.parametrize("kind", ["TIFF", "PDF", "PPM", "ICO", "TGA", "PCX", "SGI", "EPS", "MSP", "ICNS", "JPEG2000"])
def test_no_format_outside_the_list_is_opened(kind: str) -> None:
    image = plain("1" if kind == "MSP" else "RGB", 0, (16, 16))
    assert code_of(encoded(image, kind)) is FailureCode.NOT_AN_IMAGE


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_that_ends_early_is_truncated(kind: str) -> None:
    data = encoded(NOISE, kind)
    assert code_of(data[: len(data) * 9 // 10]) is FailureCode.TRUNCATED


@pytest.mark.parametrize("length", [8, 100, 400])
def test_a_jpeg_that_ends_in_its_header_is_truncated(length: int) -> None:
    assert code_of(encoded(NOISE, "JPEG")[:length]) is FailureCode.TRUNCATED


@pytest.mark.parametrize("length", [20, 60])
def test_a_png_that_ends_in_its_header_is_truncated(length: int) -> None:
    assert code_of(encoded(NOISE)[:length]) is FailureCode.TRUNCATED


def test_an_empty_file_says_so() -> None:
    assert code_of(b"") is FailureCode.EMPTY_FILE


@pytest.mark.parametrize("data", [b"<!DOCTYPE html><html>403</html>", b"hello", b"\0" * 64, "日本".encode()])
def test_what_is_no_image_says_so(data: bytes) -> None:
    assert code_of(data) is FailureCode.NOT_AN_IMAGE


def test_a_png_with_a_damaged_middle_is_corrupt() -> None:
    data = bytearray(encoded(NOISE))
    data[len(data) // 2] ^= 0xFF
    assert code_of(bytes(data)) is FailureCode.CORRUPT


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(MAX_PIXELS // 10_000 + 1, 10_000), (60_000, 60_000)], ids=["just above", "a bomb"])
def test_too_many_pixels_are_refused_before_any_is_decoded(size: tuple[int, int]) -> None:
    assert code_of(raw_png(size, 8, 2, b"")) is FailureCode.TOO_LARGE


def test_a_long_strip_is_never_padded_beyond_the_limit_of_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, sides = Image.new, []
    monkeypatch.setattr(Image, "new", lambda mode, size, *rest: sides.append(size) or new(mode, (1, 1), *rest))
    data = encoded(Image.fromarray(np.zeros((40_000, 2), dtype=np.uint8)))
    decoded(tmp_path, data, Fit(8, "pad", exact=True))
    assert all(width * height <= MAX_PIXELS for width, height in sides)


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").mkdir()
    outcome = decode(item_of(tmp_path / "a.jpg"), SQUARE)
    assert isinstance(outcome, Failure)
    assert (outcome.code, outcome.digest) == (FailureCode.UNREADABLE, None)


def test_a_failure_of_the_bytes_carries_their_digest(tmp_path: Path) -> None:
    outcome = decoded(tmp_path, b"no image")
    assert outcome.digest == hashlib.sha256(b"no image").digest()


SEEDS = [encoded(NOISE, kind) for kind in FORMATS]


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8), st.floats(0, 1))
def test_no_damage_to_a_file_raises(tmp_path_factory: Any, seed: bytes, changes: list[Any], kept: float) -> None:
    data = bytearray(seed)
    for place, value in changes:
        data[int(place * (len(data) - 1))] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome = decoded(tmp_path_factory.getbasetemp(), bytes(data[: int(kept * len(data)) + 1]), name="fuzz")
    assert isinstance(outcome, Decoded | Failure)


@pytest.mark.parametrize(
    ("data", "code"), [(b"", FailureCode.EMPTY_FILE), (b"text", FailureCode.NOT_AN_IMAGE)], ids=["empty", "text"]
)
def test_the_size_of_what_is_no_image_is_a_code(tmp_path: Path, data: bytes, code: FailureCode) -> None:
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(ImageError) as caught:
        read_size(ImageItem.at(tmp_path / "a"))
    assert caught.value.code is code


def test_the_size_of_a_missing_file_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        read_size(ImageItem.at(tmp_path / "gone.png"))
    assert caught.value.code is FailureCode.UNREADABLE


# Metadata that does not matter


def tiff_block(*entries: tuple[int, int, int, bytes]) -> bytes:
    """An EXIF block of (tag, type, count, four bytes of value)."""
    body = b"".join(struct.pack("<HHI4s", *entry) for entry in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + bytes(4)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "odd",
    [
        (0x011A, 2, 3, b"72\0\0"),
        (0x8769, 2, 3, b"ab\0\0"),
        (0x0131, 5, 9, b"\xff\xff\xff\0"),
        (0x8825, 4, 1, b"\xff" * 4),
    ],
    ids=["resolution as text", "pointer as text", "beyond the end", "pointer to nowhere"],
)
def test_an_odd_exif_tag_does_not_spoil_a_image(odd: tuple[int, int, int, bytes]) -> None:
    block = tiff_block((0x0112, 3, 1, struct.pack("<HH", 6, 0)), odd)
    assert open_rgb(encoded(NOISE, "JPEG", exif=block)).size == (40, 56)


@pytest.mark.parametrize("block", [b"Exif\0\0garbage", b"Exif\0\0", b"Exif\0\0II*\0\x08\0\0\0"])
def test_a_broken_exif_block_neither_spoils_an_image_nor_warns(tmp_path: Path, block: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(NOISE, "JPEG", exif=block))
    code = "import sys; from sdprep.images.decode import open_rgb; print(open_rgb(open(sys.argv[1], 'rb').read()).size)"
    found = subprocess.run([sys.executable, "-c", code, tmp_path / "a.jpg"], capture_output=True, text=True, check=True)
    assert (found.stdout.strip(), found.stderr) == (str(NOISE.size), "")
