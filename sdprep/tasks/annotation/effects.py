"""Which options have no effect beside others: one table for tag, caption and merge."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sdprep.config import CaptionSettings, MergeSettings, TagSettings
from sdprep.models.base import ModelSpec
from sdprep.rules.labels import ARGMAX_CATEGORIES, NAMED_THRESHOLDS
from sdprep.tasks.annotation.tag_lists import OF_THE_MODEL

THRESHOLDS = ("threshold", "category_threshold", *(f"{name}_threshold" for name in NAMED_THRESHOLDS))


@dataclass(frozen=True, slots=True)
class Dependency:
    """Options that have an effect only if a condition on the settings and the model holds; otherwise `reason`."""

    options: tuple[str, ...]
    has_effect: Callable[[Any, ModelSpec | None], bool]
    reason: str


def _decodes_fast(settings: TagSettings | CaptionSettings, model: ModelSpec | None) -> bool:
    return (settings.preprocess or (model and model.image.preprocess)) != "kohya"


def _lacks_a_threshold(settings: TagSettings, model: ModelSpec | None) -> bool:
    """Whether some category of the model has no threshold of its own."""
    categories = model.labels.categories if model is not None and model.labels is not None else {"general": 0}
    return bool(set(categories) - {*ARGMAX_CATEGORIES} - set(settings.rules.own_thresholds()))


def _has_characters(_: TagSettings, model: ModelSpec | None) -> bool:
    return model is None or model.labels is None or "character" in model.labels.categories


ANNOTATION = (
    Dependency(("exact_decode",), _decodes_fast, "with --preprocess kohya, which always decodes exactly"),
    Dependency(("image_timeout",), lambda each, _: each.run.workers > 0, "with --workers 0"),
    Dependency(("debug",), lambda each, _: not each.run.dry_run, "with --dry-run"),
    Dependency(("update",), lambda each, _: not each.run.refresh, "with --refresh, which rewrites more"),
)
DEPENDENCIES: dict[type, tuple[Dependency, ...]] = {
    TagSettings: (
        *ANNOTATION,
        Dependency(("combine",), lambda each, _: len(each.models) > 1, "with one model"),
        Dependency(("scores_min",), lambda each, _: each.scores is not None, "without --scores"),
        Dependency(("implied",), lambda each, _: each.implications is not None, "without --implications"),
        Dependency(("scores",), lambda each, _: not each.run.dry_run, "with --dry-run"),
        Dependency(THRESHOLDS, lambda each, _: each.tag_thresholds != OF_THE_MODEL, "with --tag-thresholds model"),
        Dependency(("threshold",), _lacks_a_threshold, "since each category has a threshold of its own"),
        Dependency(
            ("character_tag_expand", "character_tags_first"), _has_characters, "with a model without character tags"
        ),
        Dependency(
            ("model_dir", "force_download"),
            lambda _, model: model is None or model.source.repo is not None,
            "with a model that is not from the Hub",
        ),
    ),
    CaptionSettings: (
        *ANNOTATION,
        Dependency(("top_p", "top_k", "seed"), lambda each, _: each.sample, "without --sample"),
        Dependency(("num_beams",), lambda each, _: not each.sample, "with --sample"),
        Dependency(("count_prompt",), lambda each, _: bool(each.prompt), "without a --prompt"),
        Dependency(("decode_again",), lambda each, _: not each.no_repeat_ngram_size, "with --no-repeat-ngram-size"),
        Dependency(("cuda_graphs",), lambda each, _: each.decoder == "fast", "with --decoder reference"),
        Dependency(("cuda_graphs",), lambda each, _: not {"cpu", "mps"} & {*each.devices}, "without a CUDA device"),
    ),
    MergeSettings: (
        Dependency(("caption_extension",), lambda each, _: "caption" in each.fields, "without caption in --fields"),
        Dependency(("tag_extension",), lambda each, _: "tags" in each.fields, "without tags in --fields"),
        Dependency(
            ("missing", "sidecar_name"),
            lambda each, _: bool({"caption", "tags"} & {*each.fields}),
            "without caption or tags in --fields",
        ),
    ),
}


def without_effect(stated: Collection[str], used: Sequence[tuple[Any, ModelSpec | None]]) -> Iterator[str]:
    """A line for stated options that change nothing in a run.

    `used` are all settings, of one command, that images of the run have, each with its model.
    """
    for dependency in DEPENDENCIES[type(used[0][0])] if used else ():
        names = [f"--{name.replace('_', '-')}" for name in dependency.options if name in stated]
        if names and not any(dependency.has_effect(*each) for each in used):
            *others, last = names
            some = f"{', '.join(others)} and {last} have" if others else f"{last} has"
            yield f"{some} no effect {dependency.reason}"
