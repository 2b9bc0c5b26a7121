"""`sdprep caption`: a sentence for every image of a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sdprep.catalog.journal import Change
from sdprep.catalog.results import decode_caption, is_caption
from sdprep.config import CaptionSettings
from sdprep.images.decoder import DECODER, decoder_of
from sdprep.models.base import ModelFiles, ModelSpec
from sdprep.models.captioners.trust import check_pickles
from sdprep.models.files.hub import identity
from sdprep.models.registry.registry import resolve, with_preprocess
from sdprep.report import CancelToken, Listener, NullListener, RunReport
from sdprep.rules.captions import caption_lines, has_repetition, written_captions
from sdprep.rules.policy import TextRequest
from sdprep.tasks.annotation.planner import Job
from sdprep.tasks.annotation.run import MODEL_DESCRIPTION, Annotation, Results
from sdprep.types import Caption


def caption(
    directory: Path,
    settings: CaptionSettings = CaptionSettings(),
    *,
    explicit: frozenset[str] = frozenset(),
    listener: Listener | None = None,
    stop: CancelToken | None = None,
) -> RunReport:
    """Write a caption beside every image that has none, by the rules of `rules/policy.py`.

    `stated` names the settings that were given for this run; only they lead to rewriting what sdprep wrote before.
    Raises SdprepError where the run cannot go on.
    """
    spec = resolve(settings.model, "caption")
    check_pickles(spec, allowed=settings.allow_pickle)
    kind = Captioning(spec, settings, explicit)
    return Annotation(kind, settings, listener or NullListener(), CancelToken() if stop is None else stop).run(
        directory
    )


class Captioning:
    """Captioning as a kind of annotation: captions are stored as the model gave them."""

    command = "caption"
    want_results = False

    def __init__(self, spec: ModelSpec, settings: CaptionSettings, explicit: frozenset[str]) -> None:
        self.spec, self._settings = with_preprocess(spec, settings.preprocess), settings
        # As the model's file has it: the setting counts for itself.
        self._description = spec.fingerprint()
        self._stated = explicit | {MODEL_DESCRIPTION} if "model" in explicit else explicit

    def make_job(self, files: ModelFiles | None) -> Job:
        """The job; its settings are the decoding and the model, its pieces are lines."""
        settings, work = self._settings, self._settings.run
        decoding = decoding_settings(settings)
        values = {
            "model": identity(self.spec, files),
            MODEL_DESCRIPTION: self._description,
            "preprocess": self.spec.image.preprocess,
            "exact_decode": self.spec.is_exact(settings.exact_decode),
            **decoding,
            "best_of": settings.best_of,
            **settings.rules.settings(),
            "dtype": settings.dtype,
        }
        wish = TextRequest("caption", values, self._stated, work.existing, work.update, work.refresh)
        result_key: dict[str, Any] | None = None
        if files is not None:
            what = {"task": "caption", "weights": files.weights, "precision": settings.dtype}
            result_key = {**what, **self.spec.result_key(), **self.spec.decoding(settings.exact_decode), **decoding}
        return Job(
            wish=wish,
            extension=settings.caption_extension,
            naming=settings.paths.sidecar_name,
            joiner="\n",
            result_key=result_key,
            render=self._render,
            decoder=decoder_of(DECODER, work.max_pixels, allow_truncated=work.allow_truncated),
            incomplete=work.allow_truncated,
            remark=self._remark,
            is_sound=is_caption,
            max_pixels=work.max_pixels,
        )

    def _render(self, result: bytes) -> list[str]:
        return caption_lines([each.text for each in self._ranked(result)], self._settings.rules)

    def _remark(self, result: bytes) -> str | None:
        """What a person should know of the captions that are written: one was cut, or has lost its thread."""
        ranked = self._ranked(result)
        written = written_captions([each.text for each in ranked], self._settings.rules)
        if any(has_repetition(text.casefold().split()) for text in written):
            return "repeats itself"
        cut = any(ranked[place].finish_reason == "length" for place in written.values())
        return "cut at the most tokens" if cut else None

    def _ranked(self, result: bytes) -> list[Caption]:
        """All captions of an image, those that are written first."""
        caption = decode_caption(result)
        found = [caption, *caption.others]
        return found if self._settings.best_of is None else sorted(found, key=lambda each: -(each.score or 0.0))

    def finish(self, results: Results, report: RunReport, replace: Callable[[Change], None]) -> None:
        """Nothing is left to do."""


def decoding_settings(settings: CaptionSettings) -> dict[str, Any]:
    """The settings that shape a caption, where they do: both decoders find the same, but draw different samples."""
    names = ["prompt", "min_length", "max_length", "count_prompt", "sample", "candidates", "decode_again"]
    names += ["repetition_penalty", "no_repeat_ngram_size"]
    names += ["top_p", "top_k", "seed", "decoder"] if settings.sample else ["num_beams"]
    return {**{name: getattr(settings, name) for name in names}, "bad_words": list(settings.bad_words)}
