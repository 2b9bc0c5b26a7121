"""`sdprep tag`: booru tags for every image of a folder."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from sdprep.catalog.journal import Change
from sdprep.catalog.results import are_scores, decode_scores
from sdprep.config import TagSettings
from sdprep.files import real_path
from sdprep.images.decoder import DECODER, decoder_of
from sdprep.models.backends import check_installed, with_backend
from sdprep.models.base import ModelFiles, ModelSpec, Source
from sdprep.models.files.hub import ensure_downloaded, identity
from sdprep.models.registry.registry import resolve, with_preprocess
from sdprep.models.taggers.label_file import read_labels
from sdprep.models.taggers.providers import check as check_provider
from sdprep.report import CancelToken, Listener, NullListener, RunReport
from sdprep.rules.labels import LabelTable
from sdprep.rules.policy import TextRequest
from sdprep.rules.tags import TagSelector
from sdprep.sanitize import printable
from sdprep.tasks.annotation.planner import Job
from sdprep.tasks.annotation.run import MODEL_DESCRIPTION, Annotation, Results
from sdprep.tasks.annotation.scores import check_scores_path, write_scores
from sdprep.tasks.annotation.tag_lists import Knowledge, check_categories, with_card_thresholds

# The setting under which a text remembers what a model's card recommended, if that was asked for.
CARD_THRESHOLD = "card_threshold"


def tag(
    directory: Path,
    settings: TagSettings = TagSettings(),
    *,
    explicit: frozenset[str] = frozenset(),
    listener: Listener | None = None,
    stop: CancelToken | None = None,
) -> RunReport:
    """Write tags beside every image that has none, by the rules of `rules/policy.py`.

    `stated` names the settings that were given for this run; only they lead to rewriting what sdprep wrote before.
    Raises SdprepError where the run cannot go on.
    """
    listener = listener or NullListener()
    spec = with_backend(resolve(settings.model, "tag"), settings.backend)
    check_provider(settings.provider, spec.backend, settings.devices)
    if settings.model_dir is not None:
        spec = _in_model_dir(spec, settings.model_dir, listener)
    kind = Tagging(spec, settings, explicit, listener)
    if settings.force_download and spec.source.repo is not None:
        check_installed(spec)
        ensure_downloaded(spec, listener, check=True)
    return Annotation(kind, settings, listener, CancelToken() if stop is None else stop).run(directory)


class Tagging:
    """Tagging as a kind of annotation: scores are stored, rules make tags of them."""

    command = "tag"

    def __init__(self, spec: ModelSpec, settings: TagSettings, explicit: frozenset[str], listener: Listener) -> None:
        self.spec, self._settings = with_preprocess(spec, settings.preprocess), settings
        # As the model's file has it: the setting counts for itself.
        self._description = spec.fingerprint()
        # What follows from a stated setting is stated with it.
        followers = {"model": MODEL_DESCRIPTION, "threshold": CARD_THRESHOLD}
        self._stated = explicit | {follower for name, follower in followers.items() if name in explicit}
        self.want_results = settings.scores is not None or settings.frequency_tags
        self._knowledge, self._listener = Knowledge(settings), listener
        check_categories(settings.rules, spec)
        self._rules = with_card_thresholds(settings.rules, spec)
        if self._rules is not settings.rules:
            recommended = {"threshold": self._rules.threshold, **self._rules.own_thresholds()}
            values = ", ".join(f"{name} {value:g}" for name, value in recommended.items())
            listener.note(f"--threshold {settings.rules.threshold}, from the card of {spec.name}: {values}")
        if settings.scores is not None:
            check_scores_path(settings.scores)
        self._files: ModelFiles | None = None

    def make_job(self, files: ModelFiles | None) -> Job:
        """The job; its settings are the rules, the separator and the model."""
        self._files = files
        settings, work = self._settings, self._settings.run
        values = {
            "model": identity(self.spec, files),
            MODEL_DESCRIPTION: self._description,
            "preprocess": self.spec.image.preprocess,
            "exact_decode": self.spec.is_exact(settings.exact_decode),
            **settings.rules.settings(),
            # Another recommendation is another setting.
            CARD_THRESHOLD: None if self._rules is settings.rules else self.spec.threshold,
            **self._knowledge.settings(),
            "caption_separator": settings.caption_separator,
        }
        wish = TextRequest("tag", values, self._stated, work.existing, work.update, work.refresh)
        result_key: dict[str, Any] | None = None
        if files is not None:
            result_key = {
                "task": "tag",
                "weights": files.weights,
                "precision": self.spec.precision,
                **self.spec.result_key(),
            }
            result_key |= self.spec.decoding(settings.exact_decode)
        return Job(
            wish,
            settings.caption_extension,
            settings.paths.sidecar_name,
            settings.caption_separator,
            result_key,
            self._render,
            decoder_of(DECODER, work.max_pixels, allow_truncated=work.allow_truncated),
            work.allow_truncated,
            is_sound=self._is_sound,
            max_pixels=work.max_pixels,
        )

    @cached_property
    def _labels(self) -> LabelTable:
        if self._files is None:
            raise AssertionError("labels were asked for before the model's files were known")
        return read_labels(self.spec, self._files)

    @cached_property
    def _selector(self) -> TagSelector:
        labels = self._labels
        return TagSelector(labels, self._rules, self._knowledge.about(labels, self.spec.name, self._listener))

    def _is_sound(self, result: bytes) -> bool:
        return are_scores(result, len(self._labels.names))

    def _render(self, result: bytes) -> list[str]:
        return self._selector.select(decode_scores(result))

    def finish(self, results: Results, report: RunReport, replace: Callable[[Change], None]) -> None:
        """Write a JSON line for every image whose scores are known, in their order, and count the tags of all."""
        path = self._settings.scores
        if path is not None:
            lines = (self._scores_line(rel, result).encode("utf-8") for rel, result in results())
            write_scores(path, lines, replace)
        if self._settings.frequency_tags:
            counts = Counter(tag for _, result in results() for tag in self._render(result))
            report.tag_counts = dict(counts.most_common())

    def _scores_line(self, rel: str, result: bytes) -> str:
        line: dict[str, Any] = {"path": printable(rel), **{category: {} for category in self._labels.categories}}
        for index, value in sorted(decode_scores(result), key=lambda pair: -pair[1]):
            if value >= self._settings.scores_min:
                line[self._labels.categories[index]][self._labels.names[index]] = round(value, 4)
        return json.dumps(line, ensure_ascii=True) + "\n"


def _in_model_dir(spec: ModelSpec, folder: Path, listener: Listener) -> ModelSpec:
    """The same model in a folder of kohya's tagger, which keeps `owner/name` in `owner_name`, if it is there."""
    if spec.source.repo is None:
        return spec
    place = folder / spec.source.repo.replace("/", "_")
    if missing := [name for name in spec.files if not (place / name).is_file()]:
        listener.note(f"{place} has no {' and no '.join(missing)}; the cache of the Hub is used instead")
        return spec
    return msgspec.structs.replace(spec, source=Source(path=str(real_path(place))))
