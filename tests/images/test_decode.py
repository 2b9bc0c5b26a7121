"""Decoding an image as a model should see it: upright, on white, eight bits a channel."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sdprep.images.decode import open_rgb, read_size, to_rgb
from sdprep.images.fit import fitted, padded_to_square
from sdprep.types import Decoded, Fit, ImageItem
from tests.images.files import FORMATS, NOISE, chunk, decoded, encoded, exif, plain, raw_png

WHITE, RED, BLUE = (255, 255, 255), (255, 0, 0), (0, 0, 255)


def pixel(data: bytes, x: int = 0, y: int = 0) -> tuple[int, ...]:
    found = open_rgb(data).getpixel((x, y))
    assert isinstance(found, tuple)
    return found


# Formats


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_of_the_list_is_read(kind: str) -> None:
    np.testing.assert_allclose(pixel(encoded(plain("RGB", (200, 30, 90)), kind)), (200, 30, 90), atol=4)


def test_a_progressive_jpeg_is_read() -> None:
    np.testing.assert_allclose(pixel(encoded(plain("RGB", RED), "JPEG", progressive=True)), RED, atol=4)


def test_a_wrong_extension_does_not_matter(tmp_path: Path) -> None:
    assert isinstance(decoded(tmp_path, encoded(NOISE), name="a.jpg"), Decoded)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_is_taken(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(plain("RGB", RED), kind, save_all=True, append_images=[plain("RGB", BLUE)], **options)
    assert pixel(data) == RED


def test_of_a_stereo_image_the_first_frame_is_taken() -> None:
    data = encoded(plain("RGB", RED), "MPO", save_all=True, append_images=[plain("RGB", BLUE)])
    np.testing.assert_allclose(pixel(data), RED, atol=4)


# Modes


def test_grey_becomes_equal_channels() -> None:
    assert pixel(encoded(plain("L", 90))) == (90, 90, 90)


def test_black_and_white_become_black_and_white() -> None:
    data = raw_png((8, 1), 1, 0, bytes([0b10000000]))
    assert [pixel(data, 0), pixel(data, 1)] == [WHITE, (0, 0, 0)]


def test_a_palette_gives_its_colours() -> None:
    assert pixel(encoded(plain("RGB", (10, 200, 30)).quantize(4))) == (10, 200, 30)


def test_16_bit_grey_is_scaled_and_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 256 * 16).astype(np.uint16).reshape(16, 256)
    found = np.asarray(open_rgb(encoded(Image.fromarray(ramp))))[..., 0]
    np.testing.assert_allclose(found, ramp / 257, atol=0.51)


def test_16_bit_colour_is_scaled() -> None:
    assert pixel(raw_png((1, 1), 16, 2, struct.pack(">3H", 0xFFFF, 0x8000, 0))) == (255, 128, 0)


@pytest.mark.parametrize("options", [{}, {"quality": 95, "subsampling": 0}], ids=["default", "fine"])
def test_cmyk_jpeg_keeps_its_colours_though_adobe_stores_them_inverted(options: dict[str, int]) -> None:
    np.testing.assert_allclose(pixel(encoded(plain("CMYK", (0, 255, 255, 0)), "JPEG", **options)), RED, atol=4)


def test_the_adobe_marker_of_the_cmyk_case_is_really_there() -> None:
    assert b"Adobe" in encoded(plain("CMYK", (0, 255, 255, 0)), "JPEG")


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "LA", "PA", "RGBA", "RGBX", "I;16", "I", "YCbCr"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    assert to_rgb(Image.new(mode, (3, 2))).mode == "RGB"


# Transparency


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF"])
def test_colours_hidden_under_full_transparency_come_out_white(kind: str) -> None:
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    np.testing.assert_allclose(pixel(encoded(plain("RGBA", (*RED, 0)), kind, **options)), WHITE, atol=2)


def test_half_transparent_colour_is_mixed_with_white() -> None:
    np.testing.assert_allclose(pixel(encoded(plain("RGBA", (255, 0, 0, 128)))), (255, 127, 127), atol=1)


def test_opaque_colour_stays_as_it_is() -> None:
    assert pixel(encoded(plain("RGBA", (*BLUE, 255)))) == BLUE


def test_transparent_grey_comes_out_white() -> None:
    assert pixel(encoded(plain("LA", (0, 0)))) == WHITE


def test_a_palette_with_one_transparent_colour_comes_out_white_there() -> None:
    assert pixel(encoded(plain("P", 0), transparency=0)) == WHITE


def test_a_palette_with_an_alpha_for_every_colour_is_put_on_white() -> None:
    extra = chunk(b"PLTE", bytes([*RED, *BLUE])) + chunk(b"tRNS", bytes([0, 128]))
    data = raw_png((2, 1), 8, 3, b"\0\1", extra)
    assert [pixel(data, 0), pixel(data, 1)] == [WHITE, (127, 127, 255)]


def test_a_palette_with_alpha_is_put_on_white() -> None:
    image = Image.new("PA", (2, 1), (0, 0))
    assert to_rgb(image).getpixel((0, 0)) == WHITE


def test_a_transparent_colour_of_a_gif_comes_out_white() -> None:
    assert pixel(encoded(plain("P", 0), "GIF", transparency=0)) == WHITE


@pytest.mark.parametrize(
    ("depth", "color", "row", "key"),
    [
        (1, 0, bytes([0b01000000]), (0,)),
        (2, 0, bytes([0b01100000]), (1,)),
        (4, 0, bytes([0x84]), (8,)),
        (8, 0, bytes([90, 91]), (90,)),
        (16, 0, struct.pack(">2H", 1000, 1001), (1000,)),
        (8, 2, bytes([10, 20, 30, 10, 20, 31]), (10, 20, 30)),
        (16, 2, struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 0x2234, 0x5678, 0x9ABC), (0x1234, 0x5678, 0x9ABC)),
    ],
    ids=["1-bit", "2-bit", "4-bit", "8-bit", "16-bit", "rgb", "16-bit rgb"],
)
def test_a_png_with_one_transparent_colour_is_white_there(
    depth: int, color: int, row: bytes, key: tuple[int, ...]
) -> None:
    data = raw_png((2, 1), depth, color, row, chunk(b"tRNS", struct.pack(f">{len(key)}H", *key)))
    assert pixel(data, 0) == WHITE


def test_16_bit_grey_beside_the_transparent_one_stays() -> None:
    data = raw_png((2, 1), 16, 0, struct.pack(">2H", 1000, 40000), chunk(b"tRNS", struct.pack(">H", 1000)))
    assert pixel(data, 1) == (156, 156, 156)


# Orientation


def rotated(orientation: int) -> Image.Image:
    """The upright image red over blue, left darker, as a camera stores it under an EXIF orientation."""
    upright = np.zeros((4, 6, 3), dtype=np.uint8)
    upright[0, 0], upright[0, -1], upright[-1, 0], upright[-1, -1] = RED, BLUE, (0, 255, 0), WHITE
    undo = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_270}  # fmt: skip
    image = Image.fromarray(upright)
    return image.transpose(undo[orientation]) if orientation in undo else image


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(orientation: int, kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    found = open_rgb(encoded(rotated(orientation), kind, exif=exif(orientation), **options))
    np.testing.assert_array_equal(np.asarray(found), np.asarray(rotated(1)))


def test_a_16_bit_image_is_turned_upright_too() -> None:
    image = Image.fromarray(np.arange(6, dtype=np.uint16).reshape(2, 3) * 10000)
    assert open_rgb(encoded(image, exif=exif(6))).size == (2, 3)


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation: int) -> None:
    assert open_rgb(encoded(NOISE, exif=exif(orientation))).size == NOISE.size


# Fitting


@pytest.mark.parametrize(
    ("size", "corner"), [((5, 2), (0, 1)), ((2, 5), (1, 0)), ((4, 1), (0, 1)), ((3, 2), (0, 0)), ((3, 3), (0, 0))]
)
def test_an_image_is_centred_and_an_odd_rest_goes_right_or_below(
    size: tuple[int, int], corner: tuple[int, int]
) -> None:
    square = np.asarray(padded_to_square(plain("RGB", RED, size), WHITE))
    ys, xs = np.nonzero(square[..., 1] == 0)
    assert (int(xs.min()), int(ys.min())) == corner


def test_the_padding_has_the_colour_that_the_model_wants() -> None:
    assert padded_to_square(plain("RGB", RED, (3, 1)), BLUE).getpixel((0, 0)) == BLUE


@pytest.mark.parametrize("size", [(30, 10), (10, 30), (8, 8), (1, 1)])
@pytest.mark.parametrize("mode", ["pad", "letterbox", "squash"])
def test_every_shape_becomes_the_models_square(tmp_path: Path, size: tuple[int, int], mode: str) -> None:
    outcome = decoded(tmp_path, encoded(plain("RGB", RED, size)), Fit(16, mode))
    assert isinstance(outcome, Decoded)
    assert (outcome.pixels.shape, outcome.pixels.dtype) == ((16, 16, 3), np.uint8)


def test_padding_comes_before_resizing() -> None:
    canvas = Image.new("RGB", (56, 56), WHITE)
    canvas.paste(NOISE, (0, 8))
    expected = canvas.resize((20, 20), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(np.asarray(fitted(NOISE, Fit(20, "pad", exact=True))), np.asarray(expected))


def test_squashing_ignores_the_aspect() -> None:
    expected = NOISE.resize((20, 20), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(np.asarray(fitted(NOISE, Fit(20, "squash", exact=True))), np.asarray(expected))


def test_a_letterbox_is_resized_before_it_is_padded() -> None:
    small = NOISE.resize((20, round(20 * NOISE.height / NOISE.width)), Image.Resampling.BICUBIC)
    expected = Image.new("RGB", (20, 20), BLUE)
    expected.paste(small, (0, (20 - small.height) // 2))
    np.testing.assert_array_equal(
        np.asarray(fitted(NOISE, Fit(20, "letterbox", BLUE, exact=True))), np.asarray(expected)
    )


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1)])
def test_the_thinnest_strip_keeps_a_line_in_its_letterbox(size: tuple[int, int]) -> None:
    pixels = np.asarray(fitted(plain("RGB", RED, size), Fit(16, "letterbox")))
    assert (pixels[..., 1] == 0).sum() == 16


@pytest.mark.parametrize(
    ("name", "sampling"),
    [
        ("bicubic", Image.Resampling.BICUBIC),
        ("bilinear", Image.Resampling.BILINEAR),
        ("lanczos", Image.Resampling.LANCZOS),
        ("area", Image.Resampling.BOX),
    ],
)
def test_an_image_is_resized_by_the_filter_that_is_asked_for(name: str, sampling: Image.Resampling) -> None:
    expected = np.asarray(NOISE.resize((20, 20), sampling))
    np.testing.assert_array_equal(np.asarray(fitted(NOISE, Fit(20, "squash", resampling=name, exact=True))), expected)


def test_one_fit_may_come_after_another() -> None:
    first = NOISE.resize((30, 30), Image.Resampling.BILINEAR)
    fit = Fit(20, "squash", first=Fit(30, "squash", resampling="bilinear"), exact=True)
    np.testing.assert_array_equal(np.asarray(fitted(NOISE, fit)), np.asarray(first.resize((20, 20))))
    fit = Fit(20, "crop", first=Fit(30, "squash", resampling="bilinear"), exact=True)
    np.testing.assert_array_equal(np.asarray(fitted(NOISE, fit)), np.asarray(first.crop((5, 5, 25, 25))))


# The size that trainers see


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_size_is_that_of_the_file_and_not_of_the_upright_image(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a").write_bytes(encoded(NOISE, kind, exif=exif(6)))
    assert read_size(ImageItem.at(tmp_path / "a")) == NOISE.size
