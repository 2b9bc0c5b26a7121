"""Lists about tags: aliases, implications, thresholds of single tags."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.errors import UsageError
from sdprep.rules.labels import LabelTable, TagRules
from sdprep.rules.tag_lists import (
    TagLists,
    parse_pairs,
    parse_thresholds,
    resolve_aliases,
    resolve_implications,
)
from sdprep.rules.tags import TagSelector

LABELS = LabelTable(
    ("1girl", "shirt", "white_shirt", "thighhighs", "hatsune_miku", "vocaloid"),
    ("general", "general", "general", "general", "character", "copyright"),
)
ALL = [(index, 0.9 - index / 10) for index in range(len(LABELS.names))]
IMPLIED = resolve_implications(
    [("white_shirt", "shirt"), ("shirt", "clothes"), ("hatsune miku", "vocaloid")], aliases={}
)


def tags(*indices: int, **rules: object) -> list[str]:
    knowledge = TagLists(rules.pop("aliases", {}), rules.pop("implications", {}))  # type: ignore[arg-type]
    chosen = [ALL[index] for index in indices] or ALL[:3]
    return TagSelector(LABELS, TagRules(threshold=0.1, **rules), knowledge).select(chosen)  # type: ignore[arg-type]


# Aliases


def test_an_alias_is_written_by_its_canonical_name() -> None:
    assert tags(3, aliases={"thighhighs": "thigh_highs"}) == ["thigh_highs"]


def test_a_canonical_name_is_spelt_as_the_model_spells_it() -> None:
    assert tags(0, aliases={"1girl": "White Shirt"}) == ["white_shirt"]


def test_a_canonical_name_loses_its_underscores_with_all_others() -> None:
    assert tags(3, aliases={"thighhighs": "thigh_highs"}, remove_underscore=True) == ["thigh highs"]


def test_an_alias_and_its_canonical_name_are_one_tag_at_the_better_place() -> None:
    assert tags(0, 1, 2, aliases={"1girl": "white_shirt"}) == ["white_shirt", "shirt"]


def test_a_canonical_name_is_what_replacements_and_exclusions_see() -> None:
    assert tags(0, 3, aliases={"thighhighs": "socks"}, exclude=("socks",)) == ["1girl"]


# Implications


def test_a_tag_that_another_implies_is_left_out() -> None:
    assert tags(implications=IMPLIED) == ["1girl", "white_shirt"]


def test_a_tag_that_no_written_tag_implies_stays() -> None:
    assert tags(0, 1, implications=IMPLIED) == ["1girl", "shirt"]


def test_an_excluded_tag_implies_nothing() -> None:
    assert tags(implications=IMPLIED, exclude=("white shirt",)) == ["1girl", "shirt"]


def test_what_is_implied_can_be_added_behind_the_tag() -> None:
    assert tags(0, 2, implications=IMPLIED, implied="add") == ["1girl", "white_shirt", "shirt", "clothes"]


def test_what_is_implied_and_predicted_stands_once_where_it_was_predicted() -> None:
    assert tags(0, 1, 2, implications=IMPLIED, implied="add") == ["1girl", "shirt", "clothes", "white_shirt"]


def test_an_added_tag_has_the_category_that_the_model_gives_it() -> None:
    found = tags(0, 4, implications=IMPLIED, implied="add", character_tags_first=True)
    assert found == ["hatsune_miku", "1girl", "vocaloid"]


def test_an_added_tag_can_be_excluded() -> None:
    assert tags(2, implications=IMPLIED, implied="add", exclude=("clothes",)) == ["white_shirt", "shirt"]


def test_implications_hold_under_canonical_names() -> None:
    implied = resolve_implications([("blouse", "top")], aliases={"blouse": "shirt", "top": "clothes"})
    assert implied == {"shirt": ("clothes",)}


def test_a_tag_that_is_cut_off_itself_implies_nothing() -> None:
    assert tags(0, 1, 2, implications=IMPLIED, max_tags=2) == ["1girl", "shirt"]


def test_what_is_implied_makes_place_for_the_next() -> None:
    assert tags(0, 1, 2, 3, implications=IMPLIED, max_tags=3) == ["1girl", "white_shirt", "thighhighs"]


def test_what_two_tags_were_replaced_by_stays_while_one_of_them_is_not_implied() -> None:
    both = (("shirt", "top"), ("1girl", "top"))
    assert tags(0, 1, 2, implications=IMPLIED, tag_replacement=both) == ["top", "white_shirt"]


# Files


@pytest.mark.parametrize(
    "text",
    [
        "a b,c\n\nd,e\n",
        "antecedent,consequent\na b,c\nd,e\n",
        "\ufeffid,antecedent_name,consequent_name,status\r\n1,a b,c,active\r\n2,d,e,Active\r\n3,x,y,deleted\r\n",
        "consequent,antecedent\nc,a b\ne,d\n",
    ],
)
def test_pairs_are_read_with_and_without_a_heading(text: str) -> None:
    assert parse_pairs(text) == [("a b", "c"), ("d", "e")]


def test_a_tag_with_a_comma_is_quoted() -> None:
    assert parse_pairs('"a,b",c\n') == [("a,b", "c")]


@pytest.mark.parametrize("row", ["a", "a,", ",b", "a,b,c"])
def test_half_a_pair_is_refused_with_its_line(row: str) -> None:
    with pytest.raises(UsageError, match="line 2: expected antecedent,consequent"):
        parse_pairs(f"a,b\n{row}\n")


def test_a_long_line_that_is_refused_is_quoted_in_part() -> None:
    for parse, line in ((parse_pairs, "x," * 5_000), (parse_thresholds, "x," * 5_000)):
        with pytest.raises(UsageError, match="line 1: expected") as raised:
            parse(line + "\n")
        assert len(str(raised.value)) < 300


def test_an_open_quote_is_refused() -> None:
    with pytest.raises(UsageError, match="not a CSV file"):
        parse_pairs('"a,b')


@pytest.mark.parametrize("text", ["long_hair,0.5\n", "tag,threshold\nLong Hair,0.5\n"])
def test_thresholds_are_read_with_and_without_a_heading(text: str) -> None:
    assert parse_thresholds(text) == {"long hair": 0.5}


@pytest.mark.parametrize("row", ["a", "a,x", "a,1,2", "tag,threshold"])
def test_a_row_without_a_threshold_is_refused_with_its_line(row: str) -> None:
    with pytest.raises(UsageError, match="line 2: expected tag,threshold"):
        parse_thresholds(f"a,0.5\n{row}\n")


@pytest.mark.parametrize("value", ["35", "-0.1", "0.005", "nan"])
def test_a_threshold_that_is_no_probability_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match="line 1: a threshold is a probability"):
        parse_thresholds(f"a,{value}")


def test_chains_of_aliases_are_followed_to_their_end() -> None:
    assert resolve_aliases([("a", "b"), ("b", "c")]) == {"a": "c", "b": "c"}


@pytest.mark.parametrize("pairs", [[("a", "b"), ("b", "a")], [("a", "b"), ("b", "c"), ("c", "B")]])
def test_a_circle_of_aliases_is_refused(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(UsageError, match="alias of itself"):
        resolve_aliases(pairs)


def test_an_alias_of_two_names_is_refused() -> None:
    with pytest.raises(UsageError, match="'A' is an alias of both 'b' and 'c'"):
        resolve_aliases([("a", "b"), ("a", "B"), ("A", "c")])


def test_a_tag_that_stands_for_itself_says_nothing() -> None:
    assert (resolve_aliases([("a", "A")]), resolve_implications([("a", "A")], aliases={})) == ({}, {})


def test_a_circle_of_implications_is_refused() -> None:
    with pytest.raises(UsageError, match="implies itself"):
        resolve_implications([("a", "b"), ("b", "a")], aliases={})


PAIRS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("abcdefgh")), max_size=12)


@given(PAIRS)
def test_a_canonical_name_is_nobodys_alias(pairs: list[tuple[str, str]]) -> None:
    try:
        resolved = resolve_aliases(pairs)
    except UsageError:
        return
    assert not set(resolved.values()) & set(resolved)


@given(PAIRS)
def test_what_is_implied_by_what_is_implied_is_implied(pairs: list[tuple[str, str]]) -> None:
    try:
        implied = resolve_implications(pairs, aliases={})
    except UsageError:
        return
    for names in implied.values():
        assert all(set(implied.get(name, ())) <= set(names) for name in names)


@given(st.text())
def test_any_text_is_either_read_or_refused(text: str) -> None:
    for parse in (parse_pairs, parse_thresholds):
        try:
            parse(text)
        except UsageError:
            continue


# The cost of a list grows with its size only


def test_a_long_chain_of_aliases_leads_to_its_end() -> None:
    chain = [(f"a{place}", f"a{place + 1}") for place in range(100_000)]
    assert set(resolve_aliases(chain).values()) == {"a100000"}


def test_a_chain_of_aliases_may_begin_in_the_middle() -> None:
    assert resolve_aliases([("b", "c"), ("a", "b"), ("c", "d")]) == {"a": "d", "b": "d", "c": "d"}


@pytest.mark.parametrize(
    "pairs",
    [
        [(f"a{place}", f"a{place + 1}") for place in range(100_000)],
        [(f"a{place}", f"a{later}") for place in range(300) for later in range(place + 1, 300)],
        [(f"a{place}", "hub") for place in range(5_000)] + [("hub", f"b{place}") for place in range(5_000)],
    ],
    ids=["a chain", "all to all", "a hub"],
)
def test_implications_whose_number_outgrows_their_list_are_refused(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(UsageError, match="too long to follow"):
        resolve_implications(pairs, {})


def test_a_short_list_may_have_a_chain_of_any_form() -> None:
    pairs = [(f"a{place}", f"a{place + 1}") for place in range(100)]
    assert len(resolve_implications(pairs, {})["a0"]) == 100


# What stands in a list is written into sidecars


def test_characters_that_nobody_sees_are_taken_out_of_a_list() -> None:
    assert parse_pairs("a\u202eb,c\x1b[31m\u200b\n") == [("ab", "c[31m")]


def test_a_name_without_end_is_refused_with_its_line() -> None:
    with pytest.raises(UsageError, match="line 2: a name has more than 1000 characters"):
        parse_pairs("a,b\nc," + "d" * 1001)
