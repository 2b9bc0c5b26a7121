"""Image preparation exactly as in kohya's scripts.

Source: kohya-ss/sd-scripts 48d368f, `preprocess_image` of the tagger, `resize_image` of its library, and
`make_captions.py`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    import numpy.typing as npt

    from sdprep.types import Pixels

WHITE = (255, 255, 255)


def to_rgb(image: Image.Image, mode: str) -> Image.Image:
    """The RGB image for a `Fit` of this mode, not rotated by EXIF; 16-bit grey is clipped to white, as in Pillow.

    The tagger, which pads, puts transparent pixels on white; the captioner, which squashes, shows their colours.
    """
    if mode == "squash":
        return image.convert("RGB")
    if image.mode in ("RGBA", "LA") or "transparency" in image.info:
        image = image.convert("RGBA")
        canvas = Image.new("RGB", image.size, WHITE)
        canvas.paste(image, mask=image.getchannel("A"))
        return canvas
    return image.convert("RGB")


def resized(square: Image.Image, size: int) -> Image.Image:
    """A square image resized: by pixel area if it shrinks, by Lanczos if it grows."""
    if square.width < size:
        return square.resize((size, size), Image.Resampling.LANCZOS)
    return Image.fromarray(area_averaged(np.asarray(square), size))


def area_averaged(pixels: Pixels, size: int) -> Pixels:
    """uint8[S, S, 3] shrunk to uint8[size, size, 3]: the mean over each new pixel's area, as OpenCV's INTER_AREA.

    A pixel on the edge of an area counts by its share inside; Pillow's box filter counts all of it or nothing.
    """
    rows = _averaged_rows(pixels, size)
    means = _averaged_rows(rows.swapaxes(0, 1), size).swapaxes(0, 1)
    # OpenCV rounds half up only if the side is halved; otherwise to even, as numpy does.
    means = np.floor(means + 0.5) if len(pixels) == 2 * size else np.rint(means)
    result: Pixels = means.astype(np.uint8)
    return result


def _averaged_rows(pixels: npt.NDArray[Any], size: int) -> npt.NDArray[np.float32]:
    """The rows of [S, W, 3] averaged to float32[size, W, 3]."""
    side, width, channels = pixels.shape
    rows, scale = pixels.reshape(side, width * channels), side / size
    means = np.empty((size, width * channels), dtype=np.float32)
    for row in range(size):
        first, last = row * scale, (row + 1) * scale
        covered = np.arange(math.floor(first), min(math.ceil(last), side))
        weights = (np.minimum(covered + 1, last) - np.maximum(covered, first)) / scale
        means[row] = weights.astype(np.float32) @ rows[covered[0] : covered[-1] + 1].astype(np.float32)
    return means.reshape(size, width, channels)
