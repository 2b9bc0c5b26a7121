"""From tag scores to the tags of a sidecar."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.rules.labels import KAOMOJI, LabelTable, TagRules, format_tag, merge_spellings, normalize_tag
from sdprep.rules.tags import TagSelector, split_tags

LABELS = LabelTable(
    ("general", "explicit", "1girl", "long_hair", "^_^", "smile", "aka_(sdprep)"),
    ("rating", "rating", "general", "general", "general", "general", "character"),
)
SCORES = [(0, 0.2), (1, 0.1), (2, 0.9), (3, 0.6), (4, 0.7), (5, 0.3), (6, 0.8)]


def select_tags(scores: list[tuple[int, float]], labels: LabelTable, rules: TagRules) -> list[str]:
    return TagSelector(labels, rules).select(scores)


def tags(scores: list[tuple[int, float]] = SCORES, **rules: object) -> list[str]:
    return select_tags(scores, LABELS, TagRules(**rules))  # type: ignore[arg-type]


def test_tags_come_most_certain_first() -> None:
    assert tags() == ["1girl", "aka_(sdprep)", "^_^", "long_hair"]


def test_tags_can_come_in_the_order_of_the_label_file() -> None:
    assert tags(order="csv") == ["1girl", "long_hair", "^_^", "aka_(sdprep)"]


def test_scores_in_any_order_give_the_same_tags() -> None:
    assert tags(SCORES[::-1]) == tags(SCORES)


def test_ties_keep_the_order_of_the_labels() -> None:
    assert tags([(5, 0.5), (3, 0.5), (2, 0.5)]) == ["1girl", "long_hair", "smile"]


def test_a_tag_at_its_threshold_is_written() -> None:
    assert tags([(2, 0.35)], threshold=0.35) == ["1girl"]


def test_a_tag_just_below_its_threshold_is_not_written() -> None:
    assert tags([(2, 0.3499)], threshold=0.35) == []


def test_a_threshold_for_characters_leaves_general_tags_alone() -> None:
    assert tags(character_threshold=0.85) == ["1girl", "^_^", "long_hair"]


def test_a_threshold_for_general_tags_leaves_characters_alone() -> None:
    assert tags(general_threshold=0.95) == ["aka_(sdprep)"]


def test_a_threshold_above_one_writes_no_tag() -> None:
    assert tags(threshold=1.1) == []


def test_a_rating_is_no_tag_unless_it_is_asked_for() -> None:
    assert "general" not in tags(threshold=0.1)


def test_the_best_rating_comes_first_whatever_its_probability() -> None:
    assert tags(ratings="first", threshold=0.85) == ["general", "1girl"]


def test_of_equal_ratings_the_first_label_is_taken() -> None:
    assert tags([(0, 0.5), (1, 0.5)], ratings="first") == ["general"]


def test_no_rating_is_made_up_for_a_table_without_ratings() -> None:
    assert select_tags([(0, 0.9)], LabelTable(("smile",), ("general",)), TagRules(ratings="first")) == ["smile"]


def test_an_undesired_rating_is_not_written() -> None:
    assert tags(ratings="first", exclude=("general",), threshold=0.85) == ["1girl"]


@pytest.mark.parametrize("unwanted", ["long_hair", "long hair", "Long Hair", " LONG_hair "])
@pytest.mark.parametrize("spaces", [False, True])
def test_an_undesired_tag_is_left_out_in_every_spelling(unwanted: str, spaces: bool) -> None:
    assert "long hair" not in [normalize_tag(tag) for tag in tags(exclude=(unwanted,), remove_underscore=spaces)]


def test_two_labels_with_one_spelling_give_one_tag() -> None:
    table = LabelTable(("long_hair", "long hair"), ("general", "general"))
    assert select_tags([(0, 0.9), (1, 0.8)], table, TagRules(remove_underscore=True)) == ["long hair"]


def test_underscores_stay_by_default() -> None:
    assert format_tag("long_hair", remove_underscore=False) == "long_hair"


def test_underscores_become_spaces_where_that_is_asked_for() -> None:
    assert format_tag("aka_(sdprep)", remove_underscore=True) == "aka (sdprep)"


def test_a_short_tag_that_is_no_emoticon_loses_its_underscore_too() -> None:
    assert format_tag("a_b", remove_underscore=True) == "a b"


@pytest.mark.parametrize("face", sorted(KAOMOJI))
def test_an_emoticon_never_loses_its_underscore(face: str) -> None:
    assert format_tag(face, remove_underscore=True) == face


def test_the_nineteen_emoticons_of_the_tag_list_are_protected() -> None:
    faces = r"0_0 (o)_(o) +_+ +_- ._. <o>_<o> <|>_<|> =_= >_< 3_3 6_9 >_o @_@ ^_^ o_o u_u x_x |_| ||_||"
    assert set(faces.split()) == KAOMOJI


@pytest.mark.parametrize(
    ("text", "separator", "expected"),
    [
        ("a, b,c ,, d", ", ", ["a", "b", "c", "d"]),
        ("a, b", ",", ["a", "b"]),
        ("a b  c", " ", ["a", "b", "c"]),
        ("one\n\ntwo\n", "\n", ["one", "two"]),
        ("a | b", " | ", ["a", "b"]),
        ("", ", ", []),
        (" , ", ", ", []),
    ],
)
def test_a_line_is_split_at_the_core_of_its_separator(text: str, separator: str, expected: list[str]) -> None:
    assert split_tags(text, separator) == expected


NAMES = st.sampled_from([*sorted(KAOMOJI), *"1girl 1boy Solo long_hair x_(y) a_b_c smile tank_top 2girls".split()])
CATEGORIES = st.sampled_from(["general", "character", "rating"])
PROBABILITIES = st.floats(0, 1) | st.sampled_from([0.2, 0.35, 0.5])


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[tuple[int, float]], LabelTable, TagRules]:
    """Scores over part of a label table, the table, and rules."""
    names = draw(st.lists(NAMES, unique=True, min_size=1, max_size=12))
    table = LabelTable(tuple(names), tuple(draw(CATEGORIES) for _ in names))
    indices = draw(st.permutations(range(len(names))))[: draw(st.integers(0, len(names)))]
    rules = TagRules(
        threshold=draw(PROBABILITIES),
        general_threshold=draw(st.none() | PROBABILITIES),
        character_threshold=draw(st.none() | PROBABILITIES),
        remove_underscore=draw(st.booleans()),
        exclude=tuple(draw(st.lists(st.sampled_from(names) | NAMES, max_size=3))),
        ratings=draw(st.sampled_from(["none", "first"])),
        order=draw(st.sampled_from(["confidence", "csv"])),
    )
    return [(index, draw(PROBABILITIES)) for index in indices], table, rules


def threshold_of(category: str, rules: TagRules) -> float:
    threshold = rules.threshold_of(category)
    assert threshold is not None
    return threshold


def hyphenate(index: int, table: LabelTable, rules: TagRules) -> str:
    return format_tag(table.names[index], remove_underscore=rules.remove_underscore)


def written(scores: list[tuple[int, float]], table: LabelTable, rules: TagRules) -> list[tuple[int, float]]:
    """The (label, score) pairs behind the tags that are written, ratings left out; spellings here are unique."""
    pairs = [(index, score) for index, score in scores if table.categories[index] != "rating"]
    behind = {hyphenate(index, table, rules): (index, score) for index, score in pairs}
    return [behind[tag] for tag in select_tags(scores, table, rules) if tag in behind]


@given(cases())
def test_every_written_tag_reached_the_threshold_of_its_category(case: tuple) -> None:
    _, table, rules = case
    assert all(score >= threshold_of(table.categories[index], rules) for index, score in written(*case))


@given(cases())
def test_every_tag_that_reached_its_threshold_is_written_or_undesired(case: tuple) -> None:
    scores, table, rules = case
    select = {
        hyphenate(index, table, rules)
        for index, score in scores
        if table.categories[index] != "rating" and score >= threshold_of(table.categories[index], rules)
    }
    unwanted = {normalize_tag(tag) for tag in rules.exclude}
    assert {tag for tag in select if normalize_tag(tag) not in unwanted} <= set(select_tags(*case))


@given(cases())
def test_confidence_never_rises_along_the_line(case: tuple) -> None:
    scores, table, rules = case
    pairs = written(scores, table, TagRules(threshold=rules.threshold, exclude=rules.exclude))
    assert [score for _, score in pairs] == sorted((score for _, score in pairs), reverse=True)


@given(cases())
def test_label_order_is_preserved_along_the_line(case: tuple) -> None:
    scores, table, rules = case
    pairs = written(scores, table, TagRules(threshold=rules.threshold, order="csv"))
    assert pairs == sorted(pairs)


@given(cases())
def test_no_emoticon_is_written_without_its_underscore(case: tuple) -> None:
    broken = {face.replace("_", " ") for face in KAOMOJI}
    assert broken.isdisjoint(select_tags(*case))


@given(cases(), st.sampled_from([str.upper, str.lower, str.title, lambda tag: tag.replace("_", " ")]))
def test_no_undesired_tag_is_written_in_any_spelling(case: tuple, respell: object) -> None:
    scores, table, rules = case
    unwanted = tuple(respell(name) for name in table.names[::2])  # type: ignore[operator]
    rules = replace(rules, threshold=0.0, exclude=unwanted)
    assert {normalize_tag(name) for name in unwanted}.isdisjoint(
        normalize_tag(tag) for tag in select_tags(scores, table, rules)
    )


@given(cases())
def test_at_most_one_rating_is_written_and_it_leads(case: tuple) -> None:
    _, table, rules = case
    indices = [index for index, category in enumerate(table.categories) if category == "rating"]
    ratings = {hyphenate(index, table, rules) for index in indices}
    assert ratings.isdisjoint(select_tags(*case)[1:])


@given(cases())
def test_no_tag_is_written_twice(case: tuple) -> None:
    found = select_tags(*case)
    assert len(found) == len(set(found))


@pytest.mark.parametrize("replacement", [r"x \(y\)", "x (y)", r"x \(y)"])
def test_escaping_parentheses_escapes_nothing_twice(replacement: str) -> None:
    table = LabelTable(("x_(y)",), ("general",))
    rules = TagRules(escape_parentheses=True, tag_replacement=(("x_(y)", replacement),), suffix=(r"a \(b\)",))
    assert select_tags([(0, 0.9)], table, rules) == [r"x \(y\)", r"a \(b\)"]


@pytest.mark.parametrize("spelling", ["x_(y)", r"x_\(y\)", r"X \\(Y\\)", "x (y)"])
def test_tags_are_the_same_whatever_their_underscores_escapes_and_case(spelling: str) -> None:
    assert normalize_tag(spelling) == "x (y)"


def test_frequencies_of_one_tag_in_several_spellings_are_one() -> None:
    assert merge_spellings({"Long Hair": 1, "long_hair": 3, "solo": 2}) == {"long_hair": 4, "solo": 2}
