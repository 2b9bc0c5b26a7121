"""Pixels as kohya's scripts prepare them; all that is here is so only because they do it so.

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
    """An image as it is stored, not turned by EXIF, for a `Fit` of this mode.

    The tagger, which pads, puts transparency on white; the captioner, which squashes, shows the colours that it hides.
    All else is as Pillow alone converts it: 16-bit grey is clipped to white.
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
    """A square image resized: by the area that a pixel covers where it shrinks, by Lanczos where it grows."""
    if square.width < size:
        return square.resize((size, size), Image.Resampling.LANCZOS)
    return Image.fromarray(area_averaged(np.asarray(square), size))


def area_averaged(pixels: Pixels, size: int) -> Pixels:
    """uint8[S, S, 3] shrunk to uint8[size, size, 3]: the mean over each new pixel's area, as OpenCV's INTER_AREA.

    A pixel on the edge of an area counts by the part that lies inside; Pillow's box filter takes all of it or none.
    """
    flat = _averaged_lines(pixels, size)
    means = _averaged_lines(flat.swapaxes(0, 1), size).swapaxes(0, 1)
    # Only where the side is halved does OpenCV round a half up; elsewhere to the even number, as numpy does.
    means = np.floor(means + 0.5) if len(pixels) == 2 * size else np.rint(means)
    result: Pixels = means.astype(np.uint8)
    return result


def _averaged_lines(pixels: npt.NDArray[Any], size: int) -> npt.NDArray[np.float32]:
    """The lines of [S, W, 3] averaged to float32[size, W, 3]."""
    side, width, channels = pixels.shape
    lines, scale = pixels.reshape(side, width * channels), side / size
    means = np.empty((size, width * channels), dtype=np.float32)
    for place in range(size):
        first, last = place * scale, (place + 1) * scale
        covered = np.arange(math.floor(first), min(math.ceil(last), side))
        weights = (np.minimum(covered + 1, last) - np.maximum(covered, first)) / scale
        means[place] = weights.astype(np.float32) @ lines[covered[0] : covered[-1] + 1].astype(np.float32)
    return means.reshape(size, width, channels)
