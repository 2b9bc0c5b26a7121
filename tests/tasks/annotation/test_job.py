"""The keys under which texts and results are stored, and the settings that shape them."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from sdprep.catalog.schema import dump
from sdprep.config import CaptionSettings, TagSettings
from sdprep.models.base import ModelFiles
from sdprep.report import NullListener
from sdprep.rules.captions import CaptionRules
from sdprep.rules.labels import TagRules
from sdprep.rules.policy import STATED
from sdprep.tasks.annotation.job import Job
from sdprep.tasks.caption import SAMPLING, Captioning
from sdprep.tasks.tag import Tagging

# As version 0.1 stored them in catalogs: with any other key, every result would be predicted again, and with other
# values of its settings, every text would be written again. Settings that came later count where they are stated.
STORED = json.loads((Path(__file__).parents[2] / "golden" / "stored_keys.json").read_text("utf-8"))
LIST = Path("list.csv")
FILES = ModelFiles(Path("models"), "commit", "5" * 64)
SETTINGS = {
    "tag": TagSettings(),
    "tag with other settings": TagSettings(
        preprocess="kohya",
        rules=TagRules(threshold="auto", category_threshold=(("general", 0.2),), tag_replacement=(("a", "b"),)),
    ),
    "caption": CaptionSettings(),
    "caption with other settings": CaptionSettings(
        sample=True,
        best_of=4,
        dtype="bfloat16",
        exact_decode=True,
        bad_words=("x",),
        rules=CaptionRules(2, "a", "b", ("c", "d")),
    ),
}


def job(settings: TagSettings | CaptionSettings) -> Job:
    if isinstance(settings, TagSettings):
        return Tagging(settings, note=NullListener().note).job(FILES)
    return Captioning(settings).job(FILES)


def keys(settings: TagSettings | CaptionSettings) -> dict[str, str]:
    made = job(settings)
    settings = {name: value for name, value in made.request.settings.items() if name != STATED}
    return {"settings": dump(settings), "result_key": dump(made.result_key)}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_stored_keys_are_those_of_earlier_versions(name: str) -> None:
    made, stored = keys(SETTINGS[name]), STORED[name]
    assert made["result_key"] == stored["result_key"]
    assert json.loads(made["settings"]).items() >= json.loads(stored["settings"]).items()


# Another value for every field of a command's settings, by the group that the field is in.
OTHER_VALUES: dict[str, dict[str, dict[str, Any]]] = {
    "tag": {
        "": {
            "model": "wd-v1-4-swinv2-tagger-v2", "combine": "mean", "backend": "tensorflow", "provider": "cpu",
            "device": "cuda:1", "preprocess": "kohya", "exact_decode": True, "model_dir": Path("models"),
            "force_download": True, "tag_thresholds": "model", "aliases": LIST, "implications": LIST,
            "caption_separator": "; ", "caption_extension": ".other", "scores": Path("scores.jsonl"), "scores_min": 0.1,
            "frequency_tags": True,
        },
        "rules": {
            "threshold": 0.5, "general_threshold": 0.5, "character_threshold": 0.5, "copyright_threshold": 0.5,
            "artist_threshold": 0.5, "meta_threshold": 0.5, "model_threshold": 0.5,
            "category_threshold": (("general", 0.5),), "remove_underscore": True, "exclude": ("a",), "implied": "add",
            "tag_replacement": (("a", "b"),), "character_tag_expand": True, "character_tags_first": True,
            "always_first_tags": ("a",), "ratings": "first", "quality": "first", "order": "csv", "max_tags": 9,
            "category_order": ("artist",), "artist_prefix": "@",
            "prefix": ("a",), "suffix": ("a",), "escape_parentheses": True,
        },
    },
    "caption": {
        "": {
            "model": "blip-large", "prompt": "a drawing of", "num_beams": 8, "sample": True, "top_p": 0.5, "top_k": 5,
            "repetition_penalty": 2.0, "no_repeat_ngram_size": 2, "bad_words": ("a",), "best_of": 3,
            "decode_again": False, "count_prompt": True, "min_length": 6, "max_length": 70, "seed": 1,
            "device": "cuda:1", "dtype": "int8", "quantize": "4bit", "decoder": "reference", "preprocess": "kohya",
            "exact_decode": True, "cuda_graphs": True, "allow_pickle": True, "caption_extension": ".other",
            "tag_extension": ".tags",
            "server": "http://127.0.0.1:2", "system_prompt": "Be brief.", "trigger": "hana", "temperature": 0.5,
            "in_flight": 9, "max_requests": 9, "max_cost": 9.0, "insecure": True,
        },
        "rules": {"captions": 2, "prefix": "a", "suffix": "a", "drop_words": ("a",)},
    },
}  # fmt: skip
SHARED = {
    "paths": {
        "recursive": False, "follow_links": True, "sidecar_name": "full", "output_dir": Path("out"),
        "catalog": Path("c.sqlite"), "where": "tag:hat",
    },
    "run": {
        "batch_size": 9, "workers": 0, "memory": 99, "image_timeout": 9.0, "max_pixels": 99, "allow_truncated": True,
        "existing": "append", "update": True, "refresh": True, "limit": 9, "dry_run": True, "debug": True,
        "timings": True,
    },
}  # fmt: skip
# With these settings, each field counts: sampling does not use the beams, and only some models have two backends.
CAPTIONS = CaptionSettings(model="demo-caption", num_beams=4, best_of=4)
SERVED = CaptionSettings(model="qwen", server="http://127.0.0.1:1")
BASES: dict[str, TagSettings | CaptionSettings] = {
    "tag": TagSettings(model="cl_tagger"),
    "backend": TagSettings(model="demo-tag"),
    "caption": CAPTIONS,
    **dict.fromkeys(SAMPLING, replace(CAPTIONS, sample=True)),
    **dict.fromkeys(("server", "system_prompt"), SERVED),
    "quantize": CaptionSettings(model="demo-chat"),
    "temperature": replace(SERVED, sample=True),
    "trigger": replace(SERVED, prompt="Say {trigger}."),
}
BOTH = {"settings", "result_key"}
CHANGED_KEYS: dict[str | None, set[str]] = {
    None: set(),
    "text": {"settings"},
    "result": BOTH,
    "model": BOTH,
    # Both backends give the same scores.
    "backend": {"result_key"},
    # The model makes as many captions.
    "best_of": BOTH,
    # One model is not combined with any.
    "combine": set(),
    # The weights of another folder are another key, but here the files of the model stay the same.
    "model_dir": set(),
    # The same model at another address.
    "server": set(),
}
EVERY_FIELD = [
    (command, group, name, value)
    for command, groups in OTHER_VALUES.items()
    for group, values in (groups | SHARED).items()
    for name, value in values.items()
]


@pytest.mark.parametrize("command", OTHER_VALUES)
def test_every_field_of_the_settings_says_what_it_shapes(command: str) -> None:
    groups = OTHER_VALUES[command] | SHARED
    for group, values in groups.items():
        settings = getattr(BASES[command], group) if group else BASES[command]
        said = {each.name: each.metadata["shapes"] for each in fields(settings) if each.name not in groups}
        assert values.keys() == said.keys()
        assert set(said.values()) <= {"text", "result", "model", None}


@pytest.mark.parametrize(("command", "group", "name", "value"), EVERY_FIELD)
def test_a_field_changes_the_stored_keys_that_it_says_it_shapes(
    command: str, group: str, name: str, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    LIST.write_text("1girl,solo\n", "utf-8")
    base = BASES.get(name, BASES[command])
    settings = getattr(base, group) if group else base
    changed = replace(settings, **{name: value})
    before, after = keys(base), keys(replace(base, **{group: changed}) if group else changed)
    differing = {key for key in before if before[key] != after[key]}
    shapes = next(each.metadata["shapes"] for each in fields(settings) if each.name == name)
    assert differing == CHANGED_KEYS.get(name, CHANGED_KEYS[shapes])
