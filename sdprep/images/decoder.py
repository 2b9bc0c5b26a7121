"""Reading the bytes of an image, and the version of its decoder; importing this loads no decoder."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from typing import IO

from PIL import __version__ as pillow_version

from sdprep import __version__ as sdprep_version
from sdprep.errors import ImageError, shortened
from sdprep.files import CHUNK, read_stream
from sdprep.folders import open_item
from sdprep.installation import installed_version
from sdprep.types import MAX_PIXELS, Failure, FailureCode, ImageItem

OUT_OF_MEMORY = "decoding it takes more memory than is available"
# The most bytes of an image file besides its pixels.
METADATA_BYTES = 64_000_000

# Distributions that add formats; installing one is a reason to try again.
EXTRAS = ("pillow-heif", "pillow-jxl-plugin")


def _named(package: str) -> str:
    """A package with its version, as it stands in the key of failures; empty if it is not installed."""
    version = installed_version(package)
    return "" if version is None else f"/{package}-{version}"


# The key of remembered decode failures, since a newer decoder may read what an older one could not.
DECODER = f"sdprep-{sdprep_version}/pillow-{pillow_version}" + "".join(map(_named, EXTRAS))


def decoder_of(decoder: str, max_pixels: int, *, allow_truncated: bool) -> str:
    """The decoder with the settings that accept more images or fewer, if they are not the defaults."""
    limit = "" if max_pixels == MAX_PIXELS else f" max-pixels {max_pixels}"
    return decoder + limit + (" allow-truncated" if allow_truncated else "")


def decoder_advice() -> str | None:
    """A warning about an old Pillow, or None."""
    if int(pillow_version.split(".")[0]) >= 13:
        return None
    return (
        f"Pillow {pillow_version} has known vulnerabilities in its decoders; 13 fixes them but needs Python 3.11. "
        "Prepare only images that you trust, or use a newer Python"
    )


def file_limit(max_pixels: int) -> int:
    """The largest size of an image file in bytes: 16-bit colour with transparency for each pixel, and metadata."""
    return 8 * max_pixels + METADATA_BYTES


def read_file(item: ImageItem, max_pixels: int = MAX_PIXELS) -> bytes:
    """The bytes of a file, which is read once more if it changes meanwhile.

    Raises ImageError `unreadable`, `too_large`, or `changing` if it changes again.
    """
    limit = file_limit(max_pixels)
    return _read_unchanged(item, limit, lambda stream: read_stream(stream.fileno(), limit, item.rel))


def file_digest(item: ImageItem, max_pixels: int = MAX_PIXELS) -> bytes:
    """The SHA-256 of a file, which is read in pieces. Raises ImageError as `read_file` does."""
    limit = file_limit(max_pixels)
    return _read_unchanged(item, limit, lambda stream: _hashed(stream, limit))


def _read_unchanged(item: ImageItem, limit: int, read: Callable[[IO[bytes]], bytes]) -> bytes:
    try:
        for _ in range(2):
            with open_item(item, 0) as stream:
                before = os.fstat(stream.fileno())
                found = read(stream)
            after = item.path.stat() if item.is_link else item.path.lstat()
            if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
                return found
    except OSError as error:
        if error.errno == errno.EFBIG:
            message = f"its file is larger than {limit // 1_000_000} MB; --max-pixels sets this limit"
            raise ImageError(FailureCode.TOO_LARGE, message) from error
        raise ImageError(FailureCode.UNREADABLE, error.strerror or str(error)) from error
    message = "another program changes it while it is read; run the command again when that is done"
    raise ImageError(FailureCode.CHANGING, message)


def _hashed(stream: IO[bytes], limit: int) -> bytes:
    digest, left = hashlib.sha256(), limit
    if os.fstat(stream.fileno()).st_size > limit:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    while data := stream.read(CHUNK):
        left -= len(data)
        if left < 0:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        digest.update(data)
    return digest.digest()


def failure_of(item: ImageItem, error: BaseException, digest: bytes | None = None) -> Failure:
    """The failure of an image for an exception from any of its stages; one that is not about it is raised again."""
    if isinstance(error, ImageError):
        code, message = error.code, str(error)
    elif isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        code, message = FailureCode.OUT_OF_MEMORY, OUT_OF_MEMORY
    elif isinstance(error, OSError):
        code, message = FailureCode.UNREADABLE, error.strerror or str(error)
    # A panic in a library written in Rust, as some decoders and resizers are, is not an Exception.
    elif isinstance(error, Exception) or type(error).__name__ == "PanicException":
        code, message = FailureCode.CORRUPT, f"{type(error).__name__}: {error}"
    else:
        raise error
    return Failure(item, code, shortened(message), digest)
