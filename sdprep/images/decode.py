"""Decode an image as a model should see it: upright, on white, eight bits per channel.

Every model gets the same RGB image; only how it is fitted into the model's square (`Fit`) differs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import IO

import numpy as np
from PIL import Image

from sdprep.errors import ImageError
from sdprep.folders import Folders, open_item
from sdprep.images import kohya as kohya_image
from sdprep.images.decoder import failure_of, read_file
from sdprep.images.fit import fitted
from sdprep.images.opening import (
    can_be_incomplete,
    load,
    load_incomplete,
    map_decoder_errors,
    size_of,
    turn_of,
    upright_size_of,
    without_pillow_warnings,
)
from sdprep.images.resize import Size
from sdprep.types import Decoded, Failure, FailureCode, Fit, ImageItem, ImageWarning

WHITE = (255, 255, 255)

# Formats whose frames are an animation; those of MPO are separate images.
ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")
SUFFIXES = {
    "JPEG": (".jpg", ".jpeg"),
    "MPO": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif"),
    "JXL": (".jxl",),
}


@without_pillow_warnings.turned_on()
def decode(item: ImageItem, fit: Fit) -> Decoded | Failure:
    """Read, hash, decode and fit one image; every error about the file becomes a Failure with a code."""
    digest = None
    try:
        data = read_file(item, fit.max_pixels)
        digest = hashlib.sha256(data).digest()
        image, full, stored, kind, warnings = _open_rgb(data, fit)
        if item.path.suffix.lower() not in SUFFIXES[kind]:
            warnings = (*warnings, ImageWarning.MISNAMED)
        return Decoded(item, digest, np.asarray(fitted(image, fit, full)), warnings, stored)
    except BaseException as error:  # noqa: BLE001 - errors that are not about the image are raised again
        return failure_of(item, error, digest)


@without_pillow_warnings.turned_on()
def open_rgb(data: bytes, fit: Fit | None = None) -> Image.Image:
    """The first frame of an image, upright by its EXIF tag, alpha on white, mode RGB; or as in kohya's scripts.

    Raises ImageError with the code of what is wrong with the bytes.
    """
    return _open_rgb(data, fit or Fit(1, "squash", exact=True))[0]


def _open_rgb(data: bytes, fit: Fit) -> tuple[Image.Image, Size, Size, str, tuple[ImageWarning, ...]]:
    """The image, its size before shrinking, that in its file, its format, and its warnings."""
    try:
        image, stored, warnings = load(data, fit)
    except ImageError as error:
        if error.code is not FailureCode.TRUNCATED or not fit.allow_truncated or not can_be_incomplete(data):
            raise
        image, stored, warnings = load_incomplete(data, fit)
        warnings = (ImageWarning.TRUNCATED, *warnings)
    kind = str(image.format)
    with map_decoder_errors(data, kind):
        rgb = _rgb(image, data, fit)
    full = stored if rgb.size == image.size else (stored[1], stored[0])
    warnings = (*warnings, ImageWarning.ANIMATED) if _is_animated(image, kind) else warnings
    return rgb, full, stored, kind, warnings


def _rgb(image: Image.Image, data: bytes, fit: Fit) -> Image.Image:
    if fit.preprocess == "kohya":
        return kohya_image.to_rgb(image, fit.mode)
    if image.format == "PNG":
        _fix_png_transparency(image, depth=data[24])
    # The stream of a JPEG XL file is upright itself, unless it is a recompressed JPEG.
    return to_rgb(image if image.format == "JXL" and not getattr(image, "jpeg", False) else upright(image))


def _is_animated(image: Image.Image, kind: str) -> bool:
    """Whether there are further frames, intact or not."""
    try:
        return kind in ANIMATED and bool(getattr(image, "is_animated", False))
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - decoders raise anything about a broken frame
        return False


def upright(image: Image.Image) -> Image.Image:
    """An image turned as its EXIF orientation says."""
    turn = turn_of(image)
    return image if turn is None else image.transpose(turn)


def _fix_png_transparency(image: Image.Image, depth: int) -> None:
    """Convert the transparent colour of a PNG to the eight bits per channel that Pillow gives its pixels."""
    key = image.info.get("transparency")
    if isinstance(key, int) and image.mode == "L" and depth < 8:
        image.info["transparency"] = key * 255 // (2**depth - 1)
    elif isinstance(key, tuple) and depth == 16:
        image.info["transparency"] = tuple(value >> 8 for value in key)


def to_rgb(image: Image.Image) -> Image.Image:
    """An RGB image: 16-bit grey scaled (Pillow alone would clip it to white), any transparency put on white."""
    if image.mode.startswith("I"):
        image = _scale_16_bit(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        canvas = Image.new("RGBA", rgba.size, (*WHITE, 255))
        return Image.alpha_composite(canvas, rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _scale_16_bit(image: Image.Image) -> Image.Image:
    wide = np.asarray(image).astype(np.int64).clip(0, 65535)
    grey = Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
    transparent = image.info.get("transparency")
    if transparent is None:
        return grey
    alpha = Image.fromarray(np.where(wide == transparent, 0, 255).astype(np.uint8))
    return Image.merge("LA", (grey, alpha))


@without_pillow_warnings.turned_on()
def read_size(item: ImageItem, folders: Folders | None = None) -> tuple[int, int]:
    """Width and height as stored in the file, from its header alone; trainers do not rotate by EXIF.

    Raises ImageError with the code of what is wrong with the file.
    """
    return _from_header(size_of, item, folders)


@without_pillow_warnings.turned_on()
def read_upright_size(item: ImageItem, folders: Folders | None = None) -> tuple[int, int]:
    """Width and height as a person sees the image, from its header alone. Raises as `read_size`."""
    return _from_header(upright_size_of, item, folders)


def _from_header(read: Callable[[IO[bytes]], tuple[int, int]], item: ImageItem, folders: Folders | None) -> Size:
    try:
        with open_item(item, folders=folders) as stream:
            return read(stream)
    except OSError as error:
        raise ImageError(FailureCode.UNREADABLE, error.strerror or str(error)) from error
