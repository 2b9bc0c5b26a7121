"""Which labels an image is given."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.rules.labels import LabelTable, TagRules
from sdprep.rules.tag_lists import TagLists
from sdprep.rules.tags import TagSelector
from sdprep.rules.thresholds import mcut_threshold

LABELS = LabelTable(
    ("safe", "1girl", "smile", "hat", "aka", "kuro", "some_series", "wolf", "masterpiece", "bad"),
    ("rating", *["general"] * 3, *["character"] * 2, "copyright", "species", *["quality"] * 2),
)
SCORES = [(0, 0.9), (1, 0.9), (2, 0.8), (3, 0.3), (4, 0.6), (5, 0.1), (6, 0.5), (7, 0.4), (8, 0.2), (9, 0.7)]


def tags(scores: list[tuple[int, float]] = SCORES, **rules: object) -> list[str]:
    knowledge = TagLists(thresholds=rules.pop("single", {}))  # type: ignore[arg-type]
    return TagSelector(LABELS, TagRules(order="csv", **rules), knowledge).select(scores)  # type: ignore[arg-type]


@pytest.mark.parametrize("category", ["general", "character", "copyright"])
def test_a_threshold_of_a_category_moves_that_category_only(category: str) -> None:
    names = {name for name, own in zip(LABELS.names, LABELS.categories, strict=True) if own == category}
    assert set(tags()) - set(tags(**{f"{category}_threshold": 1.1})) == names & set(tags())


def test_a_category_without_an_option_of_its_own_has_a_threshold_by_name() -> None:
    assert set(tags()) - set(tags(category_threshold=(("species", 0.5),))) == {"wolf"}


def test_a_threshold_of_a_single_tag_wins_over_that_of_its_category() -> None:
    assert tags(general_threshold=0.85, single={"hat": 0.2}) == ["1girl", "hat", "aka", "some_series", "wolf"]


def test_a_threshold_of_a_single_tag_can_shut_it_out() -> None:
    assert "1girl" not in tags(single={"1girl": 0.95})


def test_the_widest_gap_is_cut_for_every_image_anew() -> None:
    assert tags(threshold="mcut") == ["1girl", "smile", "aka", "some_series", "wolf"]
    assert tags([(1, 0.3), (2, 0.05), (3, 0.04)], threshold="mcut") == ["1girl"]


def test_the_gap_of_characters_is_not_that_of_general_tags() -> None:
    assert tags([(1, 0.9), (2, 0.85), (4, 0.4), (5, 0.3)], threshold="mcut") == ["1girl", "smile", "aka", "kuro"]


def test_no_gap_makes_a_character_of_next_to_nothing() -> None:
    assert tags([(1, 0.9), (4, 0.12)], threshold="mcut") == ["1girl"]


def test_a_threshold_that_is_given_wins_over_the_gap() -> None:
    assert tags(threshold="mcut", general_threshold=0.2) == ["1girl", "smile", "hat", "aka", "some_series", "wolf"]


def test_no_gap_is_looked_for_where_nothing_was_found() -> None:
    assert tags([], threshold="mcut") == []


def test_a_quality_is_no_tag_unless_it_is_asked_for() -> None:
    assert "bad" not in tags(threshold=0.1)


@pytest.mark.parametrize(("place", "at"), [("first", 0), ("last", -1)])
def test_the_best_quality_stands_where_it_is_wanted(place: str, at: int) -> None:
    assert tags(quality=place)[at] == "bad"


@pytest.mark.parametrize(("place", "outer"), [("first", ["safe", "bad"]), ("last", ["bad", "safe"])])
def test_the_rating_stands_outside_of_the_quality(place: str, outer: list[str]) -> None:
    found = tags(ratings=place, quality=place)
    assert (found[:2] if place == "first" else found[-2:]) == outer


@given(st.lists(st.floats(0.01, 1), min_size=1))
def test_the_widest_gap_lies_below_the_highest_score(scores: list[float]) -> None:
    assert 0 <= mcut_threshold(scores) < max(scores)


@given(st.lists(st.floats(0.01, 1), min_size=1))
def test_no_score_lies_inside_the_widest_gap(scores: list[float]) -> None:
    above = min(score for score in scores if score > mcut_threshold(scores))
    below = max([0.0, *(score for score in scores if score <= mcut_threshold(scores))])
    falling = sorted([*scores, 0.0], reverse=True)
    assert above - below == max(upper - lower for upper, lower in pairwise(falling))


FLAT = {
    "scores that fall evenly": ([(1, 0.12), (2, 0.09), (3, 0.05)], True),
    "equal scores of all labels": ([(1, 0.5), (2, 0.5), (3, 0.5)], True),
    "equal scores of all labels of one category": ([(1, 0.9), (4, 0.5), (5, 0.5)], True),
    "a gap": ([(1, 0.9), (2, 0.8), (3, 0.3)], False),
    "high scores beside labels that are not stored": ([(1, 0.9), (2, 0.88)], False),
    "no scores": ([], False),
}


@pytest.mark.parametrize(("scores", "is_flat"), FLAT.values(), ids=FLAT.keys())
def test_scores_without_a_gap_are_noticed(scores: list[tuple[int, float]], is_flat: bool) -> None:
    assert TagSelector(LABELS, TagRules(threshold="mcut")).lacks_gap(scores) is is_flat
    assert not TagSelector(LABELS, TagRules()).lacks_gap(scores)
