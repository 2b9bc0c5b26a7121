"""From a command's settings to what engines and models take."""

from __future__ import annotations

from dataclasses import replace

from sdprep.config import CaptionSettings, TagSettings
from sdprep.engines.base import INLINE, WORKERS, DecodeOptions, EngineConfig
from sdprep.models.base import ModelFiles, ModelSpec
from sdprep.models.captioners.generation import CaptionOptions, GenerationConfig
from sdprep.models.execution import Execution


def engine_config(spec: ModelSpec, files: ModelFiles, settings: TagSettings | CaptionSettings) -> EngineConfig:
    """What a run with these settings opens: workers, or with `--workers 0` the model in this process."""
    run = settings.run
    return EngineConfig(
        spec=spec,
        files=files,
        execution=execution_for(settings),
        decode=DecodeOptions(
            memory=run.memory,
            image_timeout=run.image_timeout,
            max_pixels=run.max_pixels,
            allow_truncated=run.allow_truncated,
            exact=settings.exact_decode,
        ),
        captions=caption_options(settings) if isinstance(settings, CaptionSettings) else None,
        engine=WORKERS if run.workers else INLINE,
        timings=run.timings,
    )


def execution_for(settings: TagSettings | CaptionSettings) -> Execution:
    """Where and how the model of these settings runs."""
    common = Execution(device=settings.device, batch_size=settings.run.batch_size, decode_threads=settings.run.workers)
    if isinstance(settings, CaptionSettings):
        return replace(common, dtype=settings.dtype, cuda_graphs=settings.cuda_graphs)
    return replace(common, provider=settings.provider)


def caption_options(settings: CaptionSettings) -> CaptionOptions:
    """What these settings ask of a captioner."""
    generation = GenerationConfig(
        num_beams=1 if settings.sample else settings.num_beams,
        min_new_tokens=settings.min_length,
        max_new_tokens=settings.max_length,
        repetition_penalty=settings.repetition_penalty,
        no_repeat_ngram_size=settings.no_repeat_ngram_size,
        sample=settings.sample,
        top_p=settings.top_p,
        top_k=settings.top_k,
        seed=settings.seed,
        num_return_sequences=settings.candidates,
    )
    return CaptionOptions(
        generation=generation,
        prompt=settings.prompt,
        bad_words=settings.bad_words,
        count_prompt=settings.count_prompt,
        retry_repetition=settings.decode_again,
        reference=settings.decoder == "reference",
        allow_pickle=settings.allow_pickle,
    )
