"""kohya's cleaning: literally as his script does it, and in meaning without its faults."""

import json
from pathlib import Path

import pytest

from sdprep.errors import UsageError
from sdprep.rules.edits.packs import Pack, parse_pack
from sdprep.tasks.texts.packs import load_pack

GOLDEN = Path(__file__).parents[2] / "golden" / "clean"
INPUT, EXPECTED = (json.loads((GOLDEN / f"{name}.json").read_text("utf-8")) for name in ("input", "expected"))
EXACT, MENDED = (load_pack(name) for name in ("kohya-exact", "kohya"))
# The entries that kohya's script spoils, and what they are without that.
FAULTS = {
    "t04": ("1girl, ^_^, o_o, looking at viewer", "every emoticon keeps its underscores"),
    "t05": ("1girl, solo", "tags behind a rating stay"),
    "t06": ("1girl", "a rating in the first place goes too"),
    "t07": ("girls und panzer, red hair, blue hair", "a series is not several girls"),
    "c01": ("a girl with a cat", "the article fits the word that is left"),
    "c02": ("a personal computer on a desk", "letters inside a word are not a word"),
    "c06": ("a salesperson", "letters inside a word are not a word"),
}


def cleaned(pack: Pack, key: str) -> tuple[str, str]:
    entry = INPUT[key]
    return pack.clean_tags(entry["tags"]), pack.clean_caption(entry["caption"])


@pytest.mark.parametrize("key", INPUT)
def test_the_literal_pack_gives_what_kohyas_script_gives(key: str) -> None:
    assert cleaned(EXACT, key) == (EXPECTED[key]["tags"], EXPECTED[key]["caption"])


@pytest.mark.parametrize("key", [key for key in INPUT if key not in FAULTS])
def test_where_kohyas_script_does_no_harm_the_pack_gives_the_same(key: str) -> None:
    assert cleaned(MENDED, key) == (EXPECTED[key]["tags"], EXPECTED[key]["caption"])


@pytest.mark.parametrize("key", FAULTS, ids=lambda key: FAULTS[key][1])
def test_a_harmful_case_of_kohyas_script_is_mended(key: str) -> None:
    assert FAULTS[key][0] in cleaned(MENDED, key)


def test_several_girls_have_no_hair_color_where_one_length_is_everybodys() -> None:
    tags = "2girls, long hair, blonde hair, blue hair"
    assert EXACT.clean_tags(tags) == MENDED.clean_tags(tags) == "2girls, long hair"


def test_the_literal_pack_keeps_a_byte_order_mark_and_the_final_line_break() -> None:
    assert EXACT.clean_tags("1girl, blue_eyes\r\n") == "1girl, blue eyes\r\n"


def test_a_pack_that_would_never_end_is_refused() -> None:
    with pytest.raises(UsageError, match="would never end"):
        parse_pack("mine", {"captions": [{"rule": "replace-exactly", "pairs": [["a", "aa"]]}]})
