"""`sdprep caption`: a sentence for every picture of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sdprep.config import CaptionSettings
from sdprep.data.results import decode_caption
from sdprep.models.base import ModelFiles, ModelSpec
from sdprep.models.hub import identity
from sdprep.models.registry import resolve
from sdprep.rules.captions import clean_caption
from sdprep.rules.decide import Wish
from sdprep.tasks.annotate import MODEL_DESCRIPTION, Annotation
from sdprep.tasks.planning import Job, Target
from sdprep.types import Listener, RunReport, Silent, Stop


def caption(
    directory: Path,
    settings: CaptionSettings = CaptionSettings(),
    *,
    stated: frozenset[str] = frozenset(),
    listener: Listener | None = None,
    stop: Stop | None = None,
) -> RunReport:
    """Write a caption beside every picture that has none, by the rules of `rules/decide.py`.

    `stated` names the settings that were given for this run; only they lead to rewriting what sdprep wrote before.
    Raises SdprepError where the run cannot go on.
    """
    kind = Captioning(resolve(settings.model, "caption"), settings, stated)
    return Annotation(kind, settings, listener or Silent(), Stop() if stop is None else stop).run(directory)


class Captioning:
    """Captioning as a kind of annotation: captions are stored as the model gave them."""

    command = "caption"
    want_results = False

    def __init__(self, spec: ModelSpec, settings: CaptionSettings, stated: frozenset[str]) -> None:
        self.spec, self._settings = spec, settings
        self._stated = stated | {MODEL_DESCRIPTION} if "model" in stated else stated

    def make_job(self, files: ModelFiles | None) -> Job:
        """The job; its settings are the decoding and the model, its pieces are lines."""
        settings, work = self._settings, self._settings.work
        decoding = decoding_settings(settings)
        values = {
            "model": identity(self.spec, files),
            MODEL_DESCRIPTION: self.spec.fingerprint(),
            **decoding,
            "dtype": settings.dtype,
        }
        wish = Wish("caption", values, self._stated, work.existing, work.update, work.refresh)
        recipe: dict[str, Any] | None = None
        if files is not None:
            what = {"task": "caption", "weights": files.weights, "precision": settings.dtype}
            recipe = {**what, **self.spec.recipe(), **decoding}
        return Job(wish, settings.caption_extension, settings.layout.sidecar_name, "\n", recipe, _render)

    def finish(self, targets: Sequence[Target], job: Job, report: RunReport) -> None:
        """Nothing is left to do."""


def decoding_settings(settings: CaptionSettings) -> dict[str, Any]:
    """The settings that shape a caption; the seed and `top_p` only where they are used."""
    names = ["prompt", "min_length", "max_length", "sample"]
    names += ["top_p", "seed"] if settings.sample else ["num_beams"]
    return {name: getattr(settings, name) for name in names}


def _render(result: bytes) -> list[str]:
    text = clean_caption(decode_caption(result).text)
    return [text] if text else []
