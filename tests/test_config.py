"""The settings of every command."""

from dataclasses import FrozenInstanceError, fields
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.choices import choices
from sdprep.config import (
    BenchSettings,
    CaptionSettings,
    MergeSettings,
    PathOptions,
    QuantizeSettings,
    RunOptions,
    TagSettings,
    from_options,
    option_names,
)
from sdprep.errors import UsageError
from sdprep.rules.captions import CaptionRules
from sdprep.rules.labels import STORED_FLOOR, TagRules
from sdprep.texts.sidecar import decode_text, encode_text

WRITING = [TagSettings, CaptionSettings]


@pytest.mark.parametrize("name", ["threshold", "general_threshold", "character_threshold"])
def test_a_threshold_below_what_is_stored_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"0\.005 is below 0\.01, the lowest probability stored"):
        TagSettings(rules=TagRules(**{name: 0.005}))


@pytest.mark.parametrize("name", ["threshold", "general_threshold", "character_threshold"])
def test_a_threshold_at_the_floor_is_accepted(name: str) -> None:
    rules = TagRules(**{name: STORED_FLOOR})
    assert TagSettings(rules=rules).rules == rules


def test_a_lowest_score_below_what_is_stored_is_refused() -> None:
    with pytest.raises(UsageError, match="is below"):
        TagSettings(scores_min=0.001)


def test_the_default_threshold_is_the_same_for_every_model() -> None:
    assert TagSettings(model="wd-vit-tagger-v3").rules.threshold == 0.35


def test_an_empty_separator_is_refused() -> None:
    with pytest.raises(UsageError, match="separator is empty"):
        TagSettings(caption_separator="")


EXPLICIT = {
    "prefix": lambda text: TagSettings(rules=TagRules(prefix=("mine", text))),
    "suffix": lambda text: TagSettings(rules=TagRules(suffix=(text,))),
    "always-first-tags": lambda text: TagSettings(rules=TagRules(always_first_tags=(text,))),
    "tag-replacement": lambda text: TagSettings(rules=TagRules(tag_replacement=(("solo", text),))),
    "caption-separator": lambda text: TagSettings(caption_separator=text),
    "prompt": lambda text: CaptionSettings(prompt=text),
    "prefix of a caption": lambda text: CaptionSettings(rules=CaptionRules(prefix=text)),
    "suffix of a caption": lambda text: CaptionSettings(rules=CaptionRules(suffix=text)),
}


@pytest.mark.parametrize("name", EXPLICIT)
@pytest.mark.parametrize("character", ["\0", "\x01", "\x1b", "\x1f", "\ufffe", "\uffff", "\udce9"], ids=ascii)
def test_what_no_text_has_is_refused_in_what_is_written_into_texts(name: str, character: str) -> None:
    with pytest.raises(UsageError, match=f"--{name.split()[0]} holds "):
        EXPLICIT[name](f"a{character}b")


@given(st.characters(), st.sampled_from(list(EXPLICIT)))
def test_what_is_accepted_in_a_setting_is_read_again(character: str, name: str) -> None:
    text = f"a{character}b"
    try:
        EXPLICIT[name](text)
    except UsageError:
        return
    assert decode_text(encode_text(text)) == f"{text}\n"


def test_a_shortest_caption_longer_than_the_longest_is_refused() -> None:
    with pytest.raises(UsageError, match="--min-length 9 is more than --max-length 8"):
        CaptionSettings(min_length=9, max_length=8)


CHOICES = [
    (kind, each.name)
    for kind in (RunOptions, PathOptions, TagRules, TagSettings, CaptionSettings, MergeSettings, BenchSettings,
                 QuantizeSettings)
    for each in fields(kind)
    if choices(kind, each.name)
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), CHOICES)
def test_a_value_that_is_not_a_choice_is_refused_with_the_choices(kind: Any, name: str) -> None:
    wrong = ("nonsense",) if isinstance(getattr(kind(), name), tuple) else "nonsense"
    with pytest.raises(
        UsageError, match=f"--{name.replace('_', '-')} takes .*{choices(kind, name)[-1]}, not 'nonsense'"
    ):
        kind(**{name: wrong})


@pytest.mark.parametrize(("kind", "name"), CHOICES)
def test_every_choice_is_accepted(kind: Any, name: str) -> None:
    for value in choices(kind, name):
        given = (value,) if isinstance(getattr(kind(), name), tuple) else value
        assert getattr(kind(**{name: given}), name) == given


def test_the_options_with_choices_are_these() -> None:
    assert {name for _, name in CHOICES} == {
        "existing", "sidecar_name", "combine", "implied", "ratings", "quality", "order", "backend", "preprocess",
        "dtype", "quantize", "decoder", "keys", "fields", "missing", "precision",
    }  # fmt: skip


def test_none_is_not_a_choice_where_a_value_is_needed() -> None:
    with pytest.raises(UsageError, match="--existing takes keep, overwrite, append, prepend or fill, not None"):
        RunOptions(existing=cast("Any", None))


def test_settings_are_made_from_options_by_name_at_any_depth() -> None:
    settings = from_options(TagSettings, {"threshold": 0.5, "workers": 0, "recursive": False, "model": "x", "a": 1})
    assert (settings.rules.threshold, settings.run.workers, settings.paths.recursive, settings.model) == (
        0.5, 0, False, "x",
    )  # fmt: skip


def test_the_options_of_settings_include_those_of_rules_paths_and_run() -> None:
    names = option_names(TagSettings)
    assert {"threshold", "workers", "recursive", "model"} <= names
    assert names.isdisjoint({"rules", "run", "paths"})


def test_captions_of_one_length_are_accepted() -> None:
    assert CaptionSettings(min_length=8, max_length=8).max_length == 8


@pytest.mark.parametrize("settings", WRITING)
@pytest.mark.parametrize("extension", [".jpg", ".PNG", ".webp", ".txt.avif"])
def test_an_extension_of_images_is_no_extension_of_sidecars(settings: type, extension: str) -> None:
    with pytest.raises(UsageError, match="extension"):
        settings(caption_extension=extension)


@pytest.mark.parametrize("settings", WRITING)
@pytest.mark.parametrize("extension", ["", ".", "./x", "/../x", ".a/b", "\0"])
def test_an_extension_that_makes_no_file_name_beside_the_image_is_refused(settings: type, extension: str) -> None:
    with pytest.raises(UsageError, match="extension"):
        settings(caption_extension=extension)


def test_an_entry_needs_a_field() -> None:
    with pytest.raises(UsageError, match="--fields is empty"):
        MergeSettings(fields=())


@pytest.mark.parametrize("settings", [TagSettings, CaptionSettings, MergeSettings])
def test_settings_cannot_be_changed_under_a_run(settings: type) -> None:
    with pytest.raises(FrozenInstanceError):
        settings().paths = None
