"""The settings of every command, and the reading of `sdprep.toml`."""

from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.config import CaptionSettings, MergeSettings, TagSettings, read_config
from sdprep.errors import UsageError
from sdprep.rules.captions import CaptionRules
from sdprep.rules.labels import STORED_FLOOR, TagRules
from sdprep.texts.sidecar import decode_text, encode_text

WRITING = [TagSettings, CaptionSettings]


def read(folder: Path, text: str | bytes) -> dict[str, dict[str, Any]]:
    path = folder / "sdprep.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_config(path)


# Settings


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


def test_a_decoder_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match="--decoder is one of fast, reference, not 'slow'"):
        CaptionSettings(decoder="slow")


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


@pytest.mark.parametrize("fields", [("captions",), ("caption", "size"), ()])
def test_fields_that_an_entry_does_not_have_are_refused(fields: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="--fields takes caption, tags and image_size"):
        MergeSettings(fields=fields)


@pytest.mark.parametrize("settings", [TagSettings, CaptionSettings, MergeSettings])
def test_settings_cannot_be_changed_under_a_run(settings: type) -> None:
    with pytest.raises(FrozenInstanceError):
        settings().paths = None


# Files


def test_every_table_is_a_command(tmp_path: Path) -> None:
    found = read(tmp_path, "[tag]\nthreshold = 0.4\n[caption]\nprompt = ''\n")
    assert found == {"tag": {"threshold": 0.4}, "caption": {"prompt": ""}}


def test_hyphens_and_underscores_name_the_same_setting(tmp_path: Path) -> None:
    assert read(tmp_path, "[tag]\nremove-underscore = true\nbatch_size = 4\n") == {
        "tag": {"remove_underscore": True, "batch_size": 4}
    }


def test_a_byte_order_mark_does_not_matter(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeff[tag]\nthreshold = 0.4\n") == {"tag": {"threshold": 0.4}}


def test_an_empty_file_has_no_settings(tmp_path: Path) -> None:
    assert read(tmp_path, "") == {}


@pytest.mark.parametrize("text", ["[tag\n", "[tag]\nx = \n", b"[tag]\nx = '\xff'\n"], ids=["bracket", "value", "bytes"])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(UsageError, match=r"sdprep\.toml: "):
        read(tmp_path, text)


def test_a_setting_outside_a_table_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'threshold' stands outside a table; write it under \[caption\]"):
        read(tmp_path, "threshold = 0.4\n")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.toml"):
        read_config(tmp_path / "gone.toml")


def test_a_settings_file_of_many_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "sdprep.toml").open("wb") as stream:
        stream.truncate(6 << 30)
    with pytest.raises(UsageError, match="larger than 1,048,576 bytes"):
        read_config(tmp_path / "sdprep.toml")


def test_a_settings_file_with_a_key_that_takes_long_to_parse_is_refused(tmp_path):
    (tmp_path / "sdprep.toml").write_text(f"[tag]\n{'a.' * 1000}b = 1\n")
    with pytest.raises(UsageError, match=r"sdprep\.toml: a line has more than 500 dots"):
        read_config(tmp_path / "sdprep.toml")


@pytest.mark.parametrize("text", ["[tag]\nprefix = " + "[" * 2000, "[tag]\nprefix = " + "{a = " * 2000])
def test_a_settings_file_that_is_nested_too_deeply_is_refused_in_plain_words(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"sdprep\.toml: it is nested too deeply to be read"):
        read(tmp_path, text)
