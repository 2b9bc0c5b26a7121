"""`sdprep retry`: forget which pictures failed, so that the next run tries them again."""

from __future__ import annotations

from pathlib import Path

from sdprep.data.catalogs import Access, Purpose
from sdprep.data.decoder import DECODER
from sdprep.data.quarantine import HARMFUL, Remembered, forget, remembered
from sdprep.files import real_path
from sdprep.tasks.history import catalogs_of
from sdprep.types import FailureCode, Listener, Silent


def retry(
    directory: Path, *, quarantined: bool = False, catalog: Path | None = None, listener: Listener | None = None
) -> list[Remembered]:
    """Forget the failed pictures of a folder, or only those that are quarantined; what was forgotten.

    Raises CatalogError if there is no catalog.
    """
    directory = real_path(directory)
    codes = HARMFUL if quarantined else tuple(FailureCode)
    forgotten = []
    with catalogs_of(directory, catalog, Access("retry", Purpose.CHANGE, (listener or Silent()).note)) as found:
        for each in found:
            with each.transaction():
                pictures = remembered(each, directory, DECODER, codes)
                forget(each, pictures)
            forgotten += pictures
    return forgotten
