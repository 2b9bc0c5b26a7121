"""The images of a run with their sidecars and what `--where` can ask about them; only what is asked for is read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import chain, islice
from pathlib import Path
from typing import Any

from sdprep.catalog.session import CatalogAccess, CatalogSession
from sdprep.config import MergeSettings, TagSettings
from sdprep.errors import NoImages
from sdprep.images.inputs import names_of as some_names
from sdprep.models.tokens import load_counter
from sdprep.report import CancelToken, Listener
from sdprep.rules.edits.spans import tags_in
from sdprep.rules.labels import normalize_tag
from sdprep.rules.where.parse import Where, parse
from sdprep.rules.where.record import Record
from sdprep.rules.where.tree import And
from sdprep.tasks.annotation.moves import recognise
from sdprep.tasks.run_info import catalogs_for, image_source
from sdprep.tasks.settings import Cascade, Effective, Layers
from sdprep.tasks.texts.facts import OF_CONTENT, OF_STATES, Facts
from sdprep.tasks.texts.sidecars import ImageFiles, Sidecar, SidecarNames, read_files, recalled
from sdprep.types import Failure, ImageItem

# What must be read for a field of Record.
NEEDS = {
    "tags": {"tags"},
    "caption": {"caption"},
    "missing": {"tags", "caption"},
    "tokens": {"tags", "caption"},
    "source": {"tags", "caption"},
    "models": {"tags", "caption"},
    "width": {"size"},
    "height": {"size"},
}
# Options of `merge` that tell which files the sidecars of an image are.
NAMING = ("caption_extension", "tag_extension", "sidecar_name")
# Counts the tokens of a text.
CountTokens = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image with its sidecars (None: not asked for) and what the filter language can ask about it."""

    item: ImageItem
    tags: Sidecar | None
    caption: Sidecar | None
    record: Record
    size_failure: Failure | None = None

    def unreadable(self, wanted: Collection[str]) -> Iterator[str]:
        """The names of the files of what is wanted that could not be read, or not as what they are."""
        for kind, sidecar in (("tags", self.tags), ("caption", self.caption)):
            if kind in wanted and sidecar is not None and sidecar.failure is not None:
                yield sidecar.name
        if "size" in wanted and self.size_failure is not None:
            yield self.item.rel


class _Parts:
    """How many images match each condition of a filter alone."""

    def __init__(self, where: Where) -> None:
        nodes = where.tree.parts if isinstance(where.tree, And) else (where.tree,)
        self._parts = [(str(node), Where(node).matcher()) for node in nodes]
        self._counts = [0] * len(self._parts)

    def count(self, tags: Sequence[str], records: Iterable[Record]) -> None:
        """Count these records, whose tags are new or were given before."""
        some = list(records)
        for place, (_, matcher) in enumerate(self._parts):
            matcher.learn(tags)
            self._counts[place] += sum(map(matcher, some))

    def __str__(self) -> str:
        pairs = zip(self._parts, self._counts, strict=True)
        alone = "; ".join(f"{text}: {count:,}" for (text, _), count in pairs)
        return f"Each condition alone matches: {alone}"


class Records:
    """The images of a run in their order, read as they are asked for; each pass reads them anew.

    `fields` are the fields of Record that are wanted besides those of the filter; "tags" and "caption" give the
    sidecars too. `names_of` says how the sidecars of an image are named; `scored` are tags whose scores are
    wanted besides those of the filter, None for all. Tokens are CLIP's, or an estimate, which is noted.
    """

    def __init__(
        self,
        items: Sequence[ImageItem],
        names_of: Callable[[ImageItem], SidecarNames],
        catalogs: CatalogSession,
        listener: Listener,
        stop: CancelToken,
        *,
        fields: Collection[str] = (),
        where: Where | None = None,
        scored: Collection[str] | None = (),
    ) -> None:
        self.items, self.names_of, self.catalogs, self.where = items, names_of, catalogs, where
        self._listener, self._stop = listener, stop
        self._fields = frozenset({*fields, *(where.fields if where else ())})
        self._counter = load_counter() if "tokens" in self._fields else None
        if self._counter and self._counter.note:
            listener.note(self._counter.note)
        self._wanted = _needs(self._fields)
        of_filter = where.scored if where else ()
        asked = None if scored is None else frozenset(map(normalize_tag, (*scored, *of_filter)))
        self._facts = Facts(catalogs, self._fields, asked, listener.note)
        # The normalized tags of all images so far by their spelling, in the order in which they were found.
        self.vocabulary: dict[str, str] = {}

    def __iter__(self) -> Iterator[ImageRecord]:
        return chain.from_iterable(self.chunks())

    def chunks(self) -> Iterator[list[ImageRecord]]:
        """All images, some at a time, or fewer after a stop."""
        self._listener.stage("reading", len(self.items))
        for some in read_files(self.items, self.names_of, self._wanted, self._stop):
            files = [recalled(each, self.catalogs) for each in some]
            facts = self._facts.of(files) if self._fields & (OF_STATES | OF_CONTENT) else [{} for _ in files]
            yield [self._record(each, known) for each, known in zip(files, facts, strict=True)]
            self._listener.advance(len(some))

    def select(self) -> Iterator[ImageRecord]:
        """The images that match the filter, all without one; how many they are is noted at the end.

        Raises NoImages if there are none, with what matches each condition of the filter alone.
        """
        if self.where is None:
            yield from self
            return
        matcher, parts, asked = self.where.matcher(), _Parts(self.where), _needs(self.where.fields)
        learnt, count, unreadable = 0, 0, list[str]()
        for chunk in self.chunks():
            new, learnt = list(islice(self.vocabulary.values(), learnt, None)), len(self.vocabulary)
            matcher.learn(new)
            found = [each for each in chunk if matcher(each.record)]
            count += len(found)
            unreadable += [name for each in chunk for name in each.unreadable(asked)]
            if not count:
                parts.count(new, (each.record for each in chunk))
            yield from found
        if unreadable:
            them = "it" if len(unreadable) == 1 else "them"
            self._listener.note(f"{some_names(unreadable)} cannot be read, so --where takes {them} for empty")
        if not self._stop and not count:
            raise NoImages(f"none of {len(self.items):,} images matches --where {self.where}\n{parts}")
        if not self._stop:
            self._listener.note(f"{count:,} of {len(self.items):,} images match")

    def _record(self, files: ImageFiles, known: dict[str, Any]) -> ImageRecord:
        tags, caption = files.tags, files.caption
        tag_text = _text(tags)
        caption_text = _text(caption)
        if "tags" in self._fields and tag_text:
            known["tags"] = self._normalized(tags_in(tag_text))
        if "caption" in self._fields:
            known["caption"] = caption_text
        if "missing" in self._fields:
            pairs = (("tags", tags), ("caption", caption))
            known["missing"] = tuple(name for name, each in pairs if each is not None and not _is_there(each))
        if self._counter is not None:
            known["tokens"] = max(map(self._counter.count, (tag_text, caption_text)))
        if "size" in self._wanted:
            known["width"], known["height"] = files.size
        return ImageRecord(files.item, tags, caption, Record(files.item.rel, **known), files.size_failure)

    def _normalized(self, tags: Sequence[str]) -> tuple[str, ...]:
        known = self.vocabulary
        try:
            return tuple([known[tag] for tag in tags])
        except KeyError:
            known.update((tag, normalize_tag(tag)) for tag in tags if tag not in known)
            return tuple([known[tag] for tag in tags])


def _needs(fields: Iterable[str]) -> frozenset[str]:
    """What must be read for these fields."""
    return frozenset[str]().union(*(NEEDS.get(field, ()) for field in fields))


def _text(sidecar: Sidecar | None) -> str:
    """The text of a sidecar as it is asked about: its lines end in LF, and nothing is around it."""
    text = sidecar.text if sidecar is not None else None
    if text is None:
        return ""
    return (text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text).strip()


def _is_there(sidecar: Sidecar) -> bool:
    # A file of 0 bytes is what a power cut leaves, and is written again.
    return bool(sidecar.data or sidecar.text) or sidecar.failure is not None


def matching(
    items: list[ImageItem],
    where: str | None,
    cascade: Cascade[Any],
    catalogs: CatalogSession,
    listener: Listener,
    stop: CancelToken,
) -> list[ImageItem]:
    """The images of a run that match a filter, in their order; all without one.

    What is stated for the run is then stated for these images alone. Raises NoImages if none matches.
    """
    if where is None:
        return items
    stop.interruptible = True
    records = Records(items, names_of(cascade), catalogs, listener, stop, where=parse(where))
    found = [each.item for each in records.select()]
    stop.interruptible = False
    if len(found) < len(items):
        cascade.narrow(found)
    return found


@contextmanager
def open_records(
    inputs: Path | Sequence[Path],
    settings: MergeSettings,
    layers: Layers,
    access: CatalogAccess,
    listener: Listener,
    stop: CancelToken,
    *,
    fields: Collection[str] = (),
    scored: Collection[str] = (),
) -> Iterator[Records]:
    """The images of these inputs with their catalogs opened; sidecars are named as for `merge`, remembered or stated.

    `fields` and `scored` are as for Records.

    Raises UsageError for wrong inputs, NoImages if there are none, and CatalogError as `CatalogSession`.
    """
    source = image_source(inputs, settings.paths)
    items = source.items()
    if source.skipped:
        listener.note(source.skipped)
    with catalogs_for(source, settings.paths, access) as catalogs:
        recognise(catalogs, items, stop)
        cascade = Cascade("merge", settings, layers, catalogs, source.places, listener.note)
        cascade.note_remembered(cascade.parts(items), NAMING)
        where = None if settings.paths.where is None else parse(settings.paths.where)
        yield Records(items, names_of(cascade), catalogs, listener, stop, fields=fields, where=where, scored=scored)


def names_of(cascade: Cascade[Any]) -> Callable[[ImageItem], SidecarNames]:
    """How the sidecars of an image are named by its settings."""
    named = cache(_names_by)
    return lambda item: named(cascade.of(item))


def _names_by(effective: Effective[Any]) -> SidecarNames:
    settings = effective.settings
    naming = settings.paths.sidecar_name
    if isinstance(settings, TagSettings):
        return SidecarNames(tags=settings.caption_extension, naming=naming)
    return SidecarNames(settings.tag_extension, settings.caption_extension, naming)
