"""From a command's settings to what engines and models take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from sdprep.config import CaptionSettings, TagSettings
from sdprep.engines.base import INLINE, WORKERS, DecodeOptions, EngineConfig
from sdprep.errors import UsageError
from sdprep.models.backends import BACKENDS
from sdprep.models.base import ModelFiles, ModelSpec
from sdprep.models.captioners.generation import CaptionOptions, GenerationConfig
from sdprep.models.execution import Execution
from sdprep.rules.prompt import with_presets

# The options of a search, and their names in a model's description and in transformers.
GENERATION = {
    "num_beams": "num_beams",
    "min_length": "min_new_tokens",
    "max_length": "max_new_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "repetition_penalty": "repetition_penalty",
    "no_repeat_ngram_size": "no_repeat_ngram_size",
}


def engine_config(spec: ModelSpec, files: ModelFiles, settings: TagSettings | CaptionSettings) -> EngineConfig:
    """What a run with these settings opens: workers, or with `--workers 0` the model in this process."""
    run = settings.run
    return EngineConfig(
        spec=spec,
        files=files,
        execution=execution_for(settings, spec),
        decode=DecodeOptions(
            memory=run.memory,
            image_timeout=run.image_timeout,
            max_pixels=run.max_pixels,
            allow_truncated=run.allow_truncated,
            exact=settings.exact_decode,
        ),
        captions=caption_options(settings, spec) if isinstance(settings, CaptionSettings) else None,
        engine=WORKERS if run.workers else INLINE,
        timings=run.timings,
    )


def with_request_log(config: EngineConfig, log: Path | None) -> EngineConfig:
    """The same configuration, whose captioner notes its requests to a server in a file."""
    captions = config.captions
    return replace(config, captions=replace(captions, request_log=log)) if captions and log else config


def check_limits(engines: Sequence[EngineConfig]) -> None:
    """Raise UsageError if a limit of requests or cost would hold for each of several ways to ask a server."""
    options = [config.captions for config in engines if config.captions is not None]
    if len(engines) > 1 and any(each.max_requests is not None or each.max_cost is not None for each in options):
        raise UsageError(
            "--max-requests and --max-cost cannot be kept here: folders of this run have settings of their own, and "
            "the server is asked in several ways\nCaption one folder after the other"
        )


def with_model_defaults(settings: CaptionSettings, spec: ModelSpec) -> CaptionSettings:
    """The settings with what the model's description, or else its backend, says of all that no one stated.

    Raises UsageError if they contradict each other, and for a prompt preset that the model does not have.
    """
    backend, described = BACKENDS[spec.backend], msgspec.structs.asdict(spec.generate)
    default = {
        name: value if described[name] is None else described[name]
        for name, value in msgspec.structs.asdict(backend.generate).items()
    }
    values = {option: default[name] for option, name in GENERATION.items() if getattr(settings, option) is None}
    temperature = values.get("temperature", settings.temperature)
    if settings.sample is None:
        values["sample"] = bool(temperature)
    elif settings.sample and not temperature:
        values["temperature"] = None
    prompt = spec.prompt.user or backend.prompt if settings.prompt is None else settings.prompt
    values["prompt"] = with_presets(prompt, spec.prompt.presets)
    if settings.system_prompt is None:
        values["system_prompt"] = spec.prompt.system
    return replace(settings, **values)


def execution_for(settings: TagSettings | CaptionSettings, spec: ModelSpec) -> Execution:
    """Where and how the model of these settings runs."""
    common = Execution(device=settings.device, batch_size=settings.run.batch_size, decode_threads=settings.run.workers)
    if isinstance(settings, CaptionSettings):
        if spec.server is not None:
            # Each image is a request of its own, and one worker keeps to the limits of a server.
            return replace(common, device="auto", batch_size=1, in_flight=settings.in_flight)
        quantize = quantize_for(settings, spec)
        return replace(common, dtype=settings.dtype, quantize=quantize, cuda_graphs=settings.cuda_graphs)
    return replace(common, provider=settings.provider)


def quantize_for(settings: TagSettings | CaptionSettings, spec: ModelSpec) -> str:
    """The `--quantize` of these settings as far as the model has it: "4bit" or "none"."""
    if isinstance(settings, CaptionSettings) and "quantize" in BACKENDS[spec.backend].search:
        return settings.quantize
    return "none"


def caption_options(settings: CaptionSettings, spec: ModelSpec) -> CaptionOptions:
    """What these settings ask of a captioner."""
    settings = with_model_defaults(settings, spec)
    values: dict[str, Any] = {name: getattr(settings, option) for option, name in GENERATION.items()}
    stated = {name: value for name, value in values.items() if value is not None}
    if settings.sample:
        stated["num_beams"] = 1
    return CaptionOptions(
        generation=GenerationConfig(
            **stated, sample=bool(settings.sample), seed=settings.seed, num_return_sequences=settings.candidates
        ),
        stated=frozenset(stated),
        prompt="" if BACKENDS[spec.backend].is_asked else settings.prompt or "",
        system=settings.system_prompt or "",
        max_requests=settings.max_requests,
        max_cost=settings.max_cost,
        insecure=settings.insecure,
        bad_words=settings.bad_words,
        count_prompt=settings.count_prompt,
        retry_repetition=settings.decode_again,
        reference=settings.decoder == "reference",
        allow_pickle=settings.allow_pickle,
    )
