"""What the catalog remembers of images that failed, so that they are not tried again: listing it, forgetting it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from sdprep.catalog.catalog import Catalog
from sdprep.catalog.schema import CODES, as_text
from sdprep.types import FailureCode

# What an image does to the process that decodes it; all other codes say what is wrong with the file.
CRASH_CODES = (FailureCode.CRASHED, FailureCode.TIMED_OUT)


@dataclass(frozen=True, slots=True)
class KnownFailure:
    """An image that is passed over, and why."""

    path: Path
    code: FailureCode
    message: str


def remembered(catalog: Catalog, folder: Path, decoder: str, codes: Collection[FailureCode]) -> list[KnownFailure]:
    """The images in a folder and below that this decoder is not given again, whatever it lets in; sorted by path."""
    rows = catalog.db.execute(
        "SELECT key, code, message FROM images JOIN failures USING (digest)"
        " WHERE decoder = ? OR substr(decoder, 1, ?) = ? ORDER BY decoder",
        (decoder, len(decoder) + 1, f"{decoder} "),
    )
    with catalog.decoding("what it knows of an image that failed"):
        found = {
            key: KnownFailure(catalog.path(key), FailureCode(code), as_text(message))
            for key, code, message in rows
            if code in CODES
        }
    chosen = [each for each in found.values() if each.code in codes and each.path.is_relative_to(folder)]
    return sorted(chosen, key=lambda each: each.path)


def forget(catalog: Catalog, images: Collection[KnownFailure]) -> None:
    """Let these images be tried again."""
    keys = [(catalog.key(image.path),) for image in images]
    catalog.db.executemany("DELETE FROM failures WHERE digest = (SELECT digest FROM images WHERE key = ?)", keys)
