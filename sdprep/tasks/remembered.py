"""`sdprep settings`: what earlier runs stated for a folder, and forgetting it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdprep.catalog import stated
from sdprep.catalog.catalog import Catalog
from sdprep.catalog.session import AccessMode, CatalogAccess
from sdprep.config import SETTINGS, PathOptions
from sdprep.files import real_path
from sdprep.report import NullListener
from sdprep.sanitize import strip_invisible
from sdprep.tasks.option_values import OptionValues, as_flags
from sdprep.tasks.run_info import catalogs_for, catalogs_of, image_source
from sdprep.tasks.settings import folder_key


@dataclass(frozen=True, slots=True)
class RememberedSetting:
    """A setting that an earlier run stated for a place, a folder or an image.

    `above` is how many folders the place is above the folder in question, or None if it is below. `flags` is the option
    with its value as on the command line. A setting that is not signed came with the folder.
    """

    place: Path
    task: str
    option: str
    value: Any
    flags: str
    origin: str
    run: str
    is_signed: bool
    above: int | None


def remembered(directory: Path, *, catalog: Path | None = None) -> list[RememberedSetting]:
    """The settings of earlier runs for a folder and all below, and those for folders above that apply to it.

    Raises CatalogError if there is no catalog.
    """
    access = CatalogAccess("settings", AccessMode.READ, NullListener().note)
    with catalogs_of(directory, catalog, access) as (_, found):
        return [row for each in found for row in _rows(each, real_path(directory))]


def in_force(directory: Path, task: str, paths: PathOptions) -> list[RememberedSetting]:
    """The settings of earlier runs of a task that apply to a folder; none if it has no catalog."""
    access = CatalogAccess("settings", AccessMode.DRY_RUN, NullListener().note)
    with catalogs_for(image_source(directory, paths), paths, access) as catalogs:
        folder = real_path(paths.output_dir or directory)
        rows = _rows(catalogs.of(folder), folder)
        return [row for row in rows if row.task == task and row.above is not None]


def forget(
    directory: Path, options: Collection[str] | None = None, *, catalog: Path | None = None
) -> list[RememberedSetting]:
    """Forget the settings of a folder and all below, or only these options of them, and return them.

    Raises CatalogError if there is no catalog.
    """
    directory, gone = real_path(directory), []
    access = CatalogAccess("settings", AccessMode.CHANGE, NullListener().note)
    with catalogs_of(directory, catalog, access) as (_, found):
        for each in found:
            rows = [row for row in _rows(each, directory) if not row.above]
            gone += [row for row in rows if options is None or row.option in options]
            top = directory if directory.is_relative_to(each.root) else each.root
            stated.forget(each, folder_key(each, top), options=options)
    return gone


def take_back(catalog: Catalog, run: str, undoing: str | None, folder: Path) -> str:
    """Let what was stated before a run hold again for a folder and below, as of the run `undoing`; None: not yet.

    Returns what the run had stated, as flags.
    """
    folder = real_path(folder)
    rows = stated.stated_by(catalog, run, folder_key(catalog, folder))
    if undoing is not None:
        with catalog.transaction():
            stated.take_back(catalog, run, undoing, folder_key(catalog, folder))
    return " ".join(dict.fromkeys(_shown(row, folder, catalog.root, None).flags for row in rows))


def _rows(catalog: Catalog, folder: Path) -> list[RememberedSetting]:
    """What a catalog remembers for a folder, all below and all above; all of it if it lies elsewhere."""
    if not (folder.is_relative_to(catalog.root) or catalog.root.is_relative_to(folder)):
        folder = catalog.root
    rows = []
    for row in stated.stated_rows(catalog):
        place = catalog.path(row.place) if row.place else catalog.root
        if folder.is_relative_to(place):
            rows.append(_shown(row, place, catalog.root, len(folder.relative_to(place).parts)))
        elif place.is_relative_to(folder):
            rows.append(_shown(row, place, catalog.root, None))
    return rows


def _shown(row: stated.StatedRow, place: Path, root: Path, above: int | None) -> RememberedSetting:
    """A row without invisible characters: the catalog is untrusted, as it may have come with the images."""
    try:
        value = OptionValues(SETTINGS[row.task]).from_row(row, root)
    except (KeyError, ValueError):
        # Of another version of sdprep.
        value = row.value
    task, option, origin, run = map(strip_invisible, (row.task, row.option, row.origin, row.run))
    flags = strip_invisible(as_flags(row.option, value))
    return RememberedSetting(place, task, option, value, flags, origin, run, row.is_signed, above)
