"""Tags by category: which tags count people, and that nothing but the order changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.rules.categories import category_in, category_of, order_by_category
from sdprep.rules.labels import CATEGORY_ORDER


@pytest.mark.parametrize("tag", ["1girl", "2boys", "6+girls", "1other", "solo", "no_humans", "Multiple Girls"])
def test_a_tag_that_counts_people_is_people(tag: str) -> None:
    assert category_of(tag, "general") == "people"


@pytest.mark.parametrize("tag", ["girl", "1girl_(series)", "solo_focus", "boyshort", "mother"])
def test_another_general_tag_is_general(tag: str) -> None:
    assert category_of(tag, "general") == "general"


def test_a_tag_of_another_category_stays_in_it() -> None:
    assert category_of("solo", "artist") == "artist"


PAIRS = st.lists(st.tuples(st.integers(), st.sampled_from([*CATEGORY_ORDER, "species"])))


@given(PAIRS, st.permutations(CATEGORY_ORDER).flatmap(lambda order: st.integers(0, 8).map(lambda end: order[:end])))
def test_ordering_keeps_every_tag_and_the_order_within_a_category(tags: list, order: list) -> None:
    result = order_by_category(tags, lambda tag: tag[1], order)
    assert sorted(result) == sorted(tags)
    for category in {category for _, category in tags}:
        assert [tag for tag in result if tag[1] == category] == [tag for tag in tags if tag[1] == category]
    assert order_by_category(result, lambda tag: tag[1], order) == result


KNOWN = {"hana": "character", "smile": "general", "masterpiece": "general", "@ @": "general"}


@pytest.mark.parametrize(
    ("tag", "category"),
    [("Hana", "character"), ("2girls", "people"), ("@hisa", "artist"), ("@_@", "general"), ("best_quality", "quality"),
     ("score_7_up", "quality"), ("masterpiece", "general"), ("my trigger", "general")],
)  # fmt: skip
def test_a_tag_in_a_text_has_the_category_that_taggers_know_or_that_its_form_shows(tag: str, category: str) -> None:
    assert category_in(tag, KNOWN) == category
