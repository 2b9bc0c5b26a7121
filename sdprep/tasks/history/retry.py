"""`sdprep retry`: forget failures, so that the next run tries those images again."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from sdprep.catalog.catalog import Catalog
from sdprep.catalog.schema import CODES, as_text
from sdprep.catalog.session import AccessMode, CatalogAccess
from sdprep.files import real_path
from sdprep.images.decoder import DECODER
from sdprep.report import Listener, NullListener
from sdprep.tasks.run_info import catalogs_of
from sdprep.types import FailureCode

# Failures that end or block the process that decodes the image; all others are reported by the decoder.
CRASH_CODES = (FailureCode.CRASHED, FailureCode.TIMED_OUT)


@dataclass(frozen=True, slots=True)
class KnownFailure:
    """An image that is not tried again, and why."""

    path: Path
    code: FailureCode
    message: str


def retry(
    directory: Path, *, quarantined: bool = False, catalog: Path | None = None, listener: Listener | None = None
) -> list[KnownFailure]:
    """Forget the failed images of a folder, or only the quarantined ones, and return them.

    Raises CatalogError if there is no catalog.
    """
    directory = real_path(directory)
    codes = CRASH_CODES if quarantined else tuple(FailureCode)
    forgotten = []
    access = CatalogAccess("retry", AccessMode.CHANGE, (listener or NullListener()).note)
    with catalogs_of(directory, catalog, access) as (_, found):
        for each in found:
            with each.transaction():
                failures = _known_failures(each, directory, codes)
                keys = [(each.key(failure.path),) for failure in failures]
                each.db.executemany(
                    "DELETE FROM failures WHERE digest = (SELECT digest FROM images WHERE key = ?)", keys
                )
            forgotten += failures
    return forgotten


def _known_failures(catalog: Catalog, folder: Path, codes: Collection[FailureCode]) -> list[KnownFailure]:
    """The images below a folder that this decoder does not try again, with any settings; sorted by path."""
    rows = catalog.db.execute(
        "SELECT key, code, message FROM images JOIN failures USING (digest)"
        " WHERE decoder = ? OR substr(decoder, 1, ?) = ? ORDER BY decoder",
        (DECODER, len(DECODER) + 1, f"{DECODER} "),
    )
    with catalog.decoding("what it knows of an image that failed"):
        found = {
            key: KnownFailure(catalog.path(key), FailureCode(code), as_text(message))
            for key, code, message in rows
            if code in CODES
        }
    chosen = [each for each in found.values() if each.code in codes and each.path.is_relative_to(folder)]
    return sorted(chosen, key=lambda each: each.path)
