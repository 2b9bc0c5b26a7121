"""Exporting a dataset to what a trainer or another tool takes."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sdprep.catalog.session import AccessMode, CatalogAccess
from sdprep.config import MergeSettings
from sdprep.errors import MissingSidecars, NoSidecars, UsageError
from sdprep.files import real_path
from sdprep.images.inputs import names_of
from sdprep.images.source import ImageSource
from sdprep.paths import stem_of
from sdprep.report import CancelToken, Listener, NullListener, RunReport
from sdprep.rules.edits.operations import ORDER, Edit, Operation, prepare
from sdprep.tasks.annotation.moves import recognise
from sdprep.tasks.dataset import Dataset, DatasetImage
from sdprep.tasks.exchange.files import ExportFolder, check_output
from sdprep.tasks.exchange.settings import ExportSettings
from sdprep.tasks.run_info import catalogs_for, image_source
from sdprep.tasks.settings import Cascade, Layers
from sdprep.tasks.texts.categories import categories_of, with_preset_order
from sdprep.tasks.texts.records import NAMING, matching
from sdprep.texts import metadata
from sdprep.texts.exchange.parquet import check_parquet
from sdprep.texts.exchange.sample import Sample, join
from sdprep.types import Failure, FailureCode, ImageItem

INCOMPLETE = "the export is incomplete; run the same command with --overwrite to write all of it"


def export(
    inputs: Path | Sequence[Path],
    settings: ExportSettings,
    *,
    layers: Layers = Layers(),
    listener: Listener | None = None,
    stop: CancelToken | None = None,
) -> RunReport:
    """Write the images of these inputs, with their captions and tags, as a trainer or another tool takes them.

    `layers` has what is stated about sidecars. The inputs are only read. Raises UsageError, NoImages, NoSidecars,
    MissingSidecars, MissingExtra, and WriteError if a file cannot be written.
    """
    listener, stop = listener or NullListener(), CancelToken() if stop is None else stop
    start = time.monotonic()
    settings = replace(settings, output=real_path(settings.output))
    if "parquet" in (settings.target, settings.file_options.format):
        check_parquet()
    source = image_source(inputs, settings.paths)
    folders = [path for path in ([inputs] if isinstance(inputs, Path) else inputs) if path.is_dir()]
    sources = {*map(real_path, folders), *(each for each in source.places if each.is_dir())}
    check_output(settings.output, sorted(sources), overwrite=settings.overwrite)
    items, images = _read(source, settings, layers, listener, stop)
    report = RunReport("export", found=len(items), dry_run=settings.dry_run)
    samples = _samples(images, settings, report)
    if stop:
        report.remaining, report.stopped = report.uncounted, stop.exit_code
    elif settings.dry_run:
        report.remaining = len(samples)
    else:
        _write(samples, settings, report, listener, stop)
    report.seconds = time.monotonic() - start
    report.check()
    return report


def _read(
    source: ImageSource, settings: ExportSettings, layers: Layers, listener: Listener, stop: CancelToken
) -> tuple[list[ImageItem], list[DatasetImage]]:
    """The images, and what `merge` reads of them: fewer after a stop; those that could not be read have a failure."""
    dataset = Dataset(source)
    items = dataset.items(listener)
    wanted = MergeSettings(
        fields=settings.fields,
        caption_extension=settings.caption_extension,
        tag_extension=settings.tag_extension,
        paths=settings.paths,
    )
    with catalogs_for(source, settings.paths, CatalogAccess("export", AccessMode.DRY_RUN, listener.note)) as catalogs:
        cascade = Cascade("merge", wanted, layers, catalogs, source.places, listener.note)
        recognise(catalogs, items, stop)
        items = matching(items, settings.paths.where, cascade, catalogs, listener, stop)
        parts = cascade.parts(items)
        cascade.note_remembered(parts, NAMING)
        of_image: dict[str, MergeSettings] = {}
        for part, some in parts:
            own = replace(part.settings, fields=settings.fields)
            if {"caption", "tags"} <= set(own.fields) and own.caption_extension == own.tag_extension:
                raise UsageError(f"captions and tags would both be read from {own.tag_extension}; use --text caption")
            of_image |= dict.fromkeys((item.rel for item in some), own)
        failures = {
            **metadata.key_failures(items, "absolute"),
            **_name_failures(items, settings),
            **dataset.collisions(items, of_image),
        }
        images = dataset.read(items, of_image, catalogs, listener, stop, failures)
        if settings.order is not None:
            order = with_preset_order(Operation(ORDER, settings.order))
            ordered = prepare(order, "tags", (), categories_of(items, catalogs, settings.paths))
            images = [_with_tags(image, ordered) for image in images]
        return items, images


def _with_tags(image: DatasetImage, edit: Edit) -> DatasetImage:
    tags = image.texts.get("tags")
    return image if tags is None else replace(image, texts={**image.texts, "tags": edit(tags)})


def _name_failures(items: Sequence[ImageItem], settings: ExportSettings) -> dict[str, Failure]:
    """A failure, by `rel`, for every image that would share its name in the export, or its text there, with another."""
    options, target = settings.file_options, settings.row
    sharing: dict[str, list[ImageItem]] = {}
    for item in items:
        name = target.place(item.rel, options)
        name = unicodedata.normalize("NFC", stem_of(name) if target.by_stem else name).casefold()
        sharing.setdefault(name, []).append(item)
    failures: dict[str, Failure] = {}
    for some in sharing.values():
        if len(some) > 1:
            message = f"{names_of(item.rel for item in some)} would have one name in the export; rename one"
            failures |= {item.rel: Failure(item, FailureCode.STEM_COLLISION, message) for item in some}
    return failures


def _samples(images: Sequence[DatasetImage], settings: ExportSettings, report: RunReport) -> list[Sample]:
    """The images to export; the others are counted. Raises NoSidecars, and MissingSidecars if all are required."""
    which = settings.which
    trains = ("caption", "tags") if which == "both" else (which,)
    samples: list[Sample] = []
    for image in images:
        lacks_all = all(image.texts.get(field) is None for field in trains)
        if lacks_all:
            report.missing += 1
            report.missing_paths.append(image.item.rel)
        if image.failure is not None:
            report.fail(image.failure)
        elif lacks_all and settings.missing == "skip":
            report.keep(image.item.rel)
        else:
            samples.append(_sample(image, trains, settings))
    if report.missing and settings.missing == "error":
        names = names_of(report.missing_paths)
        raise MissingSidecars(f"{report.missing} of {report.found} images lack {_named(trains)}: {names}")
    if images and report.missing == len(images) and settings.missing == "skip":
        other = {"caption": "; --text tags exports tags", "tags": "; --text caption exports captions"}.get(which, "")
        raise NoSidecars(f"nothing to export: no image has {_named(trains)}{other}")
    return samples


def _named(fields: Sequence[str]) -> str:
    return " or ".join({"caption": "a caption file", "tags": "a tag file"}[field] for field in fields)


def _sample(image: DatasetImage, trains: Sequence[str], settings: ExportSettings) -> Sample:
    item, options = image.item, settings.file_options
    name = settings.row.place(item.rel, options)
    width, height = image.size or (0, 0)
    return Sample(
        name=name,
        item=item,
        path=metadata.key_of(item, "absolute") if settings.handling == "leave" else str(options.root / name),
        caption=image.texts.get("caption"),
        tags=image.texts.get("tags"),
        text=join(*(image.texts.get(field) if field in trains else None for field in ("caption", "tags"))),
        size=(width, height),
    )


def _write(
    samples: Sequence[Sample], settings: ExportSettings, report: RunReport, listener: Listener, stop: CancelToken
) -> None:
    """Write the images, then the files that name them: once those are there, so is everything."""
    folder = ExportFolder(settings.output)
    place = {"link": folder.link, "copy": folder.copy}.get(settings.handling or "leave")
    listener.stage("exporting", len(samples))
    stop.interruptible = True
    for sample in samples:
        if stop:
            break
        if place is not None:
            place(sample.name, sample.item)
        listener.advance()
    for file in settings.row.write(samples, settings.file_options):
        if stop:
            break
        folder.put(file.name, file.parts)
    stop.interruptible = False
    if stop:
        report.remaining, report.stopped = len(samples), stop.exit_code
        listener.note(INCOMPLETE)
        return
    report.written, report.output = len(samples), str(settings.output)
    _note(folder, settings, listener)


def _note(folder: ExportFolder, settings: ExportSettings, listener: Listener) -> None:
    """Say what is different from what was asked for, and what to do next."""
    if folder.copied:
        images = "1 image was" if folder.copied == 1 else f"{folder.copied} images were"
        listener.note(f"{images} copied: hard links from there to {folder.root} are not possible")
    if others := folder.others():
        listener.note(f"{len(others)} other files in {folder.root} stay: {names_of(others)}")
    extension = settings.file_options.extension
    listener.note(settings.row.advice.format(root=folder.root, extension=extension))
