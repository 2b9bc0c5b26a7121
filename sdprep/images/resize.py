"""Resizing an image, by Pillow or by a library that computes the same filters several times as fast.

Both resize lines and columns one after the other, with eight bits between. cykooz-resizer has weights of 16 bits where
Pillow has 22, so a few values are rounded to their neighbour. Where it is not available, Pillow does everything.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from sdprep.types import Fit

Size = tuple[int, int]
Box = tuple[float, float, float, float]

FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "area": Image.Resampling.BOX,
}
# The same filters, as the other library calls them. By area, which takes a pixel or leaves it, whole pixels would move.
FAST = {"bicubic": "catmull_rom", "bilinear": "bilinear", "lanczos": "lanczos3"}


@cache
def library() -> Any:
    """The module of cykooz-resizer; None where it is not installed or the system cannot load it."""
    try:
        import cykooz_resizer
    except ImportError:
        return None
    return cykooz_resizer


def resized(image: Image.Image, size: Size, fit: Fit, box: Box | None = None) -> Image.Image:
    """A part of an RGB image, all of it without `box`, as an image of `size`, by the filter of `fit`.

    `box` is left, top, right and bottom, in pixels that need not be whole. Where `fit` is `is_exact`, the result is.
    """
    box = box or (0, 0, *image.size)
    alike = fit.resampling in FAST and _begins_with_lines(image.size, size, box)
    if fit.is_exact or not alike or library() is None:
        return image.resize(size, FILTERS[fit.resampling], box)
    left, top, right, bottom = box
    lines = _stretched(image, (size[0], image.height), fit.resampling, (left, 0, right, image.height))
    return _stretched(lines, size, fit.resampling, (0, top, size[0], bottom))


def _begins_with_lines(given: Size, size: Size, box: Box) -> bool:
    """Whether Pillow is sure to resize lines before columns, or only one of the two.

    From version 13 on it begins with the columns where that is less work, as in most images that are upright and
    squashed; what a filter overshoots at an edge is cut off in another place then. It never does so under these
    conditions, by 13,000 random sizes, parts and filters.
    """
    (width, height), (left, top, right, bottom) = given, box
    if size[0] == width == right - left or size[1] == height == bottom - top:
        return True
    wide = width * size[1] >= size[0] * height and (right - left) * size[1] >= size[0] * (bottom - top)
    return wide and width >= height


def _stretched(image: Image.Image, size: Size, resampling: str, box: Box) -> Image.Image:
    """A part of an image, resized in one direction."""
    if size == image.size and box == (0, 0, *size):
        return image
    left, top, right, bottom = box
    fast = library()
    options = fast.ResizeOptions(
        fast.ResizeAlg.convolution(fast.FilterType[FAST[resampling]]),
        crop_box=fast.CropBox(left, top, right - left, bottom - top),
    )
    made = Image.new("RGB", size)
    fast.Resizer().resize_pil(image, made, options)
    return made


def resizing_advice(fit: Fit) -> str | None:
    """A warning if the fast library is missing; None if there is nothing to say."""
    if fit.is_exact or library() is not None:
        return None
    return "cykooz-resizer cannot be loaded, so Pillow resizes images, which takes it several times as long"
