"""Fitting an image into a model's square: exactly, or to within a rounding and with large JPEG files shrunk."""

import io
import math
import random

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from scripts.demo_training.draw import draw
from scripts.demo_training.figures import random_figure
from sdprep.images import fit as fitting
from sdprep.images.decode import decode, open_rgb
from sdprep.images.fit import MIN_SIDE, fitted, max_jpeg_shrink, padded_to_square
from sdprep.images.opening import load
from sdprep.images.resize import FILTERS
from sdprep.types import Decoded, Fit
from tests.images.files import encoded, exif, item_of

BLUE = (10, 20, 200)


def noise(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * 10_000 + height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def drawing(width: int, height: int) -> Image.Image:
    """A large figure with soft edges everywhere, as images from a camera have."""
    rng = random.Random(width)
    return draw(random_figure(rng), rng, (width // 4, height // 4)).resize((width, height), Image.Resampling.BICUBIC)


def padded_then_resized(image: Image.Image, fit: Fit) -> np.ndarray:
    square = padded_to_square(image, fit.pad_color)
    return np.asarray(square.resize((fit.size, fit.size), FILTERS[fit.resampling])).astype(int)


def difference(image: Image.Image, fit: Fit) -> np.ndarray:
    return np.abs(np.asarray(fitted(image, fit)).astype(int) - padded_then_resized(image, fit))


SIDES = st.integers(1, 150)
FITS = st.builds(
    Fit,
    st.integers(1, 70),
    st.just("pad"),
    st.sampled_from([(255, 255, 255), BLUE]),
    st.sampled_from(sorted(FILTERS)),
    exact=st.just(True),
)


# Without the square


@given(SIDES, SIDES, FITS)
def test_exactly_fitted_is_padded_and_then_resized(width: int, height: int, fit: Fit) -> None:
    assert not difference(noise(width, height), fit).any()


@given(SIDES, SIDES, FITS)
@example(1, 95, Fit(68, "pad", resampling="area"))
def test_what_need_not_be_exact_differs_by_rounding_alone_as_long_as_nothing_is_shrunk(
    width: int, height: int, fit: Fit
) -> None:
    # Lines and columns are rounded, each to a neighbour at most.
    assert difference(noise(width, height), Fit(fit.size, "pad", fit.pad_color, fit.resampling)).max() <= 2


@pytest.mark.parametrize(
    ("size", "exact"), [((1600, 700), True), ((1600, 700), False), ((700, 1600), False), ((3000, 400), False)]
)
def test_no_square_of_the_long_side_is_made(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], exact: bool
) -> None:
    made, real = [], Image.new

    def watched(mode: str, size: tuple[int, int], color: object = 0) -> Image.Image:
        made.append(size[0] * size[1])
        return real(mode, size, color)

    image = noise(*size)
    monkeypatch.setattr(fitting.Image, "new", watched)

    fitted(image, Fit(64, "pad", exact=exact))

    assert made
    assert max(made) < max(size) ** 2 * 0.7


# Shrunk first


@pytest.mark.parametrize(
    ("size", "fit", "by"),
    [
        ((2 * MIN_SIDE - 1, 100), Fit(448, "pad"), 1),
        ((2 * MIN_SIDE, 100), Fit(448, "pad"), 2),
        ((100, 3 * MIN_SIDE), Fit(448, "letterbox"), 3),
        ((2 * MIN_SIDE, 100), Fit(448, "squash"), 1),
        ((2 * MIN_SIDE, 2 * MIN_SIDE), Fit(448, "squash"), 2),
        ((6000, 6000), Fit(1000, "pad"), 2),
        ((6000, 6000), Fit(100, "squash", first=Fit(1000, "letterbox")), 2),
        ((9000, 9000), Fit(448, "pad", exact=True), 1),
        ((9000, 9000), Fit(448, "pad", preprocess="kohya"), 1),
    ],
)
def test_a_jpeg_keeps_three_times_the_models_side_and_the_least(size: tuple[int, int], fit: Fit, by: int) -> None:
    assert max_jpeg_shrink(size, fit) == by


@pytest.mark.parametrize("size", [(2701, 1805), (1805, 2701), (2699, 2699), (4200, 901), (901, 5501)])
@pytest.mark.parametrize("mode", ["pad", "letterbox", "squash"])
def test_a_shrunk_image_lies_where_the_whole_one_does(size: tuple[int, int], mode: str) -> None:
    data = encoded(drawing(*size), "JPEG")
    fast, exact = Fit(224, mode, BLUE), Fit(224, mode, BLUE, exact=True)
    expected = np.asarray(fitted(open_rgb(data), exact)).astype(int)
    image, full, _ = load(data, fast)

    found = np.abs(np.asarray(fitted(image, fast, full)).astype(int) - expected)

    assert full == size
    assert found.mean() < 0.5
    assert found.max() < 40


def test_a_jpeg_is_decoded_at_half_its_size_and_no_less() -> None:
    data = encoded(Image.new("RGB", (2 * MIN_SIDE, MIN_SIDE)), "JPEG")
    assert load(data, Fit(448, "pad"))[0].size == (MIN_SIDE, MIN_SIDE // 2)


def test_a_jpeg_is_decoded_whole_where_that_is_asked_for() -> None:
    data = encoded(Image.new("RGB", (2 * MIN_SIDE, MIN_SIDE)), "JPEG")
    assert load(data, Fit(448, "pad", exact=True))[0].size == (2 * MIN_SIDE, MIN_SIDE)


@pytest.mark.parametrize(("width", "decoded"), [(2 * MIN_SIDE, MIN_SIDE), (2 * MIN_SIDE + 1, 2 * MIN_SIDE + 1)])
def test_a_turned_jpeg_is_decoded_at_half_its_size_only_if_that_leaves_no_rest(width: int, decoded: int) -> None:
    data = encoded(Image.new("RGB", (width, 400)), "JPEG", exif=exif(6))
    assert load(data, Fit(448, "pad"))[0].size[0] == decoded


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("size", [(2800, 1400), (2801, 1403)])
def test_a_turned_jpeg_lies_where_the_whole_one_does(tmp_path, size: tuple[int, int], orientation: int) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(drawing(*size), "JPEG", exif=exif(orientation)))

    fast, exact = (decode(item_of(tmp_path / "a.jpg"), Fit(128, "pad", BLUE, exact=each)) for each in (False, True))

    assert isinstance(fast, Decoded)
    assert isinstance(exact, Decoded)
    assert np.abs(fast.pixels.astype(int) - exact.pixels).mean() < 0.5


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_what_is_no_jpeg_is_decoded_whole(kind: str) -> None:
    data = encoded(Image.new("RGB", (2 * MIN_SIDE, 40)), kind)
    assert load(data, Fit(448, "pad"))[0].size == (2 * MIN_SIDE, 40)


def test_a_strip_of_one_line_is_shrunk_too() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (9000, 1)).save(stream, "JPEG")
    image, full, _ = load(stream.getvalue(), Fit(32, "pad"))
    assert fitted(image, Fit(32, "pad"), full).size == (32, 32)
    assert math.isclose(full[0], 9000)
