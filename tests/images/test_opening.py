"""Opening an image in bounds: how many pixels it may have, and whether it must be whole."""

import io
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from sdprep.errors import ImageError
from sdprep.images import opening
from sdprep.images.decode import open_rgb
from sdprep.images.decoder import file_limit
from sdprep.images.opening import estimate_memory, load, load_incomplete, open_image
from sdprep.types import MAX_PIXELS, FailureCode, Fit, ImageItem
from tests.corpus import with_size
from tests.images.files import NOISE, encoded, exif, plain, raw_png

pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
STRICT, LENIENT = Fit(8, "squash"), Fit(8, "squash", allow_truncated=True)


def code_of(data: bytes, fit: Fit = STRICT) -> FailureCode:
    with pytest.raises(ImageError) as caught:
        open_rgb(data, fit)
    return caught.value.code


# So that rows of the image follow each other in the file, each on its own.
IN_ROWS: dict[str, dict[str, Any]] = {"JPEG": {"subsampling": 0, "quality": 95}, "GIF": {"interlace": 0}}


def cut(kind: str, share: float = 0.6) -> bytes:
    data = encoded(NOISE, kind, **IN_ROWS.get(kind, {}))
    return data[: int(len(data) * share)]


# How large


def test_an_image_may_have_as_many_pixels_as_the_limit_says() -> None:
    picture = encoded(plain("RGB", 0, (6, 4)))
    assert load(picture, Fit(8, "squash", max_pixels=24))[0].size == (6, 4)
    with pytest.raises(ImageError, match=r"6x4 is more than 2\.3e-05 megapixels; --max-pixels sets this limit"):
        load(picture, Fit(8, "squash", max_pixels=23))


def test_a_higher_limit_also_lets_in_what_pillow_alone_would_refuse() -> None:
    enormous = raw_png((30_000, 30_000), 8, 2, b"")
    assert open_image(io.BytesIO(enormous), 900_000_000).size == (30_000, 30_000)


def test_the_limit_that_others_set_for_pillow_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000)
    open_image(io.BytesIO(encoded(NOISE)))
    assert Image.MAX_IMAGE_PIXELS == 1_000


def test_a_program_that_uses_sdprep_keeps_pillows_warnings(tmp_path: Path) -> None:
    encoded_image = tmp_path / "a.png"
    encoded_image.write_bytes(encoded(plain("RGB", 0, (4, 4))))
    program = """
import sys, warnings
from PIL import Image
warnings.simplefilter("error", Image.DecompressionBombWarning)
from sdprep.images.decode import open_rgb
Image.MAX_IMAGE_PIXELS = 10
open_rgb(open(sys.argv[1], "rb").read())
try:
    Image.open(sys.argv[1])
except Image.DecompressionBombWarning:
    print("warned")
"""
    command = [sys.executable, "-c", program, encoded_image]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("warned\n", 0), done.stderr


@pytest.mark.parametrize("kind", ["JPEG", "GIF"])
def test_no_pixel_of_an_image_beyond_the_limit_is_decoded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("pixels were decoded"))
    assert code_of(with_size(encoded(NOISE, kind), 65_000, 65_000)) is FailureCode.TOO_LARGE


@pytest.mark.parametrize(("scale", "size"), [(1, (40, 28)), (4, (20, 14)), (16, (10, 7)), (10_000, (5, 4))])
def test_a_huge_jpeg_is_shrunk_while_it_is_decoded(
    scale: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "MAX_PIXELS", 40 * 28 // scale)
    assert load(encoded(plain("RGB", (200, 30, 90), (40, 28)), "JPEG"), STRICT)[0].size == size


def test_no_other_image_is_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "MAX_PIXELS", 10)
    assert load(encoded(NOISE), STRICT)[0].size == NOISE.size


# How whole


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF"])
def test_what_is_there_of_an_image_is_seen_where_that_is_allowed(kind: str) -> None:
    # Noise does not compress, so a part of the bytes is about that part of the rows.
    found = np.asarray(open_rgb(cut(kind), LENIENT), dtype=float)
    whole = np.asarray(open_rgb(encoded(NOISE, kind, **IN_ROWS.get(kind, {}))), dtype=float)
    rows = slice(None, None, -1) if kind == "BMP" else slice(None)
    np.testing.assert_array_equal(found[rows][:8], whole[rows][:8])
    assert found[rows][-8:].std(axis=(0, 1)).max() < 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF"])
def test_half_an_image_is_refused_where_that_is_not_allowed(kind: str) -> None:
    assert code_of(cut(kind)) is FailureCode.TRUNCATED


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
def test_a_format_that_cannot_be_decoded_in_part_stays_truncated(kind: str) -> None:
    assert code_of(cut(kind, 0.9), LENIENT) is FailureCode.TRUNCATED


@pytest.mark.parametrize("length", [100, 300])
def test_a_file_that_ends_in_its_header_stays_truncated(length: int) -> None:
    assert code_of(encoded(NOISE, "JPEG")[:length], LENIENT) is FailureCode.TRUNCATED


def test_a_damaged_image_is_refused_even_where_half_an_image_is_not() -> None:
    data = bytearray(encoded(NOISE))
    data[len(data) // 2] ^= 0xFF
    assert code_of(bytes(data), LENIENT) is FailureCode.CORRUPT


def test_another_thread_takes_no_half_image_for_a_whole_one_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[FailureCode] = []
    real = ImageFile.ImageFile.load

    def watched(image: ImageFile.ImageFile) -> Any:
        if threading.current_thread() is threading.main_thread():
            other = threading.Thread(target=lambda: found.append(code_of(cut("JPEG"))))
            other.start()
            other.join()
        return real(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", watched)
    load_incomplete(cut("JPEG"), LENIENT)
    assert found == [FailureCode.TRUNCATED]


def test_after_half_an_image_pillow_is_as_strict_as_before() -> None:
    load_incomplete(cut("JPEG"), LENIENT)
    with pytest.raises(OSError, match="truncated"):
        Image.open(io.BytesIO(cut("JPEG"))).load()


# What decoding will take


@pytest.mark.parametrize(
    ("image", "kind", "options", "each"),
    [
        (plain("RGB", 0, (40, 30)), "PNG", {}, 5),
        (plain("L", 0, (40, 30)), "JPEG", {}, 5),
        (plain("RGB", 0, (40, 30)), "JPEG", {"progressive": True}, 11),
        (plain("CMYK", 0, (40, 30)), "JPEG", {}, 9),
        (plain("RGBA", 0, (40, 30)), "PNG", {}, 20),
        (plain("I;16", 0, (40, 30)), "PNG", {}, 20),
        (plain("P", 0, (40, 30)), "PNG", {"transparency": 0}, 20),
        (plain("RGBA", 0, (40, 30)), "WEBP", {}, 33),
        (plain("RGB", 0, (40, 30)), "JPEG", {"exif": exif(6)}, 9),
    ],
)
def test_what_decoding_takes_follows_from_format_and_mode(
    tmp_path: Path, image: Image.Image, kind: str, options: dict[str, Any], each: int
) -> None:
    data = encoded(image, kind, **options)
    (tmp_path / "a").write_bytes(data)
    assert estimate_memory(ImageItem.at(tmp_path / "a"), STRICT) == len(data) + each * 40 * 30


@pytest.mark.parametrize(("exact", "size"), [(False, (1400, 700)), (True, (2800, 1400))])
def test_a_jpeg_that_is_shrunk_while_it_is_decoded_takes_less(
    tmp_path: Path, exact: bool, size: tuple[int, int]
) -> None:
    data = encoded(plain("RGB", 0, (2800, 1400)), "JPEG")
    (tmp_path / "a").write_bytes(data)
    fit = Fit(448, "letterbox", exact=exact)
    assert estimate_memory(ImageItem.at(tmp_path / "a"), fit) == len(data) + 5 * size[0] * size[1]


# Ten pixels of the image to one of the result; the widest filter looks three of these to each side.
BESIDE = 2 * (2 * 3 * 10 + 1)


@pytest.mark.parametrize(
    ("fit", "size", "orientation", "padded"),
    [
        (Fit(100, "pad", exact=True), (500, 1000), 1, 1000 * 1000),
        (Fit(100, "pad", resampling="area"), (500, 1000), 1, 1000 * 1000),
        (Fit(100, "pad"), (500, 1000), 1, (500 + BESIDE) * 1000),
        (Fit(100, "pad"), (1000, 500), 1, 0),
        (Fit(100, "pad", exact=True), (1000, 500), 1, 0),
        (Fit(100, "pad"), (1000, 500), 6, 1000 * 500 + (500 + BESIDE) * 1000),
        (Fit(100, "pad", preprocess="kohya"), (1000, 500), 1, 1000 * 1000),
        (Fit(100, "squash", exact=True), (500, 1000), 1, 0),
    ],
    ids=str,
)
def test_padding_beside_an_image_takes_memory_too(
    tmp_path: Path, fit: Fit, size: tuple[int, int], orientation: int, padded: int
) -> None:
    data = encoded(plain("RGB", 0, size), exif=exif(orientation))
    (tmp_path / "a").write_bytes(data)
    assert estimate_memory(ImageItem.at(tmp_path / "a"), fit) == len(data) + 5 * 500 * 1000 + 4 * padded


def test_a_webp_that_cannot_be_opened_takes_the_most_that_its_size_may(tmp_path: Path) -> None:
    data = encoded(plain("RGB", 0, (40, 30)), "WEBP")[:-9]
    (tmp_path / "a").write_bytes(data)
    assert estimate_memory(ImageItem.at(tmp_path / "a"), STRICT) == len(data) + 33 * 40 * 30


@pytest.mark.parametrize("preprocess", ["sdprep", "kohya"])
def test_a_strip_is_padded_to_no_more_than_the_largest_image(tmp_path: Path, preprocess: str) -> None:
    data = raw_png((1, 900_000), 8, 2, b"")
    (tmp_path / "a").write_bytes(data)
    fit = Fit(448, "pad", exact=True, preprocess=preprocess)
    assert estimate_memory(ImageItem.at(tmp_path / "a"), fit) == len(data) + 5 * 900_000 + 4 * MAX_PIXELS


def test_a_png_whose_exif_block_may_follow_its_pixels_is_not_decoded_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("pixels were decoded"))
    (tmp_path / "a").write_bytes(raw_png((34_000, 2_000), 8, 2, b""))
    assert estimate_memory(ImageItem.at(tmp_path / "a"), STRICT) > 5 * 34_000 * 2_000


def test_a_palette_that_is_missing_counts_as_transparent(tmp_path: Path) -> None:
    data = raw_png((1, 1), 8, 3, b"\0")
    (tmp_path / "a").write_bytes(data)
    assert estimate_memory(ImageItem.at(tmp_path / "a"), STRICT) == len(data) + 20


def test_a_file_that_is_not_read_takes_nothing(tmp_path: Path) -> None:
    data = raw_png((1, 1), 8, 2, bytes(3))
    with (tmp_path / "a").open("wb") as stream:
        stream.write(data)
        stream.truncate(file_limit(MAX_PIXELS) + 1)
    assert estimate_memory(ImageItem.at(tmp_path / "a"), STRICT) == 0


@pytest.mark.parametrize("data", [b"", b"no image", b"\xff\xd8\xff"])
def test_what_cannot_be_opened_takes_nothing(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    assert estimate_memory(ImageItem.at(tmp_path / "a"), STRICT) == 0
    assert estimate_memory(ImageItem.at(tmp_path / "missing"), STRICT) == 0
