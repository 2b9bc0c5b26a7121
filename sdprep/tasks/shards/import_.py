"""`sdprep results import`: stored results for the images of a folder, so that no model has to see them again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sdprep.catalog.catalog import Catalog
from sdprep.catalog.schema import CODES, FileStat, Key, file_stat
from sdprep.catalog.session import AccessMode, CatalogAccess, CatalogSession
from sdprep.config import CaptionSettings, PathOptions, TagSettings, option_names
from sdprep.errors import ImageError
from sdprep.images.decoder import file_digest
from sdprep.report import CancelToken, Listener, NullListener
from sdprep.shards.results import Results, RunRecord
from sdprep.shards.table import OK, Row
from sdprep.tasks.annotation.job import truncated_key
from sdprep.tasks.annotation.writer import NOT_REMEMBERED
from sdprep.tasks.option_values import as_argument, as_flags
from sdprep.tasks.reading import GROUP, read_groups
from sdprep.tasks.run_info import catalogs_for, image_source
from sdprep.types import FailureCode, ImageItem, ImageWarning


@dataclass(slots=True)
class ImportedResults:
    """What became of the images of a folder: imported, failed in the run, or not among its images.

    `command` writes the sidecars.
    """

    found: int = 0
    imported: int = 0
    failed: int = 0
    missing: list[str] = field(default_factory=list)
    unreadable: list[dict[str, str]] = field(default_factory=list)
    command: str = ""


@dataclass(frozen=True, slots=True)
class _Image:
    """An image of the folder, its size and time before it was read, and the hash of its content."""

    item: ImageItem
    catalog: Catalog
    key: Key
    stamp: FileStat
    digest: bytes


def import_(
    results: Results,
    folder: Path,
    paths: PathOptions = PathOptions(),
    *,
    listener: Listener | None = None,
) -> ImportedResults:
    """Store the results of the images of a folder in its catalog, where images are known by their content.

    Raises StoreError, NoImages, CatalogError, and MissingExtra without pyarrow.
    """
    listener = listener or NullListener()
    record, done = results.record(), results.done()
    source = image_source(folder, paths)
    items = source.items()
    report = ImportedResults(len(items), command=_command(record, folder))
    access = CatalogAccess("results import", AccessMode.ADD, listener.note)
    with catalogs_for(source, paths, access) as catalogs:
        listener.stage("reading images", len(items))
        images = _hashed(items, catalogs, report, listener)
        listener.stage("reading results", len(done), "shards")
        for shard in done:
            if not images:
                break
            _store(record, results.rows(shard, record.task), images, report)
            listener.advance()
    report.missing += [image.item.rel for some in images.values() for image in some]
    return report


def _command(record: RunRecord, folder: Path) -> str:
    """The command that writes the sidecars, with the options of the run; results may come from anywhere."""
    known = option_names(TagSettings if record.task == "tag" else CaptionSettings)
    stated = {name: value for name, value in record.stated.items() if name in known}
    # The name of a model from a TOML file or a folder does not lead to it; the option that was given does.
    options = [as_flags(option, value) for option, value in {"model": record.model, **stated}.items()]
    return " ".join(["sdprep", record.task, as_argument(folder), *options])


def _hashed(
    items: Sequence[ImageItem], catalogs: CatalogSession, report: ImportedResults, listener: Listener
) -> dict[bytes, list[_Image]]:
    """The images by their content; those that cannot be read are in the report."""
    found: dict[bytes, list[_Image]] = {}
    groups = (items[start : start + GROUP] for start in range(0, len(items), GROUP))
    for some in read_groups(_digests, groups, CancelToken()):
        for item, stamp, digest in some:
            if isinstance(digest, ImageError):
                report.unreadable.append({"path": item.rel, "code": digest.code.value, "message": str(digest)})
            else:
                catalog = catalogs.of(item.target.parent)
                image = _Image(item, catalog, catalog.key(item.target), stamp, digest)
                found.setdefault(digest, []).append(image)
            listener.advance()
    return found


def _digests(items: Sequence[ImageItem]) -> list[tuple[ImageItem, FileStat, bytes | ImageError]]:
    """Size and time of each image before it is read, and its hash, or why it cannot be read."""
    found: list[tuple[ImageItem, FileStat, bytes | ImageError]] = []
    for item in items:
        stamp: FileStat = (0, 0)
        try:
            stamp = file_stat(item.path.stat())
            found.append((item, stamp, file_digest(item)))
        except OSError as error:
            found.append((item, stamp, ImageError(FailureCode.UNREADABLE, error.strerror or str(error))))
        except ImageError as error:
            found.append((item, stamp, error))
    return found


def _store(record: RunRecord, rows: Iterable[Row], images: dict[bytes, list[_Image]], report: ImportedResults) -> None:
    """Store what the rows say of images that are still without a result, which are then no longer among these."""
    by_catalog: dict[int, tuple[Catalog, list[tuple[_Image, Row]]]] = {}
    for row in rows:
        for image in images.pop(row.digest, []) if row.digest is not None and _serves(row) else []:
            by_catalog.setdefault(id(image.catalog), (image.catalog, []))[1].append((image, row))
    for catalog, some in by_catalog.values():
        with catalog.transaction():
            _store_in(catalog, record, some, report)


def _serves(row: Row) -> bool:
    """Whether a row tells anything that holds on another machine."""
    return (
        row.outcome in CODES - {code.value for code in NOT_REMEMBERED} if row.outcome != OK else row.result is not None
    )


def _store_in(catalog: Catalog, record: RunRecord, some: Sequence[tuple[_Image, Row]], report: ImportedResults) -> None:
    whole, incomplete = catalog.recipe_id(record.recipe), catalog.recipe_id(truncated_key(record.recipe))
    for image, row in some:
        catalog.remember_image(image.key, image.stamp, image.digest)
        if row.result is None:
            catalog.remember_failure(image.digest, record.decoder, row.outcome, row.message)
            report.failed += 1
        else:
            recipe = incomplete if ImageWarning.TRUNCATED.value in row.warnings else whole
            catalog.store_result(image.digest, recipe, row.result)
            report.imported += 1
