"""An image as a server gets it: a JPEG of its pixels alone, small enough for the server's limit."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from sdprep.types import Pixels

QUALITIES = (92, 85, 75)
# Smaller images are sent even if they exceed the limit.
SMALLEST_SIDE = 256


def encode_jpeg(pixels: Pixels, max_bytes: int) -> bytes:
    """An image as JPEG whose base64 has at most `max_bytes`: by a lower quality first, then by a smaller side."""
    return _within(Image.fromarray(pixels), max_bytes)


def smaller_jpeg(jpeg: bytes, max_bytes: int) -> bytes:
    """The same image with half the side, for a server that found it too large."""
    image = Image.open(io.BytesIO(jpeg))
    return _within(_shrunk(image, 0.5), max_bytes)


def data_url(jpeg: bytes) -> str:
    """A JPEG as the text of a URL."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"


def _within(image: Image.Image, max_bytes: int) -> bytes:
    while True:
        for quality in QUALITIES:
            stream = io.BytesIO()
            image.save(stream, "JPEG", quality=quality, subsampling="4:4:4")
            if (stream.tell() + 2) // 3 * 4 <= max_bytes:
                return stream.getvalue()
        if max(image.size) <= SMALLEST_SIDE:
            return stream.getvalue()
        image = _shrunk(image, max(0.8, SMALLEST_SIDE / max(image.size)))


def _shrunk(image: Image.Image, factor: float) -> Image.Image:
    width, height = (max(1, round(edge * factor)) for edge in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)
