"""Stars, which a catalog keeps with the content of an image, and rejecting, which moves an image out of the dataset.

A rejected image goes to the folder `_rejected` with its sidecars, through the journal: its bytes are there before it is
moved, and `sdprep undo` brings it back. No command takes images from that folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sdprep.catalog.catalog import Catalog
from sdprep.catalog.schema import Key, as_number, file_stat, select_many
from sdprep.catalog.session import CatalogSession
from sdprep.errors import ImageError, UsageError
from sdprep.files import FILE_LIMIT
from sdprep.folders import Folders
from sdprep.images.decoder import file_digest
from sdprep.images.source import REJECTED
from sdprep.tasks.review.index import Index
from sdprep.tasks.texts.plan import Plan, PlannedChange
from sdprep.types import Failure, FailureCode, ImageItem

MOST_STARS = 5
ELSEWHERE = "images are not moved while --output-dir keeps sidecars elsewhere"


def set_stars(index: Index, numbers: Sequence[int], stars: int, catalogs: CatalogSession) -> None:
    """Give images 0 to 5 stars; images of equal content share them.

    Raises UsageError for other stars, and ImageError as `file_digest`.
    """
    if not 0 <= stars <= MOST_STARS:
        raise UsageError(f"an image has 0 to {MOST_STARS} stars")
    for number in numbers:
        item = index.items[number]
        catalog = catalogs.of(item.target.parent)
        digest = file_digest(item)
        stamp = file_stat(item.path.stat())
        with catalog.transaction():
            # With a row of its own, the image is known by its content wherever it goes.
            catalog.db.execute(
                "INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?)", (_key(catalog, item), *stamp, digest)
            )
            if stars:
                catalog.db.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", (digest, stars))
            else:
                catalog.db.execute("DELETE FROM marks WHERE digest = ?", (digest,))


def stars_of(items: Sequence[ImageItem], catalogs: CatalogSession) -> dict[str, int]:
    """The stars of images that have some, by `rel`."""
    by_catalog: dict[int, tuple[Catalog, dict[Key, str]]] = {}
    for item in items:
        catalog = catalogs.of(item.target.parent)
        keys = by_catalog.setdefault(id(catalog), (catalog, {}))[1]
        # An image that was just moved is known at its other place.
        keys[_key(catalog, moved(item, rejected=not is_rejected(item)))] = item.rel
        keys[_key(catalog, item)] = item.rel
    found: dict[str, int] = {}
    select = "SELECT key, stars FROM images JOIN marks USING (digest) WHERE key IN ({})"
    for catalog, keys in by_catalog.values():
        with catalog.decoding("the stars of an image"):
            found |= {keys[key]: as_number(stars) for key, stars in select_many(catalog.db, select, list(keys))}
    return found


def _key(catalog: Catalog, item: ImageItem) -> Key:
    return catalog.key(item.target)


def is_rejected(item: ImageItem) -> bool:
    """Whether an image is in the folder of rejected ones."""
    return item.within.startswith(f"{REJECTED}/")


def moved(item: ImageItem, *, rejected: bool) -> ImageItem:
    """The image in the folder of rejected ones, or back at its place."""
    within = item.within.removeprefix(f"{REJECTED}/")
    return replace(item, rel=item.prefix + (f"{REJECTED}/{within}" if rejected else within))


def add_moves(
    plan: Plan, index: Index, numbers: Sequence[int], catalogs: CatalogSession, *, rejected: bool
) -> list[int]:
    """Take the moves of images and their sidecars into a plan, and return the numbers of those that move.

    Raises UsageError if sidecars are not beside their images.
    """
    chosen = []
    for number in numbers:
        item = index.items[number]
        if item.folder != item.target_folder or item.is_link:
            raise UsageError("a link is not moved" if item.is_link else ELSEWHERE)
        if is_rejected(item) == rejected:
            plan.unchanged += 1
            continue
        failure = _add_move(plan, item, moved(item, rejected=rejected), index, catalogs)
        if failure is None:
            chosen.append(number)
        else:
            plan.failures.append(failure)
    return chosen


def _add_move(plan: Plan, item: ImageItem, target: ImageItem, index: Index, catalogs: CatalogSession) -> Failure | None:
    """Take the move of one image; the new files come before the old ones go. Why it cannot be moved, or None."""
    names, after = index.names_of(item), index.names_of(target)
    pairs = {item.within: target.within}
    pairs |= {names.name(item.within, kind): after.name(target.within, kind) for kind in ("tags", "caption")}
    new, old = [], []
    try:
        with Folders(item.folder) as folders:
            for before, place in pairs.items():
                path = item.folder / place
                if folders.read(path, FILE_LIMIT) is not None:
                    return Failure(item, FailureCode.UNWRITABLE, f"{place} is there already")
                data = folders.read(item.folder / before, FILE_LIMIT)
                if data is not None:
                    catalog = catalogs.of((item.folder / before).parent)
                    state = catalog.state_id_of(catalog.key(item.folder / before))
                    new.append(PlannedChange(item, path, None, data, state=state))
                    old.append(PlannedChange(item, item.folder / before, data, None))
    except (OSError, ImageError) as error:
        return Failure(item, FailureCode.UNREADABLE, getattr(error, "strerror", None) or str(error))
    plan.changes += [*new, *old]
    return None


def relocate(index: Index, numbers: Sequence[int]) -> None:
    """Have the index know where images are now, after they were moved or an undo moved them back."""
    for number in numbers:
        item = index.items[number]
        other = moved(item, rejected=not is_rejected(item))
        if not os.path.lexists(item.path) and os.path.lexists(other.path):
            index.move(number, other)


def marks(index: Index, numbers: Sequence[int], catalogs: CatalogSession) -> Mapping[int, dict[str, int | bool]]:
    """What is marked on images, as rows have it."""
    items = [index.items[number] for number in numbers]
    stars = stars_of(items, catalogs)
    return {
        number: {"stars": stars.get(item.rel, 0), "is_rejected": is_rejected(item)}
        for number, item in zip(numbers, items, strict=True)
    }
