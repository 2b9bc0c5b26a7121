"""`sdprep caption`: a sentence for every image of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdprep.catalog.results import decode_caption, is_caption
from sdprep.config import CaptionSettings
from sdprep.errors import UsageError
from sdprep.images.decoder import DECODER, decoder_of
from sdprep.models.backends import BACKENDS
from sdprep.models.base import ModelFiles, ModelSpec
from sdprep.models.captioners.trust import check_pickles
from sdprep.models.files.described import described
from sdprep.models.registry.registry import at_server, resolve, with_preprocess
from sdprep.report import CancelToken, Listener, RunReport
from sdprep.rules.captions import CaptionRules, caption_lines, is_blank, is_repetitive, written_captions
from sdprep.rules.policy import TextRequest
from sdprep.rules.prompt import Prompt, parse_prompt, variables_in
from sdprep.rules.shapes import values_that_shape
from sdprep.tasks.annotation.engine_config import quantize_for, with_model_defaults
from sdprep.tasks.annotation.job import MODEL_DESCRIPTION, Job, model_key, model_settings
from sdprep.tasks.annotation.prompts import CAPTIONS, Prompts
from sdprep.tasks.annotation.run import Annotation
from sdprep.tasks.settings import Layers
from sdprep.types import Caption, ImageWarning

# Both decoders find the same captions by beam search, but draw different samples.
SAMPLING = ("temperature", "top_p", "top_k", "seed", "decoder")
BEAM_SEARCH = ("num_beams",)


def caption(
    inputs: Path | Sequence[Path],
    settings: CaptionSettings = CaptionSettings(),
    *,
    layers: Layers = Layers(),
    listener: Listener | None = None,
    stop: CancelToken | None = None,
) -> RunReport:
    """Write a caption file for every image of these inputs that has none, by the rules of `rules/policy.py`.

    `layers` has what is stated for the images, `settings` all else (see `tasks/settings.py`).
    Raises SdprepError if the run cannot continue.
    """
    return Annotation("caption", Captioning, settings, listener, stop).run_inputs(inputs, layers)


class Captioning:
    """The annotation of images with captions, which are stored as the model gave them."""

    def __init__(
        self, settings: CaptionSettings, stated: frozenset[str] = frozenset(), explicit: frozenset[str] = frozenset()
    ) -> None:
        if settings.server:
            spec = at_server(settings.server, settings.model)
        else:
            spec = described(resolve(settings.model, "caption"))
        check_pickles(spec, allowed=settings.allow_pickle)
        self.spec, self._described = with_preprocess(spec, settings.preprocess), spec
        self.settings, self._stated = with_model_defaults(settings, spec), stated
        self._explicit = explicit | ({MODEL_DESCRIPTION} if "model" in explicit else set())
        if spec.server is not None and settings.best_of is not None:
            raise UsageError("--best-of ranks captions by likelihood, which a server does not give; use --captions")
        self._is_asked = BACKENDS[spec.backend].is_asked
        self._prompt = parse_prompt(self.settings.prompt or "") if self._is_asked else Prompt(())
        if not self._is_asked and (unfilled := variables_in(self.settings.prompt or "")):
            raise UsageError(
                f"the prompt has {', '.join(unfilled)}, but {spec.name} takes no variables: it continues the prompt\n"
                "Leave them out, or name a model that is asked about each image, such as a chat model"
            )
        if "caption" in self._prompt.variables and settings.caption_extension == CAPTIONS:
            raise UsageError(
                f"{{caption}} is the text of the {CAPTIONS} file, which this run would write\n"
                "Write the new caption to another file, such as --caption-extension .long"
            )

    def job(self, files: ModelFiles | None) -> Job:
        """The job; a text depends on the model, the search and the rules, and its pieces are lines."""
        settings, options = self.settings, self.settings.run
        exact, search = settings.exact_decode, search_settings(settings, self.spec)
        quantize = quantize_for(settings, self.spec)
        precision = settings.dtype if quantize == "none" else f"{settings.dtype} {quantize}"
        values = {
            **model_settings(self.spec, self._described, files, exact),
            "dtype": settings.dtype,
            **({"quantize": quantize} if "quantize" in BACKENDS[self.spec.backend].search else {}),
            **search,
            **values_that_shape(settings, "text"),
        }
        naming, prompts = settings.paths.sidecar_name, None
        if self._prompt.variables:
            prompts = Prompts(self._prompt, settings.trigger, settings.tag_extension, naming)
        return Job(
            request=TextRequest(
                "caption", values, self._explicit, options.existing, options.update, options.refresh, self._stated
            ),
            extension=settings.caption_extension,
            naming=naming,
            joiner="\n",
            reader=CaptionReader(settings.rules, settings.best_of),
            result_key=None if files is None else model_key(self.spec, files, precision, exact) | search,
            decoder=decoder_of(DECODER, options.max_pixels, allow_truncated=options.allow_truncated),
            accepts_truncated=options.allow_truncated,
            max_pixels=options.max_pixels,
            prompt="" if prompts or not self._is_asked else self._prompt.render({}),
            prompts=prompts,
            is_paid=self.spec.server is not None,
        )


def search_settings(settings: CaptionSettings, spec: ModelSpec) -> dict[str, Any]:
    """The settings that shape a caption, as far as the model and this search use them."""
    unused = BEAM_SEARCH if settings.sample else SAMPLING
    used = BACKENDS[spec.backend].search - {*unused} | {"prompt"}
    if BACKENDS[spec.backend].is_asked:
        used |= {"system_prompt"} if settings.system_prompt else set()
        used |= {"trigger"} & {*parse_prompt(settings.prompt or "").variables}
    values = {name: value for name, value in values_that_shape(settings, "result").items() if name in used}
    return values | {"candidates": settings.candidates}


@dataclass(frozen=True, slots=True)
class CaptionReader:
    """Makes lines of the captions of an image; with `best_of`, the most likely captions come first."""

    rules: CaptionRules
    best_of: int | None

    def is_sound(self, result: bytes) -> bool:
        """Whether these bytes are captions."""
        return is_caption(result)

    def render(self, result: bytes) -> list[str]:
        """The lines of the caption file."""
        return caption_lines([each.text for each in self._ranked(result)], self.rules)

    def warning(self, result: bytes) -> ImageWarning | None:
        """Whether the captions that are written are blank, or one of them repeats itself or was cut."""
        ranked = self._ranked(result)
        written = written_captions([each.text for each in ranked], self.rules)
        if is_blank(written):
            return ImageWarning.BLANK
        if any(map(is_repetitive, written)):
            return ImageWarning.REPETITIVE
        is_cut = any(ranked[index].finish_reason == "length" for index in written.values())
        return ImageWarning.CUT if is_cut else None

    def _ranked(self, result: bytes) -> list[Caption]:
        """All captions of an image, those that are written first."""
        caption = decode_caption(result)
        found = [caption, *caption.others]
        return found if self.best_of is None else sorted(found, key=lambda each: -(each.score or 0.0))
