"""Fitting an image into a model's square, without building that square around a large image.

With `Fit.exact` the pixels are those of padding and then resizing by Pillow. Otherwise values may differ by one, and a
large JPEG is decoded at 1/2, 1/4 or 1/8 of its size, but no smaller than MIN_SIDE and three times the model's side.
"""

from __future__ import annotations

import math
from dataclasses import replace

from PIL import Image

from sdprep.images import kohya as kohya_image
from sdprep.images.resize import Size, resized
from sdprep.types import MAX_PIXELS, Fit

# The reach of the widest filter to each side, in pixels of the result if it shrinks, else of the image.
SUPPORT = 3
EPSILON = 1e-6
# Three times the side of most taggers. With twice the side, probabilities changed by more than 0.01.
MIN_SIDE = 1344

Color = tuple[int, int, int]


def max_jpeg_shrink(size: Size, fit: Fit) -> int:
    """The largest factor by which an image may be shrunk while it is decoded."""
    if fit.is_exact:
        return 1
    while fit.first is not None:
        fit = fit.first
    edge = min(size) if fit.mode == "squash" else max(size)
    return max(1, edge // max(3 * fit.size, MIN_SIDE))


def padded_pixels(size: Size, fit: Fit) -> int:
    """The most pixels of an image together with the padding that is added before it is resized."""
    width, height = size
    if fit.mode == "pad" and fit.preprocess == "kohya":
        return min(MAX_PIXELS, max(size) ** 2)
    if fit.mode != "pad" or width >= height:
        return 0
    # A larger strip is shrunk first.
    padded = height if _pads_upright(fit) else min(height, width + 2 * _margin(height / fit.size))
    return min(MAX_PIXELS, height * padded)


def fitted(image: Image.Image, fit: Fit, full: Size | None = None) -> Image.Image:
    """An image fitted into a model's square; `full` is its size before it was shrunk while decoding, if it was."""
    if fit.first is not None:
        image, full = fitted(image, replace(fit.first, exact=fit.exact), full), None
    side = (fit.size, fit.size)
    if fit.mode == "crop":
        left, top = ((edge - fit.size) // 2 for edge in image.size)
        return image.crop((left, top, left + fit.size, top + fit.size))
    if fit.mode == "pad" and fit.preprocess == "kohya":
        return kohya_image.resized(padded_to_square(_shrink_strip(image, fit), fit.pad_color), fit.size)
    full = full or image.size
    by = round(max(full) / max(image.size))
    if fit.mode == "squash":
        return resized(image, side, fit, (0, 0, full[0] / by, full[1] / by))
    if fit.mode == "inside":
        size = full if max(full) <= fit.size else _within(full, fit.size)
        return image if size == image.size else resized(image, size, fit, (0, 0, full[0] / by, full[1] / by))
    if fit.mode == "letterbox":
        small = resized(image, _within(full, fit.size), fit, (0, 0, full[0] / by, full[1] / by))
        return padded_to_square(small, fit.pad_color)
    if by == 1:
        image = _shrink_strip(image, fit)
        full = image.size
        if image.height > image.width and _pads_upright(fit):
            return resized(padded_to_square(image, fit.pad_color), side, fit)
    return _on_square(image, _Place(full, by), fit)


class _Place:
    """Position of an image on its square, both shrunk `by` times: numbers that need not be whole."""

    def __init__(self, full: Size, by: int) -> None:
        side = max(full)
        self.side, self.size = side / by, (full[0] / by, full[1] / by)
        self.offset = ((side - full[0]) // 2 / by, (side - full[1]) // 2 / by)


def _on_square(image: Image.Image, place: _Place, fit: Fit) -> Image.Image:
    """The square of `fit`, resized, with only the padding that a filter mixes with pixels of the image.

    Pillow resizes rows before columns, with eight bits in between, so that rows can be resized by themselves.
    """
    image = _blend_edges(image, place.size, fit.pad_color)
    if image.width < image.height and place.size[0] < place.side:
        return _between_columns(image, place, fit)
    rows = resized(image, (fit.size, image.height), fit, (0, 0, place.size[0], image.height))
    if place.size[1] == place.side:
        return resized(rows, (fit.size, fit.size), fit, (0, 0, fit.size, place.side))
    top = math.ceil(place.offset[1])
    first = top - place.offset[1]
    canvas = Image.new("RGB", (fit.size, max(math.ceil(first + place.side), top + image.height)), fit.pad_color)
    canvas.paste(rows, (0, top))
    return resized(canvas, (fit.size, fit.size), fit, (0, first, fit.size, first + place.side))


def _pads_upright(fit: Fit) -> bool:
    """Whether an upright image gets all of its padding before it is resized.

    Computing only the columns near the padding rounds some differently; by area, that would move whole pixels.
    """
    return fit.is_exact or fit.resampling == "area"


def _margin(scale: float) -> int:
    """How many columns of padding a filter mixes with the image, if a pixel of the result is `scale` wide."""
    return math.ceil(2 * SUPPORT * max(1.0, scale)) + 1


def _between_columns(image: Image.Image, place: _Place, fit: Fit) -> Image.Image:
    """An upright image between columns of padding, of which only those near it are computed."""
    scale, left = place.side / fit.size, place.offset[0]
    margin = _margin(scale)
    before = min(math.ceil(left), margin)
    after = max(0, min(math.ceil(place.side - left - image.width), margin))
    canvas = Image.new("RGB", (before + image.width + after, image.height), fit.pad_color)
    canvas.paste(image, (before, 0))
    start = left - before
    # By rounding, a border on a column may be slightly beside it.
    first = max(0, math.ceil(start / scale - EPSILON))
    last = min(fit.size, math.floor((start + canvas.width) / scale + EPSILON))
    box = (max(0.0, first * scale - start), 0, min(canvas.width, last * scale - start), canvas.height)
    # Rows first, as Pillow does with a square; with an image this narrow it would begin with the columns.
    rows = resized(canvas, (last - first, canvas.height), fit, box)
    columns = resized(rows, (last - first, fit.size), fit, (0, 0, last - first, place.side))
    square = Image.new("RGB", (fit.size, fit.size), fit.pad_color)
    square.paste(columns, (first, 0))
    return square


def _blend_edges(image: Image.Image, size: tuple[float, float], color: Color) -> Image.Image:
    """A shrunk image whose last row and column are blended with padding by the share outside the image."""
    width, height = image.size
    edges = ((width - size[0], (width - 1, 0, width, height)), (height - size[1], (0, height - 1, width, height)))
    for outside, box in edges:
        if outside > 0:
            edge = image.crop(box)
            image.paste(Image.blend(edge, Image.new("RGB", edge.size, color), outside), box)
    return image


def _within(full: Size, side: int) -> Size:
    """The same shape with a long side of `side`; the short one is rounded."""
    width, height = (max(1, round(edge * side / max(full))) for edge in full)
    return width, height


def _shrink_strip(image: Image.Image, fit: Fit) -> Image.Image:
    """An image whose square would exceed MAX_PIXELS, made smaller in its own shape."""
    longest = math.isqrt(MAX_PIXELS)
    return image if max(image.size) <= longest else resized(image, _within(image.size, longest), fit)


def padded_to_square(image: Image.Image, color: Color) -> Image.Image:
    """An image centred on a square of its longer side; an odd remainder goes to the right and the bottom."""
    side = max(image.size)
    if image.size == (side, side):
        return image
    square = Image.new("RGB", (side, side), color)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square
