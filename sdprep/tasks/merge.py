"""Merging sidecars and image sizes into the metadata JSON that kohya-style trainers read."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sdprep.catalog.catalog import Catalog, RunInfo
from sdprep.catalog.history import versions
from sdprep.catalog.journal import Change
from sdprep.catalog.session import AccessMode, CatalogAccess
from sdprep.config import MergeSettings
from sdprep.errors import MetadataError, MissingSidecars, NoSidecars, UsageError
from sdprep.files import FILE_LIMIT, real_path
from sdprep.folders import check_writable, read_below
from sdprep.images.source import ImageSource
from sdprep.paths import is_inside
from sdprep.report import GO_ON, CancelToken, Listener, NullListener, RunReport
from sdprep.tasks.annotation.moves import recognise
from sdprep.tasks.annotation.notes import without_effect
from sdprep.tasks.changes import replace_through_journal
from sdprep.tasks.dataset import SIZE, Dataset, DatasetImage
from sdprep.tasks.reading import without_collector
from sdprep.tasks.run_info import catalogs_for, image_source
from sdprep.tasks.settings import Cascade, Layers
from sdprep.tasks.texts.records import matching
from sdprep.texts import metadata
from sdprep.texts.exact_json import Number
from sdprep.texts.metadata import Claims, Entries, Entry
from sdprep.texts.moved import Likeness, Place, find_places, former_places, renamed_folders
from sdprep.texts.orphans import Orphans, folders_of, has_file, name_places, paths_here, sort_orphans
from sdprep.types import ImageItem

OUTPUT_NAME = "metadata.json"
ENDINGS = (".json", ".jsonl")
TEXT_FIELDS = ("caption", "tags")
NAMES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class MetadataFile:
    """The metadata JSON as it is: its path, its bytes (None: no file), its entries, and those to start from."""

    path: Path
    before: bytes | None
    held: Entries
    base: Entries


def merge(
    inputs: Path | Sequence[Path],
    settings: MergeSettings = MergeSettings(),
    *,
    layers: Layers = Layers(),
    listener: Listener | None = None,
    stop: CancelToken | None = None,
) -> RunReport:
    """Write captions, tags and image sizes of a folder's images into one metadata JSON.

    `layers` has what is stated for the images, `settings` all else (see `tasks/settings.py`); keys are those of the
    folder itself. Raises UsageError, NoImages, NoSidecars, MetadataError if a JSON cannot be read or written, and
    MissingSidecars if every sidecar has to be there.
    """
    try:
        with without_collector():
            return _merge(inputs, settings, layers, listener or NullListener(), CancelToken() if stop is None else stop)
    except KeyboardInterrupt as interrupt:
        interrupt.args = (f"the metadata JSON is as it was, or complete; {GO_ON}",)
        raise


def _merge(
    inputs: Path | Sequence[Path], settings: MergeSettings, layers: Layers, listener: Listener, stop: CancelToken
) -> RunReport:
    start = time.monotonic()
    dataset = Dataset(image_source(inputs, settings.paths))
    output = _open_output(dataset.source, settings)
    items = dataset.items(listener)
    report = RunReport("merge", found=len(items), dry_run=settings.dry_run)
    mode = AccessMode.DRY_RUN if settings.dry_run else AccessMode.ADD
    with catalogs_for(dataset.source, settings.paths, CatalogAccess("merge", mode, listener.note)) as catalogs:
        # Opened before the images are read: another run may hold it, or its folder may be read-only.
        catalog = catalogs.of(dataset.source.home)
        found = recognise(catalogs, items, stop)
        report.add_moves(len(found.sidecars), ((each.sidecar, each.image) for each in found.orphans))
        output = _recall_output(output, catalog)
        cascade = Cascade("merge", settings, layers, catalogs, dataset.source.places, listener.note)
        of_image = _settings_of(items, cascade, layers, listener)
        chosen = matching(items, settings.paths.where, cascade, catalogs, listener, stop)
        report.found = len(chosen)
        settings = cascade.of_folder(dataset.directory, dataset.source.home).settings
        if not settings.dry_run:
            check_writable(real_path(output.path).parent, "Give -o FILE for another output")
        failures = {**metadata.key_failures(items, settings.keys), **dataset.collisions(items, of_image)}
        images = dataset.read(chosen, of_image, catalogs, listener, stop, failures)
        names = {item.rel for item in chosen}
        others = [DatasetImage(item, of_image[item.rel], {}) for item in items if item.rel not in names]
        if stop:
            report.remaining, report.stopped = report.found, stop.exit_code
        else:
            after = _merged(images, others, output, dataset.directory, settings, report, listener)
            if not settings.dry_run:
                report.seconds = time.monotonic() - start
                info = cascade.run_record(settings, None)
                _replace_output(output, after, catalog, info, report)
                with catalog.transaction():
                    cascade.record(catalog, info.uid)
    report.output = str(output.path) if output.path.exists() else None
    report.seconds = time.monotonic() - start
    report.check()
    return report


def _settings_of(
    items: list[ImageItem], cascade: Cascade[MergeSettings], layers: Layers, listener: Listener
) -> dict[str, MergeSettings]:
    """The settings of each image by its name; stated options without effect are noted.

    Raises UsageError for settings that contradict each other.
    """
    parts = cascade.parts(items)
    cascade.note_remembered(parts)
    for part, _ in parts:
        _check(part.settings)
    stated = layers.whole_run | layers.now.keys()
    for line in without_effect(stated, [(part.settings, None) for part, _ in parts]):
        listener.note(line)
    return {item.rel: part.settings for part, some in parts for item in some}


def _merged(
    images: list[DatasetImage],
    others: list[DatasetImage],
    output: MetadataFile,
    directory: Path,
    settings: MergeSettings,
    report: RunReport,
    listener: Listener,
) -> bytes:
    """The new bytes of the metadata JSON; every image is counted, and the entries of `others` stay as they are."""
    _count_missing(images, settings, report)
    entries = _arrange(output, images, others, directory, settings, report, listener)
    _check_kinds(images, entries, settings, directory, listener)
    changed = _fill(entries, images, output, settings, report)
    _note_replaced(output, entries, [*images, *others], directory, settings, listener)
    for image in images if settings.debug else ():
        listener.note(f"{image.item.rel}: {entries.get(metadata.key_of(image.item, settings.keys))}")
    for name, warning in (each for image in images for each in image.warnings):
        report.flag(name, warning)
    report.remaining, report.written = (changed, 0) if settings.dry_run else (0, changed)
    return metadata.dump(entries, output.path)


def _open_output(source: ImageSource, settings: MergeSettings) -> MetadataFile:
    """Read the output of a merge, and what it starts from. Raises MetadataError naming the file, and UsageError."""
    if settings.output is None and len(source.homes) > 1:
        raise UsageError("several folders have no common place for one JSON; name the file with -o FILE")
    output = settings.output or source.home / OUTPUT_NAME
    if output.suffix.lower() not in ENDINGS:
        raise UsageError(f"-o {output}: a metadata file ends in .json, or in .jsonl for JSON Lines")
    if output.is_symlink() and not is_inside(output, output.parent):
        raise MetadataError(f"{output} is a link that leaves its folder; name the file itself with -o")
    try:
        before = read_below(real_path(output.parent), real_path(output.parent) / output.name, FILE_LIMIT)
    except OSError as error:
        raise MetadataError(f"{output}: {error.strerror or error}") from error
    held = metadata.parse(before, output) if before else {}
    base = held if settings.in_json is None else metadata.load(settings.in_json)
    return MetadataFile(output, before, held, base)


def _recall_output(output: MetadataFile, catalog: Catalog) -> MetadataFile:
    """Start from the catalog's text of an output of 0 bytes, which a power cut or a full disk has left."""
    if output.before != b"" or output.base is not output.held:
        return output
    known = [version.text for version in versions(catalog, real_path(output.path)) if version.text is not None]
    data = catalog.text(known[-1]) if known else b""
    return replace(output, base=metadata.parse(data, output.path)) if data else output


def _replace_output(output: MetadataFile, after: bytes, catalog: Catalog, info: RunInfo, report: RunReport) -> None:
    """Replace the metadata JSON through the journal of the images' catalog, wherever the JSON is, if it changes.

    Raises MetadataError if the file has changed since it was read or cannot be written, WriteError on a full disk.
    """
    path = real_path(output.path)
    if after == (output.before or metadata.dump({}, output.path)):
        return
    report.run = info.uid
    try:
        replace_through_journal(catalog, info, Change(path, output.before, after))
    except OSError as error:
        raise MetadataError(f"{path} cannot be written: {error.strerror}. Run the merge again") from error
    with catalog.transaction():
        catalog.end_run(info.uid, report.as_dict())


def _check(settings: MergeSettings) -> None:
    """Raise UsageError for settings that contradict each other."""
    same = settings.caption_extension == settings.tag_extension
    if same and set(TEXT_FIELDS) <= set(settings.fields):
        raise UsageError(
            f"captions and tags would both be read from {settings.tag_extension}; merge one of the two fields, "
            "or give another extension"
        )


def _fields_of(image: DatasetImage, missing: str = "") -> Entry:
    """What an image contributes to its entry; `missing` takes the place of its own setting."""
    empty = (missing or image.settings.missing) == "empty"
    texts: Entry = {name: text or "" for name, text in image.texts.items() if text is not None or empty}
    return texts if image.size is None else {**texts, SIZE: [Number(str(side)) for side in image.size]}


def _count_missing(images: list[DatasetImage], settings: MergeSettings, report: RunReport) -> None:
    """List the images without a wanted sidecar. Raises MissingSidecars if all are required."""
    report.missing_paths = [image.item.rel for image in images if image.lacks_some]
    report.missing = len(report.missing_paths)
    lacking = Counter(name for image in images for name, text in image.texts.items() if text is None)
    report.lacking = {name: lacking[name] for name in TEXT_FIELDS if lacking[name]}
    if any(image.lacks_some and image.settings.missing == "error" for image in images):
        names = ", ".join(report.missing_paths[:NAMES_SHOWN])
        more = f" and {report.missing - NAMES_SHOWN} more" if report.missing > NAMES_SHOWN else ""
        which = " or ".join(name for name in settings.fields if name in TEXT_FIELDS)
        raise MissingSidecars(f"{report.missing} of {report.found} images lack a {which} sidecar: {names}{more}")


def _check_kinds(
    images: list[DatasetImage], entries: Entries, settings: MergeSettings, directory: Path, listener: Listener
) -> None:
    """Note which kind of sidecar no image has. Raises NoSidecars if there is nothing at all to merge."""
    kinds = {"caption": ("caption", settings.caption_extension), "tags": ("tag", settings.tag_extension)}
    wanted = [name for name in kinds if name in settings.fields]
    absent = [name for name in wanted if all(image.texts.get(name) is None for image in images)]
    if not absent or settings.missing != "skip":
        return
    which = " and no ".join(f"{kinds[name][0]} files ({kinds[name][1]})" for name in absent)
    commands = " or ".join(f"sdprep {kinds[name][0]} {directory}" for name in absent)
    if absent != wanted:
        others = ",".join(name for name in settings.fields if name not in absent)
        listener.note(f"no {which} found: run {commands}, or use --fields {others}")
    elif not any(image.failure or metadata.key_of(image.item, settings.keys) in entries for image in images):
        options = " and ".join(f"--{kinds[name][0]}-extension" for name in absent)
        raise NoSidecars(f"nothing to merge: no {which} in {directory}. Run {commands}; {options} look for other names")


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Whose entries the keys of a JSON are, at which places the images were before, and which keys fit no image.

    `moved` has the new keys of entries that fit no image but whose place is a former one.
    """

    claims: Claims
    former: list[Place]
    orphans: Orphans
    moved: dict[str, str]


def _claim(
    entries: Entries, images: list[DatasetImage], directory: Path, settings: MergeSettings, *, came_along: bool
) -> Arrangement:
    """Find the image of each entry, also where the dataset has moved since the JSON was written."""
    items, by_rel = [image.item for image in images], {image.item.rel: image for image in images}
    claims = metadata.find_claims(entries, items, settings.keys, metadata.locator())
    orphans = sort_orphans(claims.orphans, directory)

    def compare(key: str, rel: str) -> Likeness:
        return _compare(entries[key], _fields_of(by_rel[rel], "skip"))

    places = find_places([*orphans.outside, *orphans.vanished], by_rel.keys())
    former = former_places(places, claims.named, compare, f"{directory.as_posix()}/" if came_along else None)
    adopted = {key for place in former for key in place.keys}
    orphans.outside = [key for key in orphans.outside if key not in adopted]
    without_entry = by_rel.keys() - claims.keys.keys() - {rel for place in former for rel in place.keys.values()}
    renamed = renamed_folders((key for key in orphans.vanished if key not in adopted), without_entry)
    renamed = former_places(renamed, claims.named, compare, None)
    adopted |= {key for place in renamed for key in place.keys}
    rels = paths_here(orphans, former, {item.rel.rpartition("/")[0] for item in items}, directory)
    moved = {key: rel if settings.keys == "relative" else str(directory / rel) for key, rel in rels.items()}
    orphans.outside = [key for key in orphans.outside if key not in moved]
    orphans.vanished = [key for key in orphans.vanished if key not in adopted]
    orphans.vanished += [moved[key] for key, rel in rels.items() if not has_file(rel, directory)]
    former += renamed
    return Arrangement(metadata.adopt(claims, former), former, orphans, moved)


def _compare(entry: Entry, content: Entry) -> Likeness:
    """Compare an entry with what is on disk for an image."""
    texts = [name for name in TEXT_FIELDS if content.get(name) and entry.get(name)]
    if any(entry[name] == content[name] for name in texts):
        return Likeness.SAME_TEXT
    if SIZE in entry and SIZE in content and entry[SIZE] != content[SIZE]:
        return Likeness.OTHER_SIZE
    return Likeness.OTHER_TEXT if texts else Likeness.UNKNOWN


def _arrange(
    output: MetadataFile,
    images: list[DatasetImage],
    others: list[DatasetImage],
    directory: Path,
    settings: MergeSettings,
    report: RunReport,
    listener: Listener,
) -> Entries:
    """The entries to start from, under the wanted keys; entries of vanished images are dropped with --prune."""
    came_along = is_inside(settings.in_json or output.path, settings.paths.output_dir or directory)
    found = _claim(output.base, [*images, *others], directory, settings, came_along=came_along)
    sound = [image for image in images if image.failure is None]
    entries, lost = metadata.rekey(output.base, (image.item for image in sound), found.claims, settings.keys)
    entries = metadata.rename(entries, found.moved)
    report.rekeyed = len(output.base.keys() - entries.keys())
    lossy = [image for image in sound if lost.get(image.item.rel, set()) - _fields_of(image).keys()]
    moved = Counter({place.path: len(place.keys) for place in found.former})
    moved.update(next(place.path for place in found.former if place.holds(key)) for key in found.moved)
    where = f"{name_places(moved)}: the dataset was moved or copied to {directory}"
    _note(listener, moved.total(), f"{'would rekey' if settings.dry_run else 'rekeyed'} {{}} of {where}")
    _note(listener, len(found.claims.shared), "{} fit several images by their key and stay as they are")
    _note(listener, len(lossy), "{} had different values under several keys; the most exact key was used")
    outside, vanished = found.orphans.outside, found.orphans.vanished
    report.outside = len(outside)
    _note(listener, len(outside), f"{{}} of images outside {directory} stay: {name_places(folders_of(outside))}")
    if not settings.prune:
        report.vanished = len(vanished)
        _note(listener, len(vanished), "{} without an image; --prune drops them")
        return entries
    report.pruned = len(vanished)
    _note(listener, len(vanished), f"{'would prune' if settings.dry_run else 'pruned'} {{}} of vanished images")
    return metadata.drop(entries, vanished)


def _note_replaced(
    output: MetadataFile,
    entries: Entries,
    images: list[DatasetImage],
    directory: Path,
    settings: MergeSettings,
    listener: Listener,
) -> None:
    """Note how many entries of the output are lost because the run started from another JSON."""
    if output.base is output.held or not output.held:
        return
    came_along = is_inside(output.path, settings.paths.output_dir or directory)
    claims = _claim(output.held, images, directory, settings, came_along=came_along).claims
    items = [image.item for image in images]
    kept = [item for item in items if metadata.key_of(item, settings.keys) in entries]
    safe = {key for item in kept for key in claims.keys.get(item.rel, ())}
    lost = output.held.keys() - output.base.keys() - entries.keys() - safe
    _note(listener, len(lost), f"{{}} of {output.path.name} that are not in the JSON to start from are dropped")


def _note(listener: Listener, count: int, message: str) -> None:
    if count:
        listener.note(message.replace("{}", f"{count} {'entry' if count == 1 else 'entries'}", 1))


def _fill(
    entries: Entries, images: list[DatasetImage], output: MetadataFile, settings: MergeSettings, report: RunReport
) -> int:
    """Put what is on disk into the entries, count every image, and return how many entries changed."""
    changed = 0
    for image in images:
        if image.failure is not None:
            report.fail(image.failure)
            continue
        key = metadata.key_of(image.item, settings.keys)
        textless = image.lacks_all and image.settings.missing == "skip"
        if textless and key not in entries:
            report.keep(image.item.rel)
            continue
        entries[key] = {**entries.get(key, {}), **_fields_of(image)}
        if textless and entries[key] == output.base.get(key):
            report.keep(image.item.rel)
        elif entries[key] == output.held.get(key):
            report.current += 1
        else:
            changed += 1
    return changed
