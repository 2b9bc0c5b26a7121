"""Resizing a picture, by Pillow or by a library that computes the same filters several times as fast.

Lines come before columns, with eight bits between, as in Pillow until version 12 and with squares in any version; from
13 on Pillow begins with the columns of some upright pictures. cykooz-resizer has weights of 16 bits where Pillow has
22, so that here and there a value is rounded to its neighbour. Where it is not to be had, Pillow does all.
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
    """A part of an RGB picture, all of it without `box`, as a picture of `size`, by the filter of `fit`.

    `box` is left, top, right and bottom, in pixels that need not be whole. Where `fit` is `as_pillow`, the result is.
    """
    box = box or (0, 0, *image.size)
    if fit.as_pillow or fit.resampling not in FAST or library() is None:
        return image.resize(size, FILTERS[fit.resampling], box)
    left, top, right, bottom = box
    lines = _stretched(image, (size[0], image.height), fit.resampling, (left, 0, right, image.height))
    return _stretched(lines, size, fit.resampling, (0, top, size[0], bottom))


def _stretched(image: Image.Image, size: Size, resampling: str, box: Box) -> Image.Image:
    """A part of a picture, resized in one direction."""
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
    """What a person should know if the fast library is missed; None if there is nothing."""
    if fit.as_pillow or library() is not None:
        return None
    return "cykooz-resizer cannot be loaded, so Pillow resizes pictures, which takes it several times as long"
