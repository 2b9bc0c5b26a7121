"""Entries of options that match no tag of the model are named, in one line per option."""

import pytest

from sdprep.rules.exclude import parse_exclusions, split_list
from sdprep.rules.labels import LabelTable, TagRules
from sdprep.rules.tag_lists import TagLists
from sdprep.rules.tags import parse_replacements
from sdprep.rules.unmatched import unmatched

LABELS = LabelTable(
    ("safe", "1girl", "black_hair", "glasses", "kuro_(sdprep)", "?"),
    ("rating", *["general"] * 3, "character", "general"),
)


def lines(lists=TagLists(), **rules):
    return list(unmatched("demo", LABELS, TagRules(**rules), lists))


def test_a_misspelt_tag_is_named_with_the_tag_that_is_meant():
    assert lines(exclude=("black hiar", "1girl")) == [
        "--exclude: no tag of demo matches black hiar (did you mean black_hair?)"
    ]


def test_a_tag_that_resembles_none_is_named_alone():
    assert lines(exclude=("zebra",)) == ["--exclude: no tag of demo matches zebra"]


@pytest.mark.parametrize("entry", ["Black Hair", r"kuro \(sdprep\)", "*_hair", "* hair", "?", "/^gl/", "/_/", "safe"])
def test_every_spelling_of_a_known_tag_matches(entry):
    assert lines(exclude=(entry,)) == []


@pytest.mark.parametrize("entry", ["*_hiar", "x?", "/^zebra/"])
def test_a_pattern_that_matches_nothing_is_named(entry):
    assert lines(exclude=(entry,)) == [f"--exclude: no tag of demo matches {entry}"]


def test_a_wildcard_where_none_works_is_named():
    [line] = lines(tag_replacement=(("*_hair", "hair"),))
    assert "no tag of demo matches *_hair (it takes no wildcards and no /regex/)" in line


def test_a_wildcard_among_the_first_tags_matches_as_in_exclude():
    assert lines(always_first_tags=("*_hair",)) == []
    assert lines(always_first_tags=("*_hiar",)) == ["--always-first-tags: no tag of demo matches *_hiar"]


def test_each_option_has_one_line_that_names_ten_entries():
    [line] = lines(always_first_tags=tuple(f"zebra{number}" for number in range(12)))
    assert line.startswith("--always-first-tags: no tag of demo matches zebra0, ")
    assert line.endswith("zebra9 and 2 more")


def test_a_tag_that_a_replacement_writes_can_be_excluded_and_come_first():
    assert lines(tag_replacement=(("1girl", "woman"),), exclude=("woman",), always_first_tags=("woman",)) == []


def test_the_parts_of_an_expanded_character_tag_are_known():
    assert lines(exclude=("sdprep",)) == ["--exclude: no tag of demo matches sdprep"]
    assert lines(exclude=("sdprep",), character_tag_expand=True) == []


def test_a_tag_that_an_alias_renames_is_named_with_its_new_name():
    lists = TagLists(aliases={"glasses": "spectacles"})
    assert lines(lists, exclude=("glasses",)) == [
        "--exclude: no tag of demo matches glasses (--aliases makes it spectacles)"
    ]
    assert lines(lists, exclude=("spectacles",)) == []


def test_tags_that_are_only_implied_are_known_if_they_are_added():
    lists = TagLists(implied={"1girl": ("human",)})
    assert lines(lists, exclude=("human",), implied="add") == []
    assert lines(lists, exclude=("human",)) != []


def test_lists_of_which_no_name_is_a_tag_are_named_by_their_length():
    lists = TagLists(aliases={"a": "b", "c": "d"}, implied={"x": ("y",)})
    assert lines(lists) == [
        "--aliases: none of its 2 names is a tag of demo",
        "--implications: none of its 1 names is a tag of demo",
    ]
    assert lines(TagLists(aliases={"a": "b", "glasses": "d"})) == []


# How lists are typed

TYPED = {
    "quotes around a tag": ('"solo",smile', ("solo", "smile")),
    "quotes around the list": ("'solo, smile'", ("solo", "smile")),
    "typographic quotes": ("\u201csolo\u201d,\u2018smile\u2019", ("solo", "smile")),
    "full-width commas": ("1boy\uff0cglasses\u3001hat", ("1boy", "glasses", "hat")),
    "a literal comma": (r"a\,b,c", ("a,b", "c")),
    "a quote within a tag": ("5'2,rock'n'roll", ("5'2", "rock'n'roll")),
    "quotes around nothing": ('"",x', ("x",)),
}


@pytest.mark.parametrize(("text", "entries"), TYPED.values(), ids=TYPED.keys())
@pytest.mark.parametrize("split", [split_list, parse_exclusions])
def test_a_list_is_split_as_it_is_meant(split, text, entries):
    assert split(text) == entries


def test_a_regular_expression_keeps_its_commas_and_may_have_quotes():
    assert parse_exclusions('/a{1,2}/,"/c/"，/x，y/，b') == ("/a{1,2}/", "/c/", "/x，y/", "b")


@pytest.mark.parametrize("text", ["a,b;c,", "'a,b;c,'", '"a","b";"c",""', "a\uff0cb\uff1bc\uff0c"])
def test_replacements_may_have_quotes_and_full_width_separators(text):
    assert parse_replacements(text) == (("a", "b"), ("c", ""))
