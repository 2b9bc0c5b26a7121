"""The rules of packs: each changes what it names, and no other character."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.errors import UsageError
from sdprep.rules.edits.packs import CAPTION_RULES, TAG_RULES, parse_pack
from sdprep.tasks.texts.packs import load_pack


def tags(text: str, rule: str, scores: dict[str, float] | None = None, **keys: Any) -> str:
    return parse_pack("mine", {"tags": [{"rule": rule, **keys}]}).clean_tags(text, scores or {})


def caption(text: str, rule: str, **keys: Any) -> str:
    return parse_pack("mine", {"captions": [{"rule": rule, **keys}]}).clean_caption(text)


def test_underscores_become_spaces_except_in_emoticons() -> None:
    assert tags("long_hair,^_^,  o_o\r\n", "underscores") == "long hair,^_^,  o_o\r\n"


def test_a_tag_that_is_there_twice_in_any_spelling_stays_once() -> None:
    assert tags("long_hair, smile, Long Hair, smile", "dedupe") == "long_hair, smile"


def test_tags_are_dropped_by_name_and_wildcard() -> None:
    assert tags("1girl, rating:safe, hat", "drop", tags=["rating:*", "Hat"]) == "1girl"


def test_what_another_tag_implies_is_dropped() -> None:
    pairs = [["* shirt", "shirt"], ["cat_ears", "animal ears"]]
    assert tags("shirt, white_shirt, animal_ears, hat", "implied", pairs=pairs) == "white_shirt, animal_ears, hat"


LENGTHS = {"tags": ["short hair", "long hair"], "unless": ["*girls", ["1girl", "1boy"]]}


def test_of_an_exclusive_group_the_tag_with_the_highest_score_stays() -> None:
    text = "1girl, short_hair, long_hair"
    assert tags(text, "exclusive", {"short hair": 0.4, "long hair": 0.8}, **LENGTHS) == "1girl, long_hair"


def test_without_scores_the_first_of_an_exclusive_group_stays() -> None:
    assert tags("1girl, short hair, long hair", "exclusive", **LENGTHS) == "1girl, short hair"


@pytest.mark.parametrize("people", ["2girls", "1boy, 1girl"])
def test_an_exclusive_group_stays_where_several_people_may_share_it(people: str) -> None:
    text = f"{people}, short hair, long hair"
    assert tags(text, "exclusive", **LENGTHS) == text


def test_of_several_people_tags_of_one_kind_go_if_there_are_two() -> None:
    rule = {"tags": ["* eyes"], "when": ["*girls"], "except": ["closed eyes"]}
    assert tags("2girls, blue eyes, red eyes, closed eyes", "ambiguous", **rule) == "2girls, closed eyes"
    assert tags("2girls, blue eyes, closed eyes", "ambiguous", **rule) == "2girls, blue eyes, closed eyes"
    assert tags("1girl, blue eyes, red eyes", "ambiguous", **rule) == "1girl, blue eyes, red eyes"


def test_a_tag_that_a_longer_one_ends_with_is_dropped() -> None:
    assert tags("sweater, v-neck sweater, weater", "covered") == "v-neck sweater, weater"


def test_words_are_replaced_whole_and_keep_their_capital() -> None:
    pairs = [["woman", "girl"]]
    assert caption("Woman beside a womanly statue", "replace", pairs=pairs) == "Girl beside a womanly statue"


@pytest.mark.parametrize(
    ("text", "pair", "expected"),
    [
        ("the cafe\u0301 is new", ["caf\xe9", "bar"], "the bar is new"),
        ("the caf\xe9 is new", ["cafe\u0301", "bar"], "the bar is new"),
        ("the cafe\u0301 is new", ["cafe", "bar"], "the cafe\u0301 is new"),
        ("一个红发女孩", ["红发", "黑发"], "一个黑发女孩"),
    ],
)
def test_a_word_ends_where_its_script_ends_it_and_its_accents_belong_to_it(text: str, pair: Any, expected: str) -> None:
    assert caption(text, "replace", pairs=[pair]) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("arafed man", "man"), ("There is a cat", "A cat"), ("thereis a cat", "thereis a cat"), ("there is", "there is")],
)
def test_an_opener_is_dropped_if_something_follows(text: str, expected: str) -> None:
    assert caption(text, "openers", phrases=["arafed", "there is"]) == expected


def test_repeated_words_and_phrases_stay_once() -> None:
    assert caption("a cat and a cat and a dog dog", "repeated-words") == "a cat and a dog"


def test_white_space_becomes_single_spaces_in_each_line() -> None:
    assert caption("  a\tcat \n\n on\u3000a mat\n", "whitespace") == "a cat\n\non a mat\n"


def test_a_refusal_becomes_blank() -> None:
    assert caption("I’m sorry, I can't.\n", "refusals", phrases=["I'm sorry"]) == "\n"
    assert caption("A sign says I'm sorry", "refusals", phrases=["I'm sorry"]) == "A sign says I'm sorry"


TEXT = st.text(st.sampled_from("ab_ ,;\n\r\t@^oO'’-\ufeff日本\u200b"), max_size=40) | st.text(max_size=40)


@pytest.mark.parametrize("name", ["booru", "captions", "kohya", "kohya-exact"])
@given(text=TEXT)
def test_a_pack_of_sdprep_changes_nothing_the_second_time(name: str, text: str) -> None:
    pack = load_pack(name)
    once = pack.clean_tags(text), pack.clean_caption(text)
    assert (pack.clean_tags(once[0]), pack.clean_caption(once[1])) == once


@given(text=TEXT)
def test_a_rule_that_finds_nothing_leaves_every_character(text: str) -> None:
    assert tags(text, "drop", tags=["never there"]) == text
    assert caption(text, "replace", pairs=[["never there", ""]]) == text


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({"tag": []}, "has no tag"),
        ({"tags": {}}, "tags is not a list of tables"),
        ({"tags": [{}]}, "rule is missing"),
        ({"tags": [{"rule": "shout"}]}, f"has no rule 'shout'; there are {', '.join(TAG_RULES)}"),
        ({"captions": [{"rule": "dedupe"}]}, f"has no rule 'dedupe'; there are {', '.join(CAPTION_RULES)}"),
        ({"tags": [{"rule": "drop", "tag": ["a"]}]}, "the rule drop has no tag"),
        ({"tags": [{"rule": "drop", "tags": []}]}, "tags is missing or not a list of texts"),
        ({"captions": [{"rule": "replace", "pairs": [["a"]]}]}, "pairs is missing or not a list of pairs"),
        ({"tags": [{"rule": "exclusive", "tags": ["a"], "unless": "b"}]}, "unless is not a list"),
        ({"captions": [{"rule": "replace", "pairs": [["a", "\x00"]]}]}, "which no text has"),
    ],
)
def test_a_pack_with_a_mistake_is_refused_by_name(table: dict[str, Any], fault: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_pack("mine", table)
    assert str(raised.value).startswith("rule pack mine: ")
    assert fault in str(raised.value)
