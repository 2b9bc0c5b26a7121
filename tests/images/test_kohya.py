"""Images as kohya's tagger prepares them: stored orientation, paste on white, area averages, Lanczos."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sdprep.images.decode import decode, open_rgb
from sdprep.images.kohya import area_averaged, resized
from sdprep.types import Decoded, Failure, FailureCode, Fit, ImageItem
from tests.images.files import NOISE, encoded, exif, plain

KOHYA = Fit(16, "pad", preprocess="kohya")
CAPTIONER = Fit(16, "squash", preprocess="kohya")


def noise(width: int, height: int) -> Any:
    return np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def exact_means(pixels: Any, size: int) -> Any:
    """The mean over the area of each new pixel, in fractions, for the first channel."""
    side, scale = len(pixels), Fraction(len(pixels), size)
    parts = [
        [
            max(Fraction(0), min(Fraction(old + 1), (new + 1) * scale) - max(Fraction(old), new * scale))
            for old in range(side)
        ]
        for new in range(size)
    ]
    grey = pixels[..., 0].tolist()
    rows = [[sum(part * grey[y][x] for y, part in enumerate(parts[new])) for x in range(side)] for new in range(size)]
    return [
        [float(sum(part * row[x] for x, part in enumerate(parts[new])) / scale**2) for new in range(size)]
        for row in rows
    ]


@pytest.mark.parametrize(("side", "size"), [(12, 4), (7, 3), (9, 8), (5, 5), (13, 2), (17, 16)])
def test_a_shrunk_pixel_is_the_mean_over_its_area(side: int, size: int) -> None:
    pixels = noise(side, side)
    np.testing.assert_allclose(area_averaged(pixels, size)[..., 0], exact_means(pixels, size), atol=0.501)


def test_a_half_is_rounded_up_where_the_side_is_halved() -> None:
    pixels = np.zeros((4, 4, 3), dtype=np.uint8)
    pixels[0, 0], pixels[0, 2] = 2, 10
    assert area_averaged(pixels, 2)[0, :, 0].tolist() == [1, 3]


def test_a_half_is_rounded_to_even_elsewhere() -> None:
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    pixels[0, 0], pixels[0, 4] = 8, 40
    assert area_averaged(pixels, 2)[0, :, 0].tolist() == [0, 2]


def test_an_image_of_the_right_size_is_not_touched() -> None:
    np.testing.assert_array_equal(area_averaged(noise(16, 16), 16), noise(16, 16))


def test_a_small_image_grows_by_lanczos() -> None:
    image = Image.fromarray(noise(9, 9))
    np.testing.assert_array_equal(
        np.asarray(resized(image, 16)), np.asarray(image.resize((16, 16), Image.Resampling.LANCZOS))
    )


def test_an_exif_orientation_is_not_obeyed() -> None:
    assert open_rgb(encoded(NOISE, exif=exif(6)), KOHYA).size == NOISE.size


def test_16_bit_grey_is_clipped() -> None:
    image = Image.fromarray(np.array([[0, 200, 256, 65535]], dtype=np.uint16))
    assert np.asarray(open_rgb(encoded(image), KOHYA))[0, :, 0].tolist() == [0, 200, 255, 255]


@pytest.mark.parametrize("alpha", [0, 1, 100, 128, 254, 255])
def test_transparency_is_pasted_on_white(alpha: int) -> None:
    canvas = Image.new("RGB", (8, 8), "white")
    sticker = plain("RGBA", (10, 99, 200, alpha), (8, 8))
    canvas.paste(sticker, mask=sticker.getchannel("A"))
    assert open_rgb(encoded(sticker), KOHYA).tobytes() == canvas.tobytes()


@pytest.mark.parametrize(
    "data", [encoded(plain("LA", (0, 0))), encoded(plain("P", 0), transparency=0)], ids=["LA", "P"]
)
def test_other_transparency_comes_out_white_too(data: bytes) -> None:
    assert open_rgb(data, KOHYA).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("size", [(40, 20), (20, 40), (16, 15), (9, 4)])
def test_an_image_is_centred_on_white(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(noise(*size)).save(path)
    side = max(size)
    square = Image.new("RGB", (side, side), "white")
    square.paste(Image.open(path), ((side - size[0]) // 2, (side - size[1]) // 2))
    found = decode(ImageItem.at(path), KOHYA)
    assert isinstance(found, Decoded)
    np.testing.assert_array_equal(found.pixels, np.asarray(resized(square, 16)))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", FailureCode.EMPTY_FILE),
        (b"words", FailureCode.NOT_AN_IMAGE),
        (encoded(NOISE)[:-30], FailureCode.TRUNCATED),
    ],
    ids=["empty", "no image", "cut off"],
)
def test_a_broken_image_has_the_same_code_as_ever(tmp_path: Path, data: bytes, code: FailureCode) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(data)
    found = decode(ImageItem.at(path), KOHYA)
    assert isinstance(found, Failure)
    assert found.code == code


# Captioners


def test_a_captioner_sees_the_colours_that_transparency_hides() -> None:
    sticker = Image.new("RGBA", (4, 4), (200, 10, 20, 0))
    assert open_rgb(encoded(sticker), CAPTIONER).getpixel((0, 0)) == (200, 10, 20)


def test_a_captioner_sees_an_image_as_it_is_stored_and_squashed(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(NOISE, exif=exif(6)))
    found = decode(ImageItem.at(path), CAPTIONER)
    assert isinstance(found, Decoded)
    expected = NOISE.convert("RGB").resize((16, 16), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(found.pixels, np.asarray(expected))
