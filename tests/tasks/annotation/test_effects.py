"""Options that change nothing beside others are named."""

from dataclasses import fields

import pytest

from sdprep.config import CaptionSettings, MergeSettings, TagSettings, from_options, option_names
from sdprep.models.registry.registry import resolve
from sdprep.tasks.annotation.notes import DEPENDENCIES, without_effect

DEMO = resolve("demo-tag", "tag")
NAMED = {
    "top_p": (CaptionSettings, {}, "--top-p has no effect without --sample"),
    "num_beams": (CaptionSettings, {"sample": True}, "--num-beams has no effect with --sample"),
    "count_prompt": (CaptionSettings, {"prompt": ""}, "--count-prompt has no effect without a --prompt"),
    "decode_again": (
        CaptionSettings,
        {"no_repeat_ngram_size": 2},
        "--decode-again has no effect with --no-repeat-ngram-size",
    ),
    "cuda_graphs": (CaptionSettings, {"device": "cpu"}, "--cuda-graphs has no effect without a CUDA device"),
    "update": (TagSettings, {"refresh": True}, "--update has no effect with --refresh, which rewrites more"),
    "scores": (TagSettings, {"dry_run": True}, "--scores has no effect with --dry-run"),
    "general_threshold": (
        TagSettings,
        {"tag_thresholds": "model"},
        "--general-threshold has no effect with --tag-thresholds model",
    ),
    "threshold": (
        TagSettings,
        {"general_threshold": 0.3, "character_threshold": 0.3},
        "--threshold has no effect since each category has a threshold of its own",
    ),
    "model_dir": (TagSettings, {}, "--model-dir has no effect with a model that is not from the Hub"),
    "exact_decode": (
        TagSettings,
        {"preprocess": "kohya"},
        "--exact-decode has no effect with --preprocess kohya, which always decodes exactly",
    ),
    "missing": (
        MergeSettings,
        {"fields": ("image_size",)},
        "--missing has no effect without caption or tags in --fields",
    ),
    "tag_extension": (
        MergeSettings,
        {"fields": ("caption",)},
        "--tag-extension has no effect without tags in --fields",
    ),
}


@pytest.mark.parametrize(("option", "case"), NAMED.items(), ids=NAMED.keys())
def test_an_option_without_effect_is_named_with_the_reason(option, case):
    kind, values, line = case
    model = DEMO if kind is TagSettings else None
    assert list(without_effect({option}, [(from_options(kind, values), model)])) == [line]
    assert list(without_effect(set(), [(from_options(kind, values), model)])) == []


def test_an_option_that_has_an_effect_for_some_images_is_not_named():
    both = [(CaptionSettings(sample=sample), None) for sample in (False, True)]
    assert list(without_effect({"top_p", "num_beams"}, both)) == []


@pytest.mark.parametrize(
    ("model", "prompt", "named"),
    [
        ("demo-caption", "{trigger}", ["system-prompt", "trigger"]),
        ("florence2-base", "<CAPTION>", ["system-prompt", "trigger"]),
        ("demo-chat", "Describe it.", ["trigger"]),
        ("demo-chat", "Describe {trigger}.", []),
    ],
)
def test_parts_of_a_prompt_that_a_model_does_not_get_are_named(model, prompt, named):
    used = [(CaptionSettings(prompt=prompt), resolve(model, "caption"))]
    said = list(without_effect({"system_prompt", "trigger"}, used))
    assert [line.split()[0].removeprefix("--") for line in said] == named


def test_several_options_share_a_line():
    said = list(without_effect({"seed", "top_k", "top_p"}, [(CaptionSettings(), None)]))
    assert said == ["--top-p, --top-k and --seed have no effect without --sample"]


@pytest.mark.parametrize("kind", DEPENDENCIES)
def test_the_table_names_options_of_the_command_only(kind):
    assert fields(kind)
    assert {name for each in DEPENDENCIES[kind] for name in each.options} <= option_names(kind)
