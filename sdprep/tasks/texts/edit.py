"""`sdprep edit`: change the tags or captions of the images that are chosen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sdprep.catalog.session import AccessMode, CatalogAccess
from sdprep.config import MergeSettings, PathOptions
from sdprep.errors import UsageError
from sdprep.report import CancelToken, Listener, NullListener
from sdprep.rules.edits.operations import DROP_RARE, FLAGS, ORDER, Field, Operation, prepare
from sdprep.rules.edits.spans import Layout, tags_in
from sdprep.tasks.reading import without_collector
from sdprep.tasks.settings import Layers
from sdprep.tasks.texts.categories import categories_of, with_preset_order
from sdprep.tasks.texts.plan import Plan
from sdprep.tasks.texts.records import Records, open_records
from sdprep.tasks.texts.sidecars import Sidecar


@without_collector()
def plan(
    inputs: Path | Sequence[Path],
    operations: Sequence[Operation],
    settings: MergeSettings = MergeSettings(),
    *,
    edited: Field = "tags",
    layers: Layers = Layers(),
    listener: Listener | None = None,
) -> Plan:
    """Plan these operations, in their order, on the tags or captions of images; nothing is written.

    `settings` and `layers` tell, as for merge, which files these are. An image without such a file gets none, and is
    among the `missing` of the plan.

    Raises UsageError for an operation or a filter that makes no sense, NoImages if no image matches, and NoSidecars if
    none of those that match has such a file.
    """
    if not operations:
        raise UsageError("there is nothing to do; name an operation such as --add TAG or --remove TAG")
    prepared = checked(operations, edited)
    listener = listener or NullListener()
    access = CatalogAccess("edit", AccessMode.DRY_RUN, listener.note)
    where = settings.paths.where
    with open_records(inputs, settings, layers, access, listener, CancelToken(), fields=(edited,)) as records:
        recorded = {"operations": [[each.name, each.value] for each in operations], "edited": edited}
        made = Plan("edit", records.catalogs, {**recorded, "where": where}, stated_by(operations, edited, where))
        plan_operations(made, records, prepared, edited, settings.paths)
    made.check_found(records, [edited])
    return made


def checked(operations: Sequence[Operation], edited: Field) -> list[Operation]:
    """These operations, with the order of a preset for its name. Raises UsageError for a value that one refuses."""
    found = [with_preset_order(each) for each in operations]
    for each in found:
        prepare(each, edited)
    return found


def plan_operations(
    made: Plan, records: Records, operations: Sequence[Operation], edited: Field, paths: PathOptions
) -> None:
    """Take these operations on the tags or captions of images into a plan; they come from `checked`."""
    sidecars = (sidecar for _, _, sidecar in made.take(records, [edited]))
    is_ordered = any(each.name == ORDER for each in operations)
    categories = categories_of(records.items, records.catalogs, paths) if is_ordered else {}
    for sidecar, after in _edited(sidecars, operations, edited, categories):
        made.edit(sidecar, after)


def stated_by(operations: Sequence[Operation], edited: Field, where: str | None) -> dict[str, Any]:
    """What the log shows of an edit, by option."""
    stated: dict[str, Any] = {"captions": True} if edited == "caption" else {}
    stated |= {} if where is None else {"where": where}
    for each in operations:
        values = [other.value for other in operations if other.name == each.name]
        stated[each.name] = True if each.name in FLAGS else values[0] if len(values) == 1 else values
    return stated


def _edited(
    sidecars: Iterable[Sidecar], operations: Sequence[Operation], edited: Field, categories: Mapping[str, str]
) -> Iterator[tuple[Sidecar, str]]:
    """The sidecars with their texts after all operations."""
    if not any(each.name == DROP_RARE for each in operations):
        edits = [prepare(each, edited, (), categories) for each in operations]
        for sidecar in sidecars:
            text = sidecar.text or ""
            layout = Layout(text)
            for edit in edits:
                layout = layout.at(text)
                text = edit(text, layout)
            yield sidecar, text
        return
    # How rare a tag is, is known when all texts are.
    some = list(sidecars)
    texts = [sidecar.text or "" for sidecar in some]
    layouts = [Layout(text) for text in texts]
    for each in operations:
        layouts = [layout.at(text) for layout, text in zip(layouts, texts, strict=True)]
        edit = prepare(each, edited, map(tags_in, texts, layouts), categories)
        texts = list(map(edit, texts, layouts))
    yield from zip(some, texts, strict=True)
