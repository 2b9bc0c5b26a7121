"""The tags of several models together: by any, by more than half, or by the mean."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.rules.combine import Combine, CombinedLabels, CombinedSelector
from sdprep.rules.labels import LabelTable, TagRules, normalize_tag
from sdprep.rules.tags import TagSelector
from sdprep.rules.thresholds import Thresholds

NAMES = ("1girl", "long_hair", "Long Hair", "hat", "general", "aka_(sdprep)")
CATEGORIES = ("general", "character", "rating")
WAYS: tuple[Combine, ...] = ("union", "vote", "mean")


def table(*labels: str) -> LabelTable:
    pairs = [label.split(":") for label in labels]
    return LabelTable(tuple(name for name, _ in pairs), tuple(category for _, category in pairs))


def selector(tables: list[LabelTable], rules: list[TagRules], how: Combine, own: TagRules) -> CombinedSelector:
    labels = CombinedLabels(tables)
    thresholds = [Thresholds.by_rules(each, rule, {}) for each, rule in zip(tables, rules, strict=True)]
    return CombinedSelector(labels, thresholds, TagSelector(labels.table, own), how)


def chosen(tables: list[LabelTable], scores: list[list[float]], how: Combine, rules: TagRules) -> list[str]:
    given_scores = [list(enumerate(each)) for each in scores]
    return selector(tables, [rules] * len(tables), how, rules).select(given_scores)


A = table("general:rating", "explicit:rating", "1girl:general", "long_hair:general", "hat:general")
B = table("explicit:rating", "general:rating", "Long Hair:general", "1girl:general", "aka:character")
C = table("1girl:general", "hat:general")
SCORES = [[0.9, 0.1, 0.9, 0.4, 0.3], [0.6, 0.2, 0.2, 0.5, 0.6], [0.1, 0.6]]


@pytest.mark.parametrize(
    ("how", "tags"),
    [
        ("union", ["1girl", "hat", "aka", "long_hair"]),
        # Only one of three knows the character, and only one is sure of the hair and of the hat.
        ("vote", ["1girl"]),
        # Means of those that know the tag: 1girl 0.5, long hair 0.3, hat 0.45, aka 0.6.
        ("mean", ["aka", "1girl", "hat"]),
    ],
)
def test_three_models_give_the_tags_of_any_of_most_or_of_their_mean(how: Combine, tags: list[str]) -> None:
    assert chosen([A, B, C], SCORES, how, TagRules(threshold=0.35)) == tags


@pytest.mark.parametrize("how", WAYS)
def test_the_best_rating_is_that_of_the_mean_of_the_models_that_know_it(how: Combine) -> None:
    # The mean of general is 0.55, of explicit 0.35; a tag called "general" would be another.
    rules = TagRules(threshold=0.35, ratings="first")
    assert chosen([A, B, C], SCORES, how, rules)[0] == "general"


@pytest.mark.parametrize(("how", "tags"), [("union", ["hat"]), ("vote", []), ("mean", ["hat"])])
def test_models_with_thresholds_of_their_own_are_compared_with_those(how: Combine, tags: list[str]) -> None:
    tables = [table("hat:general"), table("hat:general")]
    rules = [TagRules(threshold=0.2), TagRules(threshold=0.8)]
    # 0.6 in the mean, where 0.5 is needed.
    found = selector(tables, rules, how, TagRules()).select([[(0, 0.7)], [(0, 0.5)]])
    assert found == tags


@pytest.mark.parametrize("how", WAYS)
def test_half_of_the_models_are_not_more_than_half(how: Combine) -> None:
    tables = [table("hat:general")] * 4
    found = chosen(tables, [[0.9], [0.9], [0.1], [0.1]], how, TagRules(threshold=0.5))
    assert found == ([] if how == "vote" else ["hat"])


def test_a_score_that_was_too_low_to_be_stored_counts_as_nothing_in_the_mean() -> None:
    tables = [table("hat:general"), table("hat:general")]
    assert selector(tables, [TagRules()] * 2, "mean", TagRules()).combined([[(0, 0.8)], []]) == [(0, 0.4)]


def test_the_gap_of_mcut_is_that_of_the_mean_scores() -> None:
    tables = [table("1girl:general", "hat:general", "solo:general")] * 2
    rules = TagRules(threshold="mcut")
    assert chosen(tables, [[0.9, 0.1, 0.05], [0.9, 0.9, 0.05]], "mean", rules) == ["1girl", "hat"]
    assert chosen(tables, [[0.9, 0.1, 0.05], [0.9, 0.9, 0.05]], "vote", rules) == ["1girl"]


LABELS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(CATEGORIES)), min_size=1, max_size=8, unique=True
).map(lambda pairs: LabelTable(tuple(name for name, _ in pairs), tuple(category for _, category in pairs)))
VALUES = st.floats(0, 1, width=16)
RULES = TagRules(threshold=0.35, ratings="last")


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[LabelTable], list[list[tuple[int, float]]]]:
    tables = draw(st.lists(LABELS, min_size=1, max_size=4))
    scores = [[(index, draw(VALUES)) for index in range(len(each.names)) if draw(st.booleans())] for each in tables]
    return tables, scores


def passing(found: list[str]) -> set[str]:
    return set(map(normalize_tag, found))


@given(answers(), st.sampled_from(WAYS))
def test_one_model_gives_what_it_gives_alone(given_answers: tuple, how: Combine) -> None:
    tables, scores = given_answers
    alone = TagSelector(tables[0], RULES).select(scores[0])
    together = selector(tables[:1], [RULES], how, RULES).select(scores[:1])
    # Two labels of one table that are the same tag have one place, that of the first.
    assert passing(together) == passing(alone)


@given(answers())
def test_a_vote_and_a_mean_pass_only_what_some_model_passes(given_answers: tuple) -> None:
    tables, scores = given_answers
    rules = TagRules(threshold=0.35)
    found = {how: passing(selector(tables, [rules] * len(tables), how, rules).select(scores)) for how in WAYS}
    alone = [passing(TagSelector(each, rules).select(own)) for each, own in zip(tables, scores, strict=True)]
    assert found["union"] == set().union(*alone)
    assert found["vote"] <= found["union"]
    assert found["mean"] <= found["union"]
    assert found["vote"] == {tag for tag in found["union"] if 2 * sum(tag in each for each in alone) > len(alone)}


@given(answers(), st.sampled_from(WAYS), st.randoms())
def test_the_order_of_the_models_changes_no_tag(given_answers: tuple, how: Combine, random: object) -> None:
    tables, scores = given_answers
    rules = TagRules(threshold=0.35)
    places = list(range(len(tables)))
    random.shuffle(places)  # type: ignore[attr-defined]
    moved = [tables[place] for place in places], [scores[place] for place in places]
    found = selector(tables, [rules] * len(tables), how, rules).select(scores)
    assert passing(found) == passing(selector(moved[0], [rules] * len(tables), how, rules).select(moved[1]))


@given(answers())
def test_a_combined_score_is_between_those_of_the_models(given_answers: tuple) -> None:
    tables, scores = given_answers
    for how in WAYS:
        combined = dict(selector(tables, [RULES] * len(tables), how, RULES).combined(scores))
        assert all(0 <= value <= 1 and math.isfinite(value) for value in combined.values())
    labels = CombinedLabels(tables)
    places = labels.placed(scores)
    highest = dict(selector(tables, [RULES] * len(tables), "union", RULES).combined(scores))
    for place, value in highest.items():
        if labels.table.categories[place] != "rating":
            assert value == max(found[place] for found in places if place in found)
