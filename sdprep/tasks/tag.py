"""`sdprep tag`: booru tags for every image of a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import msgspec

from sdprep.catalog.results import are_scores, decode_scores, split_results
from sdprep.config import TagSettings
from sdprep.errors import UsageError
from sdprep.files import real_path
from sdprep.images.decoder import DECODER, decoder_of
from sdprep.models.backends import with_backend
from sdprep.models.base import ModelFiles, ModelSpec, Source
from sdprep.models.registry.registry import resolve, with_preprocess
from sdprep.models.taggers.label_file import read_labels
from sdprep.models.taggers.providers import check as check_provider
from sdprep.report import CancelToken, Listener, NullListener, RunReport
from sdprep.rules.combine import Combine, CombinedLabels, CombinedSelector
from sdprep.rules.labels import MCUT, LabelTable, TagRules
from sdprep.rules.mixed_text import MODELS
from sdprep.rules.policy import TextRequest
from sdprep.rules.shapes import values_that_shape
from sdprep.rules.tags import TagSelector
from sdprep.rules.thresholds import Thresholds
from sdprep.rules.unmatched import unmatched
from sdprep.sanitize import printable
from sdprep.tasks.annotation.job import (
    MODEL_DESCRIPTION,
    Combination,
    Job,
    Replace,
    ResultReader,
    Results,
    model_key,
    model_settings,
)
from sdprep.tasks.annotation.run import Annotation
from sdprep.tasks.annotation.scores import check_scores_path, write_scores
from sdprep.tasks.annotation.tag_lists import (
    TagListFiles,
    check_categories,
    for_categories,
    with_card_thresholds,
)
from sdprep.tasks.settings import Layers
from sdprep.types import ImageWarning

# The setting under which a text remembers the recommendation of a model's card, if it was asked for.
CARD_THRESHOLD = "card_threshold"


def tag(
    inputs: Path | Sequence[Path],
    settings: TagSettings = TagSettings(),
    *,
    layers: Layers = Layers(),
    listener: Listener | None = None,
    stop: CancelToken | None = None,
) -> RunReport:
    """Write a tag file for every image of these inputs that has none, by the rules of `rules/policy.py`.

    `layers` has what is stated for the images, `settings` all else (see `tasks/settings.py`).
    Raises SdprepError if the run cannot continue.
    """
    wanted = settings.scores is not None
    if settings.scores is not None:
        check_scores_path(settings.scores)
    tagging = partial(annotator, note=cache((listener or NullListener()).note))
    annotation = Annotation("tag", tagging, settings, listener, stop, want_results=wanted)
    return annotation.run_inputs(inputs, layers, partial(write_all_scores, settings))


def annotator(
    settings: TagSettings,
    stated: frozenset[str] = frozenset(),
    explicit: frozenset[str] = frozenset(),
    *,
    note: Callable[[str], None],
) -> Tagging | Combination:
    """What tags images with the model of these settings, or with several whose scores are combined."""
    if len(settings.models) == 1:
        return Tagging(replace(settings, model=settings.models[0]), stated, explicit, note=note)
    specs = [resolve(model, "tag") for model in settings.models]
    check_categories(settings.rules, specs)
    members = tuple(
        Tagging(replace(settings, model=model, rules=for_categories(settings.rules, spec)), stated, explicit, note=note)
        for model, spec in zip(settings.models, specs, strict=True)
    )
    for place, member in enumerate(members):
        if any(member.spec == other.spec for other in members[:place]):
            raise UsageError(f"--model: {settings.models[place]} is the same model as another one")
    return Combination(members, partial(_combined, settings, note))


def _combined(settings: TagSettings, note: Callable[[str], None], jobs: tuple[Job, ...]) -> Job:
    """The job of several models; its text depends on all of them, on the way to combine and on the rules."""
    readers = tuple(job.reader for job in jobs if isinstance(job.reader, ScoreReader))
    requests = [job.request for job in jobs]
    own = {
        name: [request.settings[name] for request in requests]
        for name in (MODEL_DESCRIPTION, "preprocess", "exact_decode", CARD_THRESHOLD)
    }
    values = {
        **requests[0].settings,
        **own,
        **values_that_shape(settings, "text"),
        **readers[0].lists.settings(),
        "model": MODELS.join(str(request.settings["model"]) for request in requests),
    }
    reader = CombinedReader(readers, settings.rules, settings.combine, note)
    return replace(jobs[0], request=replace(requests[0], settings=values), reader=reader, result_key=None, members=jobs)


class Tagging:
    """The annotation of images with tags: the scores are stored, and rules make tags of them."""

    def __init__(
        self,
        settings: TagSettings,
        stated: frozenset[str] = frozenset(),
        explicit: frozenset[str] = frozenset(),
        *,
        note: Callable[[str], None],
    ) -> None:
        (model,) = settings.models
        spec = with_backend(resolve(model, "tag"), settings.backend)
        check_provider(settings.provider, spec.backend, settings.devices)
        if settings.model_dir is not None:
            spec = _in_model_dir(spec, settings.model_dir, note)
        self.spec, self._described = with_preprocess(spec, settings.preprocess), spec
        self.settings, self._note = settings, note
        # What follows from a stated threshold is stated with it.
        self._stated = stated | ({CARD_THRESHOLD} if "threshold" in stated else set())
        self._explicit = explicit | ({MODEL_DESCRIPTION} if "model" in explicit else set())
        self._lists = TagListFiles(settings)
        check_categories(settings.rules, [spec])
        self._rules = with_card_thresholds(settings.rules, spec)
        if self._rules is not settings.rules:
            recommended = {"threshold": self._rules.threshold, **self._rules.own_thresholds()}
            values = ", ".join(f"{name} {value:g}" for name, value in recommended.items())
            note(f"--threshold {settings.rules.threshold}, from the card of {spec.name}: {values}")

    def job(self, files: ModelFiles | None) -> Job:
        """The job; a text depends on the model, the rules and the separator."""
        settings, options = self.settings, self.settings.run
        exact = settings.exact_decode
        values = {
            **model_settings(self.spec, self._described, files, exact),
            **{name: value for name, value in values_that_shape(settings, "text").items() if name != "combine"},
            # The content of the lists counts, not their names.
            **self._lists.settings(),
            # Another recommendation is another setting.
            CARD_THRESHOLD: None if self._rules is settings.rules else self.spec.threshold,
        }
        result_key: dict[str, Any] | None = None
        if files is not None:
            result_key = model_key(self.spec, files, self.spec.precision, exact) | values_that_shape(settings, "result")
        return Job(
            request=TextRequest(
                "tag", values, self._explicit, options.existing, options.update, options.refresh, self._stated
            ),
            extension=settings.caption_extension,
            naming=settings.paths.sidecar_name,
            joiner=settings.caption_separator,
            reader=ScoreReader(self.spec, files, self._rules, self._lists, self._note),
            result_key=result_key,
            decoder=decoder_of(DECODER, options.max_pixels, allow_truncated=options.allow_truncated),
            accepts_truncated=options.allow_truncated,
            counts_tags=settings.frequency_tags,
            max_pixels=options.max_pixels,
        )


@dataclass(frozen=True)
class ScoreReader:
    """Makes tags of the scores of one model, by one set of rules."""

    spec: ModelSpec
    files: ModelFiles | None
    rules: TagRules
    lists: TagListFiles
    note: Callable[[str], None]

    @cached_property
    def labels(self) -> LabelTable:
        """The labels of the model."""
        if self.files is None:
            raise AssertionError("labels were asked for before the model's files were known")
        return read_labels(self.spec, self.files)

    @cached_property
    def selector(self) -> TagSelector:
        """The rules for these labels; options that match nothing are noted."""
        lists = self.lists.lists_for(self.labels, self.spec.name)
        self.lists.note_unknown(self.labels, self.spec.name, self.note)
        for line in unmatched(self.spec.name, self.labels, self.rules, lists):
            self.note(line)
        return TagSelector(self.labels, self.rules, lists)

    def is_sound(self, result: bytes) -> bool:
        """Whether these bytes are scores of the model's labels."""
        return are_scores(result, len(self.labels.names))

    def render(self, result: bytes) -> list[str]:
        """The tags that the rules keep."""
        return self.selector.select(decode_scores(result))

    def warning(self, result: bytes) -> ImageWarning | None:
        """Whether the scores are so flat that "mcut" separates nothing."""
        if self.rules.threshold != MCUT:
            return None
        return ImageWarning.FLAT if self.selector.lacks_gap(decode_scores(result)) else None

    def scores(self, result: bytes) -> list[tuple[int, float]]:
        """The (label index, score) pairs."""
        return decode_scores(result)


@dataclass(frozen=True)
class CombinedReader:
    """Makes tags of the scores of several models, each by its own thresholds, and by one set of rules."""

    readers: tuple[ScoreReader, ...]
    rules: TagRules
    how: Combine
    note: Callable[[str], None]

    @cached_property
    def _combined(self) -> CombinedLabels:
        return CombinedLabels([reader.labels for reader in self.readers])

    @property
    def labels(self) -> LabelTable:
        """The labels that any of the models has."""
        return self._combined.table

    @cached_property
    def selector(self) -> CombinedSelector:
        """The rules for these labels; options that match nothing in any model are noted."""
        files, names = self.readers[0].lists, " and ".join(reader.spec.name for reader in self.readers)
        thresholds = [
            Thresholds.by_rules(
                reader.labels, reader.rules, files.lists_for(reader.labels, reader.spec.name).thresholds
            )
            for reader in self.readers
        ]
        files.note_unknown(self.labels, names, self.note)
        for line in unmatched(names, self.labels, self.rules, files.shared):
            self.note(line)
        selector = TagSelector(self.labels, self.rules, files.shared)
        return CombinedSelector(self._combined, thresholds, selector, self.how)

    def is_sound(self, result: bytes) -> bool:
        """Whether each part is the scores of its model's labels."""
        parts = split_results(result)
        return all(reader.is_sound(part) for reader, part in zip(self.readers, parts, strict=True))

    def render(self, result: bytes) -> list[str]:
        """The tags that are kept."""
        return self.selector.select(self._parts(result))

    def warning(self, result: bytes) -> ImageWarning | None:
        """Whether the scores are so flat that "mcut" separates nothing."""
        flat = self.rules.threshold == MCUT and self.selector.lacks_gap(self._parts(result))
        return ImageWarning.FLAT if flat else None

    def scores(self, result: bytes) -> list[tuple[int, float]]:
        """The (label index, score) pairs of all models together."""
        return self.selector.combined(self._parts(result))

    def _parts(self, result: bytes) -> list[list[tuple[int, float]]]:
        return [decode_scores(part) for part in split_results(result)]


def write_all_scores(
    settings: TagSettings, readers: Sequence[ResultReader], results: Results, replace: Replace
) -> None:
    """Write a JSON line for every image whose scores are known, in their order."""
    for reader in readers:
        parts = reader.readers if isinstance(reader, CombinedReader) else (reader,)
        if isinstance(reader, (ScoreReader, CombinedReader)) and all(
            isinstance(part, ScoreReader) and part.files is not None for part in parts
        ):
            # Options that match nothing are named although nothing was left to write.
            _ = reader.selector
    if settings.scores is not None:
        lines = (
            _scores_line(rel, result, reader, settings.scores_min).encode("utf-8") for rel, result, reader in results()
        )
        write_scores(settings.scores, lines, replace)


def _scores_line(rel: str, result: bytes, reader: ResultReader, least: float) -> str:
    if not isinstance(reader, (ScoreReader, CombinedReader)):
        raise AssertionError("a run of tag met a result without scores")
    labels = reader.labels
    line: dict[str, Any] = {"path": printable(rel), **{category: {} for category in labels.categories}}
    for index, value in sorted(reader.scores(result), key=lambda pair: -pair[1]):
        if value >= least:
            line[labels.categories[index]][labels.names[index]] = round(value, 4)
    return json.dumps(line, ensure_ascii=True) + "\n"


def _in_model_dir(spec: ModelSpec, folder: Path, note: Callable[[str], None]) -> ModelSpec:
    """The same model in a folder of kohya's tagger, which stores `owner/name` as `owner_name`, if it is there."""
    if spec.source.repo is None:
        return spec
    place = folder / spec.source.repo.replace("/", "_")
    if missing := [name for name in spec.files if not (place / name).is_file()]:
        note(f"{place} has no {' and no '.join(missing)}; the cache of the Hub is used instead")
        return spec
    return msgspec.structs.replace(spec, source=Source(path=str(real_path(place))))
