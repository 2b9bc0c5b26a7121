"""Reading no more of an image file than its header can need."""

import io
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sdprep.errors import ImageError
from sdprep.images import opening
from sdprep.images.decode import open_rgb, read_size
from sdprep.images.header import ENDS_BYTES, HeaderReader, both_ends, webp_size
from sdprep.images.opening import open_image, turn_of
from sdprep.types import FailureCode, Fit, ImageItem
from tests.images.bombs import behind
from tests.images.files import NOISE, chunk, encoded, exif, plain, raw_png

DATA = bytes(range(100))


def reader(most: int, reads: int = 100) -> HeaderReader:
    return HeaderReader(io.BytesIO(DATA), most, reads)


def test_a_file_within_the_limits_is_read_as_it_is() -> None:
    stream = reader(200)
    assert (stream.read(7), stream.read(), stream.read(5), stream.exceeded) == (DATA[:7], DATA[7:], b"", False)


def test_a_file_seems_to_end_where_the_limit_of_bytes_is() -> None:
    stream = reader(10)
    assert (stream.read(7), stream.exceeded) == (DATA[:7], False)
    assert (stream.read(), stream.read(1), stream.exceeded) == (DATA[7:10], b"", True)


def test_a_file_seems_to_end_after_so_many_reads() -> None:
    stream = reader(100, reads=2)
    assert [stream.read(1), stream.read(1), stream.read(1)] == [DATA[:1], DATA[1:2], b""]
    assert stream.exceeded


def test_bytes_that_are_passed_by_do_not_count() -> None:
    stream = reader(3)
    stream.seek(90)
    assert (stream.read(3), stream.tell()) == (DATA[90:93], 93)


def test_when_the_limit_is_lifted_all_can_be_read() -> None:
    stream = reader(3, reads=1)
    stream.lift()
    assert stream.read(2) + stream.read() == DATA


@pytest.mark.parametrize("size", [0, 5, 2 * ENDS_BYTES])
def test_a_file_that_is_not_long_is_looked_at_as_a_whole(size: int) -> None:
    data = bytes(size)
    assert both_ends(io.BytesIO(data)) == (data, size)


def test_of_a_long_file_both_ends_are_looked_at() -> None:
    data = b"a" * ENDS_BYTES + b"b" * 10 + b"c" * ENDS_BYTES
    assert both_ends(io.BytesIO(data)) == (b"a" * ENDS_BYTES + b"c" * ENDS_BYTES, len(data))


@given(
    st.sampled_from(["RGB", "RGBA"]),
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.sampled_from([{}, {"lossless": True}, {"exif": exif(6)}]),
)
def test_the_size_of_a_webp_is_that_which_pillow_finds(mode: str, size: tuple[int, int], options: Any) -> None:
    assert webp_size(encoded(plain(mode, 0, size), "WEBP", **options)) == size


def test_the_size_of_a_webp_without_its_end_is_no_size(tmp_path: Path) -> None:
    (tmp_path / "a.webp").write_bytes(encoded(NOISE, "WEBP")[:-1])
    with pytest.raises(ImageError) as caught:
        read_size(ImageItem.at(tmp_path / "a.webp"))
    assert caught.value.code is FailureCode.TRUNCATED


@pytest.mark.parametrize("data", [b"", b"RIFF", encoded(NOISE, "WEBP")[:29], encoded(NOISE, "PNG")])
def test_what_is_no_whole_header_of_a_webp_has_no_size(data: bytes) -> None:
    assert webp_size(data) is None


# Headers that are larger than any


def test_a_header_that_is_too_large_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    data = behind(2, encoded(NOISE, "JPEG"), b"\xff\xfe\x13\x88" + bytes(4998))
    monkeypatch.setattr(opening, "HeaderReader", lambda stream: HeaderReader(stream, 4000))
    with pytest.raises(ImageError, match="its header is larger than 32 MiB") as caught:
        open_image(io.BytesIO(data))
    assert caught.value.code is FailureCode.TOO_LARGE


def test_a_png_whose_header_is_too_large_is_read_without_its_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    data = raw_png((1, 1), 8, 2, bytes(3), extra=chunk(b"tEXt", b"a\0" + bytes(5000)))
    monkeypatch.setattr(opening, "HeaderReader", lambda stream: HeaderReader(stream, 4000))
    assert open_image(io.BytesIO(data)).size == (1, 1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "AVIF"])
def test_pixels_are_no_part_of_a_header(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.effect_noise((300, 300), 90).convert("RGB"), kind)
    expected = open_rgb(data).tobytes()
    monkeypatch.setattr(opening, "HeaderReader", lambda stream: HeaderReader(stream, 9000))
    assert open_rgb(data).tobytes() == expected


# What an EXIF block may take


def block(order: str, entries: list[tuple[int, int, int, int]], tail: bytes) -> bytes:
    mark = b"II*\0\x08\0\0\0" if order == "<" else b"MM\0*\0\0\0\x08"
    body = b"".join(struct.pack(f"{order}HHII", *entry) for entry in entries)
    return mark + struct.pack(f"{order}H", len(entries)) + body + bytes(4) + tail


def test_a_turn_behind_honest_values_of_any_size_is_found() -> None:
    values = bytes(50_000)
    data = block("<", [(0x10F, 2, 50_000, 8 + 2 + 24 + 4), (0x112, 3, 1, 6)], values)
    image = Image.new("RGB", (4, 2))
    image.info["exif"] = b"Exif\0\0" + data
    assert turn_of(image) is Image.Transpose.ROTATE_270


@given(
    st.sampled_from("<>"),
    st.lists(
        st.tuples(
            st.sampled_from([0x112, 0x10F, 0x8769, 1]),
            st.integers(0, 14),
            st.integers(0, 70),
            st.integers(0, 2**32 - 1),
        ),
        max_size=6,
    ),
    st.binary(max_size=80),
)
def test_any_exif_block_has_a_turn_or_none(order: str, entries: list[tuple[int, int, int, int]], tail: bytes) -> None:
    image = Image.new("RGB", (4, 2))
    image.info["exif"] = block(order, entries, tail)
    assert turn_of(image) is None or isinstance(turn_of(image), Image.Transpose)


def test_a_turn_is_read_from_a_png_whose_pixels_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    image = open_image(io.BytesIO(encoded(NOISE, exif=exif(6))))
    monkeypatch.setattr(type(image), "load", lambda _: pytest.fail("pixels were decoded"))
    assert turn_of(image) is Image.Transpose.ROTATE_270


def test_a_turn_behind_the_pixels_of_a_png_counts_too() -> None:
    turned = encoded(NOISE, exif=exif(6))
    place = turned.index(b"eXIf") - 4
    length = 12 + int.from_bytes(turned[place : place + 4], "big")
    block, rest = turned[place : place + length], turned[:place] + turned[place + length :]
    assert open_rgb(rest[:-12] + block + rest[-12:]).size == (NOISE.height, NOISE.width)


# What comes out of a decoder is judged too


def test_a_decoder_that_gives_more_than_the_header_says_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(plain("RGB", 0, (6, 4)))

    def grow(image: Any) -> None:
        image._im, image._size = Image.new("RGB", (600, 400)).im, (600, 400)

    monkeypatch.setattr(type(Image.open(io.BytesIO(data))), "load", grow)
    with pytest.raises(ImageError, match=r"600x400 is more than 0\.001 megapixels"):
        open_rgb(data, Fit(8, "squash", max_pixels=1000))
