"""Importing captions and tags from files of other tools into sidecars, through the journal."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from sdprep.catalog.session import AccessMode, CatalogAccess
from sdprep.config import MergeSettings
from sdprep.errors import NoImages, UsageError
from sdprep.files import real_path
from sdprep.folders import Folders
from sdprep.images.inputs import names_of
from sdprep.report import CancelToken, Listener, NullListener, RunReport
from sdprep.rules.mixed_text import own_separator
from sdprep.sanitize import NO_TEXT
from sdprep.tasks.dataset import Dataset, extension_of
from sdprep.tasks.exchange.settings import ImportSettings
from sdprep.tasks.run_info import catalogs_for, image_source
from sdprep.tasks.settings import Cascade, Layers
from sdprep.tasks.texts.plan import Plan, PlannedChange, apply
from sdprep.texts.exchange.readers import Field, is_table, read_table
from sdprep.texts.exchange.sample import one_line
from sdprep.texts.metadata import Entries, Entry, find_claims, key_of, locator, unite
from sdprep.texts.moved import find_places
from sdprep.texts.sidecar import decode_text, decoding_fault, encode_text, sidecar_name
from sdprep.types import Failure, FailureCode, ImageItem, KeptReason

FIELDS: tuple[Field, Field] = ("caption", "tags")
CAPTIONS = "captions.json"


def import_(
    source: Path,
    settings: ImportSettings = ImportSettings(),
    *,
    layers: Layers = Layers(),
    listener: Listener | None = None,
    stop: CancelToken | None = None,
) -> RunReport:
    """Write the captions and tags of a file, or of the files in a folder, into the sidecars of their images.

    Raises UsageError, NoImages if there are none, or none is named, MetadataError for a file that cannot be read,
    MissingExtra for Parquet without pyarrow, and as `apply`.
    """
    plan = plan_import(source, settings, layers=layers, listener=listener)
    return plan.report(dry_run=True) if settings.dry_run else apply(plan, listener=listener, stop=stop)


def plan_import(
    source: Path,
    settings: ImportSettings = ImportSettings(),
    *,
    layers: Layers = Layers(),
    listener: Listener | None = None,
) -> Plan:
    """Plan what `import_` writes; nothing is written. Raises as it does."""
    listener = listener or NullListener()
    if not source.exists():
        raise UsageError(f"there is no file or folder {source}")
    in_place = source.is_dir() and (settings.format == "lines" or settings.encoding is not None)
    tables = [] if in_place else _tables(source, settings)
    into = settings.into or (source if source.is_dir() else source.parent)
    dataset = Dataset(image_source(into, settings.paths))
    items = dataset.items(listener)
    shown = {"from": str(source), "into": str(into)}
    texts = {} if in_place else _by_image(tables, items, listener, into)
    wanted = MergeSettings(
        caption_extension=settings.caption_extension, tag_extension=settings.tag_extension, paths=settings.paths
    )
    access = CatalogAccess("import", AccessMode.DRY_RUN, listener.note)
    with catalogs_for(dataset.source, settings.paths, access) as catalogs:
        plan = Plan("import", catalogs, shown, stated=shown)
        cascade = Cascade("merge", wanted, layers, catalogs, dataset.source.places, listener.note)
        own = {item.rel: cascade.of(item).settings for item in items if in_place or item.rel in texts}
        chosen = [item for item in items if item.rel in own]
        clashing = dataset.collisions(chosen, own)
        for sidecar in _sidecars(chosen, own, clashing, plan):
            if in_place:
                _rewrite(sidecar, settings, plan)
            elif sidecar.field in texts[sidecar.item.rel]:
                _write(sidecar, texts[sidecar.item.rel][sidecar.field], settings, plan)
    return plan


@dataclass(frozen=True, slots=True)
class _Sidecar:
    """A sidecar that may be written: its path and its bytes, None where there is none."""

    item: ImageItem
    field: Field
    path: Path
    data: bytes | None


def _tables(source: Path, settings: ImportSettings) -> list[tuple[Path, Entries]]:
    """The files with texts, each with its entries. Raises UsageError if a folder has none, and MetadataError."""
    if settings.format == "lines":
        raise UsageError(f"--format lines is for a folder of images with tag files, and {source} is a file")
    paths = [real_path(source)]
    if source.is_dir():
        found = os.walk(real_path(source))
        paths = sorted(Path(folder) / name for folder, _, names in found for name in names if is_table(name))
    if not paths:
        raise UsageError(
            f"nothing to import in {source}: no metadata JSON, JSON Lines, CSV, captions.json, tar or Parquet file\n"
            "Name the file, or use --format lines or --encoding to rewrite the sidecars in the folder"
        )
    return [(path, read_table(path, settings.encoding, settings.text)) for path in paths]


def _by_image(
    tables: Sequence[tuple[Path, Entries]], items: Sequence[ImageItem], listener: Listener, into: Path
) -> dict[str, Entry]:
    """The texts of each image by its `rel`; names that fit no image are noted. Raises NoImages if none fits."""
    known = {key_of(item, "absolute"): item.rel for item in items}
    found: dict[str, list[Entry]] = {}
    others: dict[str, tuple[str, Entry]] = {}
    for path, entries in tables:
        # Only the names of captions.json always count from its own folder.
        away = [] if path.name == CAPTIONS else [name for name in entries if str(path.parent / name) not in known]
        claims = find_claims(away, items, "absolute", locator())
        rels = {name: rel for rel, keys in claims.keys.items() for name in keys}
        for name, entry in entries.items():
            beside = str(path.parent / name)
            rel = known.get(beside) or rels.get(name)
            if rel is None:
                others[beside] = (name, entry)
            else:
                found.setdefault(rel, []).append(entry)
    # An export, or a dataset that has moved: names end as those of the images here.
    for place in find_places(others, {item.rel for item in items}):
        for key, rel in place.keys.items():
            found.setdefault(rel, []).append(others.pop(key)[1])
    total = sum(len(entries) for _, entries in tables)
    shown = names_of(name for name, _ in others.values())
    if not found:
        message = f"none of the {total} entries names an image in {into}: {shown}"
        raise NoImages(f"{message}\nGive the folder of the images with --into DIR")
    if others:
        listener.note(f"{len(others)} of {total} entries name no image in {into}: {shown}")
    return {rel: unite(entries)[0] for rel, entries in found.items()}


def _sidecars(
    items: Sequence[ImageItem], own: Mapping[str, MergeSettings], clashing: Mapping[str, Failure], plan: Plan
) -> Iterator[_Sidecar]:
    """The sidecars of these images; those that cannot be read are failures of the plan."""
    for target, some in groupby(items, lambda item: item.target_folder):
        with Folders(target) as folders:
            for item in some:
                if item.rel in clashing:
                    plan.failures.append(clashing[item.rel])
                    continue
                for field in FIELDS:
                    name = sidecar_name(
                        item.within, extension_of(own[item.rel], field), own[item.rel].paths.sidecar_name
                    )
                    try:
                        data = folders.read(target / name)
                    except OSError as error:
                        message = f"{name}: {error.strerror or error}"
                        plan.failures.append(Failure(item, FailureCode.UNREADABLE, message))
                        continue
                    yield _Sidecar(item, field, target / name, data)


def _write(sidecar: _Sidecar, text: str, settings: ImportSettings, plan: Plan) -> None:
    """Plan to write an imported text, unless the sidecar has another one."""
    if (fault := _text_fault(text)) is not None:
        message = f"the imported {sidecar.field} {fault}"
        plan.failures.append(Failure(sidecar.item, FailureCode.BAD_TEXT, message))
        return
    held = None if not sidecar.data else decode_text(sidecar.data)
    if held is not None and _comparable(held) == _comparable(text):
        plan.unchanged += 1
    elif sidecar.data and settings.existing == "keep":
        plan.kept.append((sidecar.item.rel, KeptReason.DIFFERENT))
    else:
        plan.add(PlannedChange(sidecar.item, sidecar.path, sidecar.data, encode_text(text)))


def _comparable(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").strip()


def _text_fault(text: str) -> str | None:
    """Why a sidecar cannot hold a text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return "is not valid Unicode"
    return "has a character that text files cannot contain" if NO_TEXT.search(text) else None


def _rewrite(sidecar: _Sidecar, settings: ImportSettings, plan: Plan) -> None:
    """Plan to rewrite a sidecar as UTF-8, and tags in lines as a list."""
    data, text = sidecar.data, None
    if data is None:
        return
    text = decode_text(data)
    is_other = text is None
    if is_other and settings.encoding is not None:
        try:
            text = data.decode(settings.encoding)
        except UnicodeDecodeError as error:
            fault = f"{sidecar.path.name} is not {settings.encoding}: byte {error.start} cannot be read"
            plan.failures.append(Failure(sidecar.item, FailureCode.BAD_TEXT, fault))
            return
    if text is None:
        fault = decoding_fault(sidecar.path.name, data)
        plan.failures.append(Failure(sidecar.item, FailureCode.BAD_TEXT, fault))
        return
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    # Lines that are lists themselves are captions of which a trainer takes one.
    has_lines = "\n" in text.strip() and "\n" in own_separator(text)
    is_list = settings.format == "lines" and sidecar.field == "tags" and has_lines
    after = encode_text(one_line(text.strip()) if is_list else text) if is_list or is_other else data
    plan.add(PlannedChange(sidecar.item, sidecar.path, data, after))
