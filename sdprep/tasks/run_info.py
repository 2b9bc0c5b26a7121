"""The record of a run: its id, its settings, the versions of packages."""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from sdprep.catalog.catalog import Catalog, RunInfo
from sdprep.catalog.schema import FILE, FOLDER
from sdprep.catalog.session import CatalogAccess, CatalogSession, catalogs_below, find_catalog
from sdprep.config import PathOptions
from sdprep.errors import CatalogError, DamagedCatalog
from sdprep.files import real_path
from sdprep.images.source import ImageSource
from sdprep.installation import installed_version
from sdprep.sanitize import printable_time
from sdprep.tasks.option_values import as_argument

PACKAGES = ("sdprep", "pillow", "numpy", "onnxruntime", "torch", "transformers")


def run_info(command: str, settings: Any, model: str | None, **more: Any) -> RunInfo:
    """A new run, with an id from its start time; `settings` is a settings dataclass, `more` is kept with them."""
    started = time.time()
    values = msgspec.to_builtins(settings, enc_hook=str) | msgspec.to_builtins(more, enc_hook=str)
    return RunInfo(new_id(started), command, values, package_versions(), model, started)


def new_id(started: float) -> str:
    """An id for what starts at this time."""
    return printable_time(started, "%Y%m%d-%H%M%S") + "-" + secrets.token_hex(2)


def package_versions() -> dict[str, str]:
    """The versions of packages that a run records; the first call takes longer than an edit of one file."""
    found = {"python": sys.version.split()[0], **{name: installed_version(name) for name in PACKAGES}}
    return {name: version for name, version in found.items() if version is not None}


def catalogs_for(source: ImageSource, paths: PathOptions, access: CatalogAccess) -> CatalogSession:
    """The catalogs of a run: the one of `--catalog`, that of the output folder, or the nearest of each image."""
    return CatalogSession(source.homes, access, fixed_catalog(paths))


def fixed_catalog(paths: PathOptions) -> Path | None:
    """The only catalog of a run: the one of `--catalog`, or that of the output folder; None without both."""
    if paths.catalog is None and paths.output_dir is not None:
        return real_path(paths.output_dir) / FOLDER / FILE
    return real_path(paths.catalog) if paths.catalog else None


def image_source(inputs: Path | Sequence[Path], paths: PathOptions) -> ImageSource:
    """The images of a run. Raises UsageError naming the inputs that are not there."""
    return ImageSource(inputs, recursive=paths.recursive, follow_links=paths.follow_links, output_dir=paths.output_dir)


@contextmanager
def catalogs_of(
    directory: Path, fixed: Path | None, access: CatalogAccess
) -> Iterator[tuple[CatalogSession, list[Catalog]]]:
    """The catalogs of a folder: the nearest at or above it, and all below.

    One below that is damaged is left out with a note if there are others: it is of another dataset.
    """
    directory, above = real_path(directory), None
    if fixed is not None:
        files = [real_path(fixed)]
    else:
        above = find_catalog(directory)
        files = list(dict.fromkeys([*([above] if above else []), *catalogs_below(directory)]))
    missing = [file for file in files if not file.is_file()]
    if missing or not files:
        raise CatalogError(f"there is no catalog at {missing[0]}" if missing else f"no catalog in or above {directory}")
    with CatalogSession([directory], access, trusted=fixed is not None) as opened:
        yield opened, list(_undamaged(opened, files, above, access))


def _undamaged(
    opened: CatalogSession, files: Sequence[Path], above: Path | None, access: CatalogAccess
) -> Iterator[Catalog]:
    damaged: list[DamagedCatalog] = []
    for file in files:
        try:
            yield opened.at(file)
        except DamagedCatalog as error:
            damaged.append(error)
            if file == above or len(damaged) == len(files):
                raise
            access.note(f"left out: {error}")


def retry_commands(source: ImageSource, paths: PathOptions) -> list[str]:
    """The commands after which a run tries images that failed again: one for each folder with a catalog of its own."""
    catalog = f" --catalog {as_argument(real_path(paths.catalog))}" if paths.catalog else ""
    return [f"sdprep retry {as_argument(home)}{catalog}" for home in source.homes]
