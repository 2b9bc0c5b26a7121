"""Extensions of image files, and file types by their first bytes; importing this loads no decoder."""

from __future__ import annotations

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".avif", ".heic", ".heif", ".jxl"})
# Images that sdprep does not read; a run reports how many it skipped.
UNREAD_SUFFIXES = frozenset({".tif", ".tiff", ".jp2", ".psd", ".svg", ".dng", ".cr2", ".nef", ".arw"})
# Files that hold many images, which runs over shards read.
TARS = (".tar", ".tar.gz", ".tgz")
PARQUET = ".parquet"
OF_SHARDS = (*TARS, PARQUET)
# The first bytes of files that often have the extension of an image.
BEGINNINGS = {
    b"%PDF": "a PDF",
    b"%!PS": "an EPS or PostScript file",
    b"II*\0": "a TIFF, or a raw photo",
    b"MM\0*": "a TIFF, or a raw photo",
    b"SIMPLE": "a FITS file",
    b"DanM": "an MSP image",
    b"LinS": "an MSP image",
    b"8BPS": "a Photoshop file",
    b"\0\0\1\0": "an icon",
    b"\0\0\0\x0cjP": "a JPEG 2000",
    b"\x1aE\xdf\xa3": "a video",
    b"PK\3\4": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"Rar!": "a RAR archive",
    b"version https://git-lfs": "a pointer of Git LFS, whose image was not downloaded",
}
PAGES = {b"<!doctype html": "a web page (HTML)", b"<html": "a web page (HTML)", b"<svg": "an SVG drawing"}


def has_extension(name: str, extensions: str | tuple[str, ...]) -> bool:
    """Whether a name ends with such an extension, in small letters or large ones."""
    return name.lower().endswith(extensions)


def sniff(data: bytes) -> str | None:
    """The type of a file that begins with these bytes, in words; None if it is not in the tables above."""
    beginning = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if beginning.startswith(b"<?xml"):
        beginning = beginning[max(0, beginning.find(b"<svg")) :]
    if data[4:8] == b"ftyp":
        return "a video, or an image of a kind that is not read"
    for start, name in BEGINNINGS.items():
        if data.startswith(start):
            return name
    return next((name for start, name in PAGES.items() if beginning.startswith(start)), None)
