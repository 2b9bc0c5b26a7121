"""`sdprep clean`: rule packs on the tags and captions of images, or on those of a metadata file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdprep.catalog.session import AccessMode, CatalogAccess, CatalogSession
from sdprep.config import MergeSettings
from sdprep.errors import MetadataError, UsageError
from sdprep.files import FILE_LIMIT, real_path
from sdprep.folders import read_below
from sdprep.report import CancelToken, Listener, NullListener
from sdprep.rules.edits.packs import NO_SCORES, Pack
from sdprep.tasks.reading import without_collector
from sdprep.tasks.settings import Layers
from sdprep.tasks.texts.packs import all_packs, load_pack
from sdprep.tasks.texts.plan import Plan, PlannedChange, TextChange
from sdprep.tasks.texts.records import ImageRecord, open_records
from sdprep.texts import metadata
from sdprep.texts.metadata import Entry
from sdprep.types import ImageItem

METADATA_SUFFIXES = (".json", ".jsonl")
# The fields of a metadata file that packs clean, with the kind of their rules.
FIELDS = {"tags": "tags", "caption": "caption"}


@without_collector()
def plan(
    inputs: Path | Sequence[Path],
    packs: Sequence[str],
    settings: MergeSettings = MergeSettings(),
    *,
    kinds: Sequence[str] = ("tags", "caption"),
    layers: Layers = Layers(),
    listener: Listener | None = None,
) -> Plan:
    """Plan what these rule packs change in the tags and captions of images, in their order; nothing is written.

    A pack is the name of one that comes with sdprep, or a TOML file. `kinds` may leave out "tags" or "caption";
    `settings` and `layers` tell, as for merge, which files these are.

    Raises UsageError for an unknown pack or one with a mistake, and if no pack has rules for `kinds`; NoImages if no
    image matches, and NoSidecars if none that matches has such a file.
    """
    chosen = [load_pack(name) for name in dict.fromkeys(packs)]
    wanted = _kinds_of(chosen, kinds)
    listener = listener or NullListener()
    access = CatalogAccess("clean", AccessMode.DRY_RUN, listener.note)
    scored = [tag for pack in chosen for tag in pack.scored] if "tags" in wanted else []
    fields = (*wanted, *(["scores"] if scored else []))
    with open_records(
        inputs, settings, layers, access, listener, CancelToken(), fields=fields, scored=scored
    ) as records:
        stated = _stated(chosen, kinds, settings.paths.where)
        made = Plan("clean", records.catalogs, stated, stated)
        for kind, image, sidecar in made.take(records, wanted):
            # A file of 0 bytes would count as emptied by a power cut, and be written again.
            made.edit(sidecar, _cleaned(sidecar.text or "", kind, chosen, image) or "\n")
    made.check_found(records, wanted)
    return made


def is_metadata(inputs: Sequence[Path]) -> bool:
    """Whether the input is one metadata file."""
    return len(inputs) == 1 and inputs[0].suffix.lower() in METADATA_SUFFIXES


def _stated(packs: Sequence[Pack], kinds: Sequence[str], where: str | None = None) -> dict[str, Any]:
    """What the log shows of a run, by option."""
    stated: dict[str, Any] = {"pack": [pack.name for pack in packs]}
    stated |= {"only": "captions" if kinds[0] == "caption" else "tags"} if len(kinds) == 1 else {}
    return stated | ({} if where is None else {"where": where})


def _kinds_of(packs: Sequence[Pack], kinds: Sequence[str]) -> list[str]:
    """The kinds for which packs have rules. Raises UsageError if there is none."""
    if not packs:
        listed = "\n".join(f"  --pack {name:12} {pack.description}" for name, pack in all_packs().items())
        raise UsageError(f"there is nothing to do; name a rule pack, or a TOML file of your own\n{listed}")
    wanted = [kind for kind in kinds if any(kind in pack.kinds for pack in packs)]
    if not wanted:
        names = ", ".join(pack.name for pack in packs)
        raise UsageError(f"{names} {'has' if len(packs) == 1 else 'have'} no rules for {' or '.join(kinds)}")
    return wanted


def _cleaned(text: str, kind: str, packs: Sequence[Pack], image: ImageRecord | None = None) -> str:
    """A text after all packs."""
    scores = image.record.scores if image else NO_SCORES
    for pack in packs:
        text = pack.clean_tags(text, scores) if kind == "tags" else pack.clean_caption(text)
    return text


@dataclass(frozen=True, slots=True)
class MetadataChange(PlannedChange):
    """A metadata file of which entries change."""

    entries: tuple[TextChange, ...] = ()

    def shown(self) -> Iterator[TextChange]:
        """The entries that change, by their keys."""
        return iter(self.entries)


def plan_metadata(
    path: Path,
    packs: Sequence[str],
    *,
    kinds: Sequence[str] = ("tags", "caption"),
    output: Path | None = None,
    catalog: Path | None = None,
    listener: Listener | None = None,
) -> Plan:
    """Plan what these rule packs change in a metadata JSON, or in JSON Lines; all else in it stays as it is.

    `output` is another file that gets the result. Raises UsageError as `plan`, and MetadataError for a file that is
    missing or broken.
    """
    chosen = [load_pack(name) for name in dict.fromkeys(packs)]
    wanted = _kinds_of(chosen, kinds)
    target = real_path(output or path)
    entries = metadata.load(path)
    after = {key: {**entry, **dict(_cleaned_fields(entry, wanted, chosen))} for key, entry in entries.items()}
    changed = tuple(
        TextChange(f"{key}: {name}", _as_text(entry.get(name)), _as_text(after[key].get(name)))
        for key, entry in entries.items()
        for name in FIELDS
        if after[key].get(name) != entry.get(name)
    )
    stated = _stated(chosen, kinds)
    access = CatalogAccess("clean", AccessMode.DRY_RUN, (listener or NullListener()).note)
    with CatalogSession([target.parent], access, real_path(catalog) if catalog else None) as catalogs:
        made = Plan("clean", catalogs, stated, stated)
        before = _read(target)
        data = metadata.dump(after, target) if changed or target != real_path(path) else before or b""
        made.add(MetadataChange(ImageItem.at(target), target, before, data, changed))
    return made


def _read(path: Path) -> bytes | None:
    try:
        return read_below(path.parent, path, FILE_LIMIT)
    except OSError as error:
        raise MetadataError(f"{path}: {error.strerror or error}") from error


def _as_text(value: Any) -> str | None:
    return ", ".join(value) if isinstance(value, list) else value


def _cleaned_fields(entry: Entry, kinds: Sequence[str], packs: Sequence[Pack]) -> Iterator[tuple[str, Any]]:
    """The texts of an entry; some programs write tags as a list, which stays one."""
    for name, kind in FIELDS.items():
        value = entry.get(name)
        if kind in kinds and isinstance(value, str):
            yield name, _cleaned(value, kind, packs)
        elif kind == "tags" in kinds and isinstance(value, list) and all(isinstance(each, str) for each in value):
            before = ", ".join(value)
            after = _cleaned(before, kind, packs)
            # A tag may have a comma, and be blank.
            yield name, value if after == before else [tag for tag in after.split(", ") if tag]
