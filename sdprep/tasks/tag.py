"""`sdprep tag`: booru tags for every image of a folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from sdprep.catalog.results import are_scores, decode_scores
from sdprep.config import TagSettings
from sdprep.files import real_path
from sdprep.images.decoder import DECODER, decoder_of
from sdprep.models.backends import check_installed, with_backend
from sdprep.models.base import ModelFiles, ModelSpec, Source
from sdprep.models.files.hub import ensure_downloaded
from sdprep.models.registry.registry import resolve, with_preprocess
from sdprep.models.taggers.label_file import read_labels
from sdprep.models.taggers.providers import check as check_provider
from sdprep.report import CancelToken, Listener, NullListener, RunReport
from sdprep.rules.labels import MCUT, LabelTable, TagRules
from sdprep.rules.policy import TextRequest
from sdprep.rules.shapes import values_that_shape
from sdprep.rules.tags import TagSelector
from sdprep.rules.unmatched import unmatched
from sdprep.sanitize import printable
from sdprep.tasks.annotation.effects import without_effect
from sdprep.tasks.annotation.job import MODEL_DESCRIPTION, Job, Replace, Results, model_key, model_settings
from sdprep.tasks.annotation.run import Annotation
from sdprep.tasks.annotation.scores import check_scores_path, write_scores
from sdprep.tasks.annotation.tag_lists import TagListFiles, check_categories, with_card_thresholds
from sdprep.types import ImageWarning

# The setting under which a text remembers the recommendation of a model's card, if it was asked for.
CARD_THRESHOLD = "card_threshold"


def tag(
    directory: Path,
    settings: TagSettings = TagSettings(),
    *,
    explicit: frozenset[str] = frozenset(),
    listener: Listener | None = None,
    stop: CancelToken | None = None,
) -> RunReport:
    """Write a tag file for every image that has none, by the rules of `rules/policy.py`.

    `explicit` names the settings that were given for this run; only they lead to rewriting what sdprep wrote before.
    Raises SdprepError if the run cannot continue.
    """
    listener = listener or NullListener()
    spec = with_backend(resolve(settings.model, "tag"), settings.backend)
    check_provider(settings.provider, spec.backend, settings.devices)
    if settings.model_dir is not None:
        spec = _in_model_dir(spec, settings.model_dir, listener)
    annotator = Tagging(spec, settings, explicit, listener)
    for line in without_effect(explicit, [(settings, annotator.spec)]):
        listener.note(line)
    if settings.force_download and spec.source.repo is not None:
        check_installed(spec)
        ensure_downloaded(spec, listener, check=True)
    return Annotation(annotator, settings, listener, CancelToken() if stop is None else stop).run_folder(directory)


class Tagging:
    """The annotation of images with tags: the scores are stored, and rules make tags of them."""

    command = "tag"

    def __init__(self, spec: ModelSpec, settings: TagSettings, explicit: frozenset[str], listener: Listener) -> None:
        self.spec, self._described = with_preprocess(spec, settings.preprocess), spec
        self._settings, self._listener = settings, listener
        # What follows from an explicit setting is explicit with it.
        followers = {"model": MODEL_DESCRIPTION, "threshold": CARD_THRESHOLD}
        self._explicit = explicit | {follower for name, follower in followers.items() if name in explicit}
        self.want_results = settings.scores is not None
        self._lists = TagListFiles(settings)
        check_categories(settings.rules, spec)
        self._rules = with_card_thresholds(settings.rules, spec)
        if self._rules is not settings.rules:
            recommended = {"threshold": self._rules.threshold, **self._rules.own_thresholds()}
            values = ", ".join(f"{name} {value:g}" for name, value in recommended.items())
            listener.note(f"--threshold {settings.rules.threshold}, from the card of {spec.name}: {values}")
        if settings.scores is not None:
            check_scores_path(settings.scores)

    def job(self, files: ModelFiles | None) -> Job:
        """The job; a text depends on the model, the rules and the separator."""
        settings, options = self._settings, self._settings.run
        exact = settings.exact_decode
        values = {
            **model_settings(self.spec, self._described, files, exact),
            **values_that_shape(settings, "text"),
            # The content of the lists counts, not their names.
            **self._lists.settings(),
            # Another recommendation is another setting.
            CARD_THRESHOLD: None if self._rules is settings.rules else self.spec.threshold,
        }
        result_key: dict[str, Any] | None = None
        if files is not None:
            result_key = model_key(self.spec, files, self.spec.precision, exact) | values_that_shape(settings, "result")
        return Job(
            request=TextRequest("tag", values, self._explicit, options.existing, options.update, options.refresh),
            extension=settings.caption_extension,
            naming=settings.paths.sidecar_name,
            joiner=settings.caption_separator,
            reader=ScoreReader(self.spec, files, self._rules, self._lists, settings, self._listener),
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
    settings: TagSettings
    listener: Listener

    @cached_property
    def _labels(self) -> LabelTable:
        if self.files is None:
            raise AssertionError("labels were asked for before the model's files were known")
        return read_labels(self.spec, self.files)

    @cached_property
    def _selector(self) -> TagSelector:
        labels = self._labels
        lists = self.lists.lists_for(labels, self.spec.name, self.listener)
        for line in unmatched(self.spec.name, labels, self.rules, lists):
            self.listener.note(line)
        return TagSelector(labels, self.rules, lists)

    def is_sound(self, result: bytes) -> bool:
        """Whether these bytes are scores of the model's labels."""
        return are_scores(result, len(self._labels.names))

    def render(self, result: bytes) -> list[str]:
        """The tags that the rules keep."""
        return self._selector.select(decode_scores(result))

    def warning(self, result: bytes) -> ImageWarning | None:
        """Whether the scores are so flat that "mcut" separates nothing."""
        if self.rules.threshold != MCUT:
            return None
        return ImageWarning.FLAT if self._selector.lacks_gap(decode_scores(result)) else None

    def finish(self, results: Results, report: RunReport, replace: Replace) -> None:  # noqa: ARG002 - of all readers
        """Write a JSON line for every image whose scores are known, in their order."""
        if self.files is not None:
            # Options that match nothing are named although nothing was left to write.
            _ = self._selector
        if self.settings.scores is not None:
            lines = (self._scores_line(rel, result).encode("utf-8") for rel, result in results())
            write_scores(self.settings.scores, lines, replace)

    def _scores_line(self, rel: str, result: bytes) -> str:
        labels = self._labels
        line: dict[str, Any] = {"path": printable(rel), **{category: {} for category in labels.categories}}
        for index, value in sorted(decode_scores(result), key=lambda pair: -pair[1]):
            if value >= self.settings.scores_min:
                line[labels.categories[index]][labels.names[index]] = round(value, 4)
        return json.dumps(line, ensure_ascii=True) + "\n"


def _in_model_dir(spec: ModelSpec, folder: Path, listener: Listener) -> ModelSpec:
    """The same model in a folder of kohya's tagger, which stores `owner/name` as `owner_name`, if it is there."""
    if spec.source.repo is None:
        return spec
    place = folder / spec.source.repo.replace("/", "_")
    if missing := [name for name in spec.files if not (place / name).is_file()]:
        listener.note(f"{place} has no {' and no '.join(missing)}; the cache of the Hub is used instead")
        return spec
    return msgspec.structs.replace(spec, source=Source(path=str(real_path(place))))
