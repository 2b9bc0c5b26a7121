"""The bytes of a picture, and which decoder reads them; importing this loads no decoder."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from PIL import __version__ as pillow_version

from sdprep import __version__ as sdprep_version
from sdprep.config import Work
from sdprep.errors import ImageError
from sdprep.types import MAX_PIXELS, FailureCode

# Distributions that add formats; installing one is a reason to try again.
EXTRAS = ("pillow-heif", "pillow-jxl-plugin")
# How files begin that are often found under the name of a picture.
BEGINNINGS = {
    b"%PDF": "a PDF",
    b"%!PS": "an EPS or PostScript file",
    b"II*\0": "a TIFF, or a raw photo",
    b"MM\0*": "a TIFF, or a raw photo",
    b"SIMPLE": "a FITS file",
    b"DanM": "an MSP picture",
    b"LinS": "an MSP picture",
    b"8BPS": "a Photoshop file",
    b"\0\0\1\0": "an icon",
    b"\0\0\0\x0cjP": "a JPEG 2000",
    b"\x1aE\xdf\xa3": "a video",
    b"PK\3\4": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"Rar!": "a RAR archive",
    b"version https://git-lfs": "a pointer of Git LFS, whose picture was not downloaded",
}
PAGES = {b"<!doctype html": "a web page (HTML)", b"<html": "a web page (HTML)", b"<svg": "an SVG drawing"}


def _installed(name: str) -> str:
    try:
        return f"/{name}-{metadata.version(name)}"
    except metadata.PackageNotFoundError:
        return ""


# What remembered decode failures depend on: a newer decoder may read what an older one could not.
DECODER = f"sdprep-{sdprep_version}/pillow-{pillow_version}" + "".join(map(_installed, EXTRAS))


def decoder_of(work: Work, decoder: str) -> str:
    """The decoder and the settings that let more pictures in, or fewer, where they are not the usual ones."""
    limit = "" if work.max_pixels == MAX_PIXELS else f" max-pixels {work.max_pixels}"
    return decoder + limit + (" allow-truncated" if work.allow_truncated else "")


def what_it_is(data: bytes) -> str | None:
    """What bytes that are no picture are, in words, or None."""
    beginning = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if beginning.startswith(b"<?xml"):
        beginning = beginning[max(0, beginning.find(b"<svg")) :]
    if data[4:8] == b"ftyp":
        return "a video, or a picture of a kind that is not read"
    for start, name in BEGINNINGS.items():
        if data.startswith(start):
            return name
    return next((name for start, name in PAGES.items() if beginning.startswith(start)), None)


def decoder_advice() -> str | None:
    """What a person should know of an old Pillow; None if there is nothing."""
    if int(pillow_version.split(".")[0]) >= 13:
        return None
    return (
        f"Pillow {pillow_version} has known holes in its decoders; 13 mends them but needs Python 3.11. "
        "Prepare only pictures that you trust, or use a newer Python"
    )


def read_file(path: Path) -> bytes:
    """The bytes of a file, at rest: if it is changed meanwhile, it is read once more.

    Raises ImageError `unreadable`, or `changing` if it is changed again.
    """
    try:
        for _ in range(2):
            before = path.stat()
            data = path.read_bytes()
            after = path.stat()
            if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
                return data
    except OSError as error:
        raise ImageError(FailureCode.UNREADABLE, error.strerror or str(error)) from error
    message = "another program changes it while it is read; run the command again when that is done"
    raise ImageError(FailureCode.CHANGING, message)
