"""Opening an image with Pillow: by content, from a short list of formats, within limits."""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, cast

from PIL import Image, ImageFile, UnidentifiedImageError

from sdprep.errors import ImageError
from sdprep.folders import open_item
from sdprep.images import heif_jxl
from sdprep.images.decoder import OUT_OF_MEMORY, file_limit
from sdprep.images.fit import max_jpeg_shrink, padded_pixels
from sdprep.images.formats import sniff
from sdprep.images.header import ENDS_BYTES, HEADER_BYTES, HeaderReader, both_ends, riff_end, webp_size
from sdprep.images.resize import Size
from sdprep.images.segments import with_more_data, without_metadata
from sdprep.types import MAX_PIXELS, FailureCode, Fit, ImageItem, ImageWarning

# Only these decoders are used; Pillow registers forty more, some with a history of vulnerabilities.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF")
# The factors by which a JPEG decoder can shrink an image.
SHRINKS = (2, 4, 8)
HEAD_BYTES = 4096
# A resizing filter takes about fifty bytes per pixel of a side, however small the other side is.
MAX_SIDE = 1_000_000
# Bytes per pixel that a decoder takes besides the decoded image.
DECODER_BYTES = {"WEBP": 13, "AVIF": 6, "HEIF": 10, "JXL": 20}
# The transposition that undoes each EXIF orientation.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


# The turns by which width and height change places.
SIDEWAYS = (
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
)


class _InThisThread(threading.local):
    """A switch per thread; as the pattern of a warnings filter it matches while it is on."""

    on = False

    def __bool__(self) -> bool:
        return self.on

    def match(self, _: str) -> bool:
        return self.on

    @contextmanager
    def turned_on(self) -> Iterator[None]:
        """On in this thread until the end of the block."""
        before, self.on = self.on, True
        try:
            yield
        finally:
            self.on = before


# Pillow has one switch per process for accepting truncated files. Set to True, it would also affect other threads and
# the program that uses sdprep.
_filling_in = _InThisThread()
# Limits are checked from the header before a pixel is decoded, so Pillow's own warning is redundant, as are those about
# EXIF. Other threads, and the program that uses sdprep, keep them: `warnings.catch_warnings` is not thread-safe.
without_pillow_warnings = _InThisThread()
warnings.filters[:0] = [  # type: ignore[index]
    ("ignore", without_pillow_warnings, category, None, 0) for category in (Image.DecompressionBombWarning, UserWarning)
]
_pillows_limit = threading.Lock()


def open_image(stream: IO[bytes], max_pixels: int | None = None, *, whole: bool = True) -> Image.Image:
    """An image of which only the header is read; with `max_pixels` None, of any size.

    Some decoders read the whole file at once; unless `whole`, they too get no more than a header needs. A PNG with
    metadata that Pillow rejects is opened without it.
    Raises ImageError with the code of what is wrong with the header.
    """
    try:
        return _open_strictly(stream, max_pixels, whole=whole)
    except ImageError:
        stream.seek(0)
        sound = without_metadata(stream, header_only=True)
        if sound is None:
            raise
    return _open_strictly(io.BytesIO(sound), max_pixels, whole=whole)


def _open_strictly(stream: IO[bytes], max_pixels: int | None, *, whole: bool = True) -> Image.Image:
    extra, size, head = _prepared(stream)
    if size is not None:
        _check_size(size, max_pixels)
    at_once = extra is not None or head.startswith(b"RIFF") or heif_jxl.is_image_in_boxes(head)
    header = HeaderReader(stream)
    try:
        image = _opened(stream if whole and at_once else header, FORMATS if extra is None else (extra,))
    except MemoryError as error:
        raise ImageError(FailureCode.OUT_OF_MEMORY, OUT_OF_MEMORY) from error
    except Exception as error:  # decoders raise anything about a broken header
        if header.exceeded:
            message = f"its header is larger than {HEADER_BYTES // 2**20} MiB, or in too many pieces"
            raise ImageError(FailureCode.TOO_LARGE, message) from error
        raise _header_error(error, *both_ends(stream)) from error
    header.lift()
    _check_size(image.size, max_pixels)
    return image


def size_of(stream: IO[bytes]) -> tuple[int, int]:
    """Width and height of an image of any size, from its header. Raises ImageError as `open_image`."""
    _, size, head = _prepared(stream)
    if size is None:
        return open_image(stream, whole=False).size
    if head.startswith(b"RIFF") and stream.seek(0, os.SEEK_END) < riff_end(head):
        raise ImageError(FailureCode.TRUNCATED, "WEBP: the end of the file is missing")
    return size


def upright_size_of(stream: IO[bytes]) -> tuple[int, int]:
    """Width and height of an image that is turned as its EXIF orientation says. Raises ImageError as `open_image`."""
    extra, size, _ = _prepared(stream)
    if extra is not None or (size is not None and size[0] * size[1] > MAX_PIXELS):
        # The extras turn images themselves, and a large WebP would take memory for all its pixels.
        stream.seek(0)
        return size_of(stream)
    image = open_image(stream, whole=False)
    return image.size[::-1] if turn_of(image) in SIDEWAYS else image.size


def _prepared(stream: IO[bytes]) -> tuple[str | None, tuple[int, int] | None, bytes]:
    """The format if an extra decodes it, the image size if opening it takes memory for all pixels, and the head."""
    head = stream.read(HEAD_BYTES)
    extra = heif_jxl.recognised(head)
    # The size of a JPEG XL may follow its metadata.
    more = stream.read(HEADER_BYTES) if extra == "JXL" else b""
    stream.seek(0)
    return extra, webp_size(head) if extra is None else heif_jxl.prepare(extra, head + more), head


def _opened(source: IO[bytes] | HeaderReader, formats: tuple[str, ...]) -> Image.Image:
    """Open an image even if it exceeds Pillow's own limit; the caller checks the size."""
    stream = cast("IO[bytes]", source)
    try:
        return Image.open(stream, formats=formats)
    except Image.DecompressionBombError:
        # The limit is one per process, so it is lifted only while this header is read.
        with _pillows_limit:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                stream.seek(0)
                return Image.open(stream, formats=formats)
            finally:
                Image.MAX_IMAGE_PIXELS = limit


def _check_size(size: tuple[int, int], max_pixels: int | None) -> None:
    width, height = size
    if max_pixels is None:
        return
    if max(size) > MAX_SIDE:
        raise ImageError(FailureCode.TOO_LARGE, f"{width}x{height} has a side of more than {MAX_SIDE:,} pixels")
    if width * height > max_pixels:
        message = f"{width}x{height} is more than {max_pixels / 1_000_000:g} megapixels; --max-pixels sets this limit"
        raise ImageError(FailureCode.TOO_LARGE, message)


def _header_error(error: Exception, data: bytes, size: int) -> ImageError:
    if not data:
        return ImageError(FailureCode.EMPTY_FILE, "the file is empty")
    code = code_of(error, data, size)
    unknown = isinstance(error, UnidentifiedImageError) and not heif_jxl.is_image_in_boxes(data)
    if unknown and code is not FailureCode.TRUNCATED:
        known = sniff(data)
        message = f"it is {known}, not an image" if known else "not an image that sdprep can read"
        return ImageError(FailureCode.NOT_AN_IMAGE, f"{message}, whatever its name")
    # Pillow's message about an unidentified image is the address of an object.
    reason = "" if isinstance(error, UnidentifiedImageError) else f": {error}"
    return ImageError(code, f"its header cannot be read{reason}")


def code_of(error: Exception, data: bytes, size: int) -> FailureCode:
    """TRUNCATED if the decoder says so or the end of an image is missing, else CORRUPT.

    `size` is that of the file; `data` of a long one may lack the middle.
    """
    if data.startswith(b"\xff\xd8"):
        ends_early = not data[-ENDS_BYTES:].rstrip(b"\0").endswith(b"\xff\xd9")
    elif data.startswith(b"\x89PNG"):
        ends_early = b"IEND" not in data
    elif heif_jxl.is_image_in_boxes(data):
        ends_early = heif_jxl.end_of_boxes(data) > size
    else:
        ends_early = data.startswith(b"RIFF") and size < riff_end(data)
    truncated = ends_early or isinstance(error, EOFError) or "truncated" in str(error).lower()
    return FailureCode.TRUNCATED if truncated else FailureCode.CORRUPT


def load(data: bytes, fit: Fit) -> tuple[Image.Image, Size, tuple[ImageWarning, ...]]:
    """A decoded image, its full size, and its warnings; a large JPEG may be shrunk while it is decoded.

    Raises ImageError with the code of what is wrong with the bytes.
    """
    try:
        return *_load(data, fit), ()
    except ImageError:
        sound = without_metadata(io.BytesIO(data))
        if sound is None:
            raise
    return *_load(sound, fit), (ImageWarning.METADATA,)


def _load(data: bytes, fit: Fit) -> tuple[Image.Image, Size]:
    image = _open_strictly(io.BytesIO(data), fit.max_pixels)
    full = image.size
    with map_decoder_errors(data, str(image.format)):
        if (scale := _decode_scale(image, fit)) > 1:
            image.draft(None, (max(1, image.width // scale), max(1, image.height // scale)))
        image.load()
        if image.format in ("JPEG", "MPO") and not _filling_in and _lacks_data(data, image):
            raise ImageError(FailureCode.TRUNCATED, "JPEG: its data ends before the image does")
    if image.width > full[0] or image.height > full[1]:
        _check_size(image.size, fit.max_pixels)
        full = image.size
    return image, full


def _lacks_data(data: bytes, image: Image.Image) -> bool:
    """Whether a JPEG was cut and then given an end marker, which libjpeg accepts: it fills the rest with grey."""
    longer = with_more_data(data, image)
    # In a progressive image, more data may change details alone.
    by = 2 if "progressive" in image.info else 8
    return longer is not None and _shrunk(longer, by).tobytes() != _shrunk(data, by).tobytes()


def _shrunk(data: bytes, by: int) -> Image.Image:
    """A JPEG decoded at a fraction of its size: the memory for it is small beside that of the image."""
    image = _open_strictly(io.BytesIO(data), None)
    image.draft(None, (max(1, image.width // by), max(1, image.height // by)))
    image.load()
    return image


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """The transposition that undoes the EXIF orientation of an image; a broken EXIF block is ignored.

    Pillow's own `exif_transpose` also rewrites the block, and fails if another tag in it is invalid.
    """
    try:
        # Of the base class, since that of a PNG decodes the pixels to find an EXIF block after them.
        orientation = Image.Image.getexif(image).get(0x0112)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - the parser raises anything about a broken block
        return None
    return TURNS.get(orientation) if isinstance(orientation, int) else None


def stored_bytes(item: ImageItem, fit: Fit) -> int:
    """The size of a file in bytes; 0 if it is too large or cannot be read."""
    try:
        stored = item.path.stat().st_size
    except OSError:
        return 0
    return stored if stored <= file_limit(fit.max_pixels) else 0


@without_pillow_warnings.turned_on()
def estimate_memory(item: ImageItem, fit: Fit) -> int:
    """About the peak memory in bytes from the file to the model's square, by the header; 0 if it is not decoded.

    Pillow takes four bytes per pixel. What decoders and conversions add was measured with images of 12 megapixels.
    """
    stored = stored_bytes(item, fit)
    if not stored:
        return 0
    most = 0
    try:
        with open_item(item) as stream:
            extra, size, _ = _prepared(stream)
            if size is not None:
                _check_size(size, fit.max_pixels)
                most = stored + size[0] * size[1] * (20 + DECODER_BYTES[extra or "WEBP"])
            # Opening a JPEG XL would decode it.
            return most if extra == "JXL" else stored + _pixel_bytes(open_image(stream, fit.max_pixels), fit)
    except (ImageError, OSError):
        # Decoding reports the error; a WebP may be intact, and only the memory to open it is missing.
        return most


def _pixel_bytes(image: Image.Image, fit: Fit) -> int:
    pixels = image.width * image.height
    scale = _decode_scale(image, fit) ** 2
    # Pillow cannot tell without the palette.
    may_be_transparent = (image.mode == "P" and image.palette is None) or image.has_transparency_data
    each = 20 if may_be_transparent or image.mode.startswith("I") else 9 if image.mode == "CMYK" else 5
    turned = turn_of(image) is not None
    each += 4 * turned + DECODER_BYTES.get(str(image.format), 0)
    # A progressive JPEG is held as coefficients of two bytes, even if it is decoded smaller.
    whole = 6 * pixels if image.info.get("progressive") else 0
    # A rotated image may become upright.
    size = (min(image.size), max(image.size)) if turned else image.size
    return (each * pixels + 4 * padded_pixels(size, fit)) // scale + whole


@contextmanager
def map_decoder_errors(data: bytes, kind: str) -> Iterator[None]:
    """Turn any exception of a decoder into an ImageError."""
    try:
        yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(FailureCode.OUT_OF_MEMORY, OUT_OF_MEMORY) from error
    except Exception as error:  # decoders raise anything about a broken file
        raise ImageError(code_of(error, data, len(data)), f"{kind}: {error}") from error


def can_be_incomplete(data: bytes) -> bool:
    """Whether the format can be decoded from the first rows alone: JPEG, PNG, GIF, BMP."""
    return data.startswith((b"\xff\xd8", b"\x89PNG", b"GIF8", b"BM"))


def load_incomplete(data: bytes, fit: Fit) -> tuple[Image.Image, Size, tuple[ImageWarning, ...]]:
    """A truncated image, the missing part grey, black or in a palette colour. Raises as `load` does."""
    if not ImageFile.LOAD_TRUNCATED_IMAGES:
        ImageFile.LOAD_TRUNCATED_IMAGES = _filling_in  # type: ignore[assignment]
    with _filling_in.turned_on():
        return load(data, fit)


def _decode_scale(image: Image.Image, fit: Fit) -> int:
    """The factor by which a decoder shrinks an image: a model sees only a few hundred pixels of a side.

    A JPEG above 100 megapixels is always shrunk. The factor depends only on the image and on settings in the key of
    stored results, so that no other setting changes pixels.
    """
    if image.format != "JPEG":
        return 1
    width, height = image.size
    least = next((each for each in (1, *SHRINKS) if width * height / each**2 <= MAX_PIXELS), SHRINKS[-1])
    # Rotated, the fraction of a pixel at the right or the bottom would move to the left or the top.
    divides_evenly = turn_of(image) is not None
    allowed = [
        each
        for each in SHRINKS
        if each <= max_jpeg_shrink(image.size, fit) and not (divides_evenly and (width % each or height % each))
    ]
    return max((least, *allowed))
