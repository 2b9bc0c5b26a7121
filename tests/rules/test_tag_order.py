"""Tags in the order and spelling that a person asks for; each fault of kohya's tagger has a test named after it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.errors import UsageError
from sdprep.rules.labels import LabelTable, TagRules
from sdprep.rules.tags import TagSelector, parse_replacements

LABELS = LabelTable(
    ("general", "1girl", "long_hair", "smile", "aka_(sdprep)", "kuro_(sdprep)", "(o)_(o)"),
    ("rating", "general", "general", "general", "character", "character", "general"),
)
SCORES = [(0, 0.9), (1, 0.95), (2, 0.9), (3, 0.8), (4, 0.7), (5, 0.6)]


def tags(scores: list[tuple[int, float]] = SCORES, **rules: object) -> list[str]:
    return TagSelector(LABELS, TagRules(**rules)).select(scores)  # type: ignore[arg-type]


def test_a_replacement_replaces_where_kohyas_does_nothing() -> None:
    assert tags(SCORES[:3], tag_replacement=(("1girl", "woman"),)) == ["woman", "long_hair"]


def test_a_replacement_leaves_other_tags_alone() -> None:
    assert tags(SCORES[1:4], tag_replacement=(("1girl", "a"), ("gone", "b"))) == ["a", "long_hair", "smile"]


@pytest.mark.parametrize("old", ["long hair", "Long_Hair"])
def test_a_replacement_finds_its_tag_in_any_spelling(old: str) -> None:
    assert tags([(2, 0.9)], tag_replacement=((old, "hair"),)) == ["hair"]


def test_a_replacement_by_nothing_drops_the_tag() -> None:
    assert tags(SCORES[:3], tag_replacement=(("1girl", ""),)) == ["long_hair"]


def test_two_tags_that_are_replaced_by_one_give_one() -> None:
    assert tags(SCORES[1:4], tag_replacement=(("1girl", "smile"),)) == ["smile", "long_hair"]


def test_what_a_replacement_made_can_be_undesired() -> None:
    assert tags([(1, 0.9)], tag_replacement=(("1girl", "woman"),), exclude=("woman",)) == []


def test_tags_that_come_first_keep_the_given_order_where_kohyas_are_reversed() -> None:
    assert tags(SCORES[:4], always_first_tags=("smile", "1girl")) == ["smile", "1girl", "long_hair"]


def test_tags_that_come_first_may_be_given_with_spaces_where_kohya_finds_none() -> None:
    assert tags(SCORES[:4], always_first_tags=("long hair",))[0] == "long_hair"


def test_a_tag_that_comes_first_is_not_written_unless_it_is_predicted() -> None:
    assert tags([(1, 0.9)], always_first_tags=("smile",)) == ["1girl"]


def test_a_tag_that_comes_first_stands_before_the_rating() -> None:
    assert tags(SCORES[:2], always_first_tags=("1girl",), ratings="first") == ["1girl", "general"]


def test_characters_come_first_in_their_order_where_kohyas_are_reversed() -> None:
    assert tags(character_tags_first=True)[:3] == ["aka_(sdprep)", "kuro_(sdprep)", "1girl"]


def test_an_expanded_character_is_two_tags_where_kohyas_is_one_string() -> None:
    assert tags([(4, 0.9)], character_tag_expand=True) == ["aka", "sdprep"]


def test_two_characters_of_a_series_name_it_once_where_kohya_repeats_it() -> None:
    assert tags([(4, 0.9), (5, 0.8)], character_tag_expand=True) == ["aka", "sdprep", "kuro"]


def test_an_expanded_character_has_no_stray_space_where_kohyas_has() -> None:
    assert tags([(4, 0.9)], character_tag_expand=True, remove_underscore=True) == ["aka", "sdprep"]


def test_parts_of_an_expanded_character_can_be_undesired_where_kohyas_cannot() -> None:
    assert tags([(4, 0.9)], character_tag_expand=True, exclude=("sdprep",)) == ["aka"]


def test_only_characters_are_expanded() -> None:
    assert tags([(6, 0.9)], character_tag_expand=True) == ["(o)_(o)"]


def test_tags_can_come_from_a_to_z() -> None:
    assert tags(SCORES[1:5], order="alphabetical") == ["1girl", "aka_(sdprep)", "long_hair", "smile"]


def test_the_most_certain_tags_are_left_of_too_many() -> None:
    assert tags(max_tags=2) == ["1girl", "long_hair"]


def test_a_rating_and_a_persons_own_tags_are_not_counted_among_the_most() -> None:
    kept = tags(max_tags=1, ratings="first", prefix=("a",), suffix=("z",))
    assert kept == ["a", "general", "1girl", "z"]


def test_the_rating_can_come_last() -> None:
    assert tags(SCORES[:2], ratings="last") == ["1girl", "general"]


def test_a_prefix_and_a_suffix_are_there_although_nothing_is_predicted() -> None:
    assert tags([], prefix=("trigger",), suffix=("style",)) == ["trigger", "style"]


def test_a_prefix_that_is_predicted_too_is_written_once() -> None:
    assert tags(SCORES[:3], prefix=("Long hair",)) == ["Long hair", "1girl"]


def test_parentheses_can_be_escaped() -> None:
    assert tags([(4, 0.9)], escape_parentheses=True) == [r"aka_\(sdprep\)"]


def test_parentheses_of_a_persons_own_tags_are_left_alone() -> None:
    assert tags([], prefix=("(trigger:1.2)",), escape_parentheses=True) == ["(trigger:1.2)"]


def test_a_persons_own_tags_are_written_once_where_they_stand_first() -> None:
    assert tags(SCORES[:2], prefix=("a", "A", "1girl"), suffix=("a", "z")) == ["a", "1girl", "z"]


def test_a_name_in_two_categories_is_moved_by_the_label_that_was_predicted() -> None:
    table = LabelTable(("solo", "hat", "solo"), ("general", "general", "character"))
    rules = TagRules(character_tags_first=True)
    assert TagSelector(table, rules).select([(0, 0.5), (1, 0.9)]) == ["hat", "solo"]


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("", ()),
        ("a,b", (("a", "b"),)),
        ("a,b;c,d;", (("a", "b"), ("c", "d"))),
        (" a , b ", (("a", "b"),)),
        ("a,", (("a", ""),)),
        (r"a\,b,c\;d", (("a,b", "c;d"),)),
    ],
)
def test_replacements_are_read_as_kohya_writes_them(text: str, pairs: tuple[tuple[str, str], ...]) -> None:
    assert parse_replacements(text) == pairs


@pytest.mark.parametrize("text", ["a", "a,b,c", ",b", "a;b,c"])
def test_a_replacement_that_is_no_pair_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="old,new"):
        parse_replacements(text)


@given(st.permutations(["1girl", "smile", "long hair"]), st.booleans())
def test_tags_that_come_first_are_in_the_given_order_whatever_else_is_asked(first: list[str], spaces: bool) -> None:
    kept = tags(always_first_tags=tuple(first), remove_underscore=spaces, character_tags_first=True)
    assert [tag.replace("_", " ") for tag in kept[:3]] == first


def test_a_wildcard_among_the_first_tags_moves_every_tag_it_matches_in_their_order() -> None:
    assert tags(always_first_tags=("*_(sdprep)", "smile"))[:3] == ["aka_(sdprep)", "kuro_(sdprep)", "smile"]


def test_a_tag_that_two_first_entries_match_is_where_the_earlier_one_is() -> None:
    assert tags(always_first_tags=("smile", "*"))[:2] == ["smile", "1girl"]


BOORU = LabelTable(
    ("masterpiece", "safe", "1girl", "smile", "aka_(series)", "series", "hisa", "highres", "wolf", "solo"),
    ("quality", "rating", "general", "general", "character", "copyright", "artist", "meta", "species", "general"),
)
ALL = [(index, 0.9 - index / 100) for index in range(len(BOORU.names))]


def ordered(**rules: object) -> list[str]:
    return TagSelector(BOORU, TagRules(order="category", **rules)).select(ALL)  # type: ignore[arg-type]


def test_by_category_people_come_first_and_quality_last() -> None:
    assert ordered(ratings="first", quality="first") == [
        "1girl", "solo", "aka_(series)", "series", "hisa", "smile", "wolf", "highres", "safe", "masterpiece"
    ]  # fmt: skip


def test_the_order_of_categories_is_a_list_of_the_users() -> None:
    order = ("quality", "meta", "artist", "people")
    assert ordered(quality="last", category_order=order) == [
        "masterpiece", "highres", "hisa", "1girl", "solo", "smile", "aka_(series)", "series", "wolf"
    ]  # fmt: skip


def test_within_a_category_the_most_probable_tag_comes_first() -> None:
    scores = [(2, 0.5), (3, 0.6), (8, 0.9), (9, 0.95)]
    assert TagSelector(BOORU, TagRules(order="category")).select(scores) == ["solo", "1girl", "wolf", "smile"]


def test_max_tags_keeps_the_most_probable_tags_of_all_categories() -> None:
    scores = [(3, 0.9), (7, 0.8), (2, 0.5)]
    assert TagSelector(BOORU, TagRules(order="category", max_tags=2)).select(scores) == ["smile", "highres"]


def test_an_artist_can_have_a_prefix() -> None:
    assert ordered(artist_prefix="@")[4] == "@hisa"
    assert "@hisa" not in ordered(artist_prefix="@", exclude=("hisa",))
