"""Resizing by either library: the same values to within a rounding."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sdprep.images import resize
from sdprep.images.fit import fitted
from sdprep.images.resize import FAST, FILTERS, library, resized, resizing_advice
from sdprep.types import Fit

with_library = pytest.mark.skipif(library() is None, reason="cykooz-resizer is not made for this platform")
SIDES = st.integers(1, 150)


def noise(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * 10_000 + height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def values(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def without_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where it is not installed: None makes its import an ImportError."""
    monkeypatch.setitem(sys.modules, "cykooz_resizer", None)
    monkeypatch.setattr(resize, "library", resize.library.__wrapped__)


@given(SIDES, SIDES, SIDES, st.sampled_from(sorted(FAST)))
def test_every_value_is_pillows_or_its_neighbour_where_lines_are_resized(w: int, h: int, to: int, name: str) -> None:
    image, fit = noise(w, h), Fit(1, "squash", resampling=name)
    expected = values(image.resize((to, h), FILTERS[name]))
    assert np.abs(values(resized(image, (to, h), fit)) - expected).max() <= 1


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from(sorted(FILTERS)), st.data())
def test_any_part_is_resized_as_pillow_does_whatever_it_begins_with(
    w: int, h: int, to_w: int, to_h: int, name: str, data: st.DataObject
) -> None:
    left, top = data.draw(st.floats(0, w / 2)), data.draw(st.floats(0, h / 2))
    box = (left, top, data.draw(st.floats(left + w / 4, w)), data.draw(st.floats(top + h / 4, h)))
    image, fit = noise(w, h), Fit(1, "squash", resampling=name)
    expected = values(image.resize((to_w, to_h), FILTERS[name], box))
    # Lines and columns are rounded, each to a neighbour at most.
    assert np.abs(values(resized(image, (to_w, to_h), fit, box)) - expected).max() <= 2


@pytest.mark.parametrize("size", [(1024, 1024), (1500, 1000), (1000, 1500), (720, 1280), (28, 584), (503, 10)], ids=str)
@pytest.mark.parametrize("mode", ["squash", "letterbox"])
def test_an_image_of_any_shape_is_squashed_and_letterboxed_as_pillow_does(size: tuple[int, int], mode: str) -> None:
    image = noise(*size)
    fast, exact = (values(fitted(image, Fit(384, mode, exact=each))) for each in (False, True))
    assert np.abs(fast - exact).max() <= 2


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_exactly_resized_is_what_pillow_makes_of_it(name: str) -> None:
    image = noise(90, 70)
    fit = Fit(1, "squash", resampling=name, exact=True)
    assert np.array_equal(values(resized(image, (33, 44), fit)), values(image.resize((33, 44), FILTERS[name])))


def test_by_area_pillow_resizes_in_any_case() -> None:
    image, name = noise(90, 70), "area"
    found = resized(image, (33, 44), Fit(1, "squash", resampling=name))
    assert np.array_equal(values(found), values(image.resize((33, 44), FILTERS[name])))


@with_library
def test_few_values_of_a_large_image_differ_at_all() -> None:
    image, size = noise(1500, 1500), (448, 448)
    differ = values(resized(image, size, Fit(448, "pad"))) != values(image.resize(size, FILTERS["bicubic"]))
    assert 0 < differ.mean() < 0.02


@with_library
def test_an_image_of_the_wanted_size_is_left_as_it_is() -> None:
    image = noise(20, 10)
    assert resized(image, (20, 10), Fit(1, "squash")) is image


def test_without_the_library_pillow_resizes_and_a_person_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    without_library(monkeypatch)
    image, fit = noise(90, 70), Fit(1, "squash")
    assert np.array_equal(values(resized(image, (33, 44), fit)), values(image.resize((33, 44), FILTERS["bicubic"])))
    assert "cykooz-resizer cannot be loaded" in str(resizing_advice(fit))


@pytest.mark.parametrize("fit", [Fit(1, "pad", exact=True), Fit(1, "pad", preprocess="kohya")], ids=str)
def test_where_it_would_not_be_used_it_is_not_missed(monkeypatch: pytest.MonkeyPatch, fit: Fit) -> None:
    without_library(monkeypatch)
    assert resizing_advice(fit) is None
