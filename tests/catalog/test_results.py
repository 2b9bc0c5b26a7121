"""Model results as bytes of the catalog."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sdprep.catalog.results import always_stored, decode_caption, decode_scores, encode_caption, encode_scores
from sdprep.rules.labels import STORED_FLOOR, LabelTable, TagRules
from sdprep.types import Caption, TagScores

COUNT = 12
LABELS = LabelTable(
    tuple(f"tag_{index}" for index in range(COUNT)),
    tuple("rating" if index in (0, 1, 7) else "general" for index in range(COUNT)),
)
SCORES = hnp.arrays(np.float32, COUNT, elements=st.floats(0, 1, width=32))


def stored(*values: float) -> dict[int, float]:
    scores = np.zeros(COUNT, dtype=np.float32)
    scores[: len(values)] = values
    return dict(decode_scores(encode_scores(TagScores(scores), always_stored(LABELS))))


@settings(deadline=None)
@given(SCORES)
def test_a_stored_score_differs_by_less_than_a_thousandth(scores: np.ndarray) -> None:
    for index, value in decode_scores(encode_scores(TagScores(scores), always_stored(LABELS))):
        assert abs(value - scores[index]) < 1e-3


@settings(deadline=None)
@given(SCORES)
def test_every_score_from_the_floor_up_is_stored(scores: np.ndarray) -> None:
    indices = {index for index, _ in decode_scores(encode_scores(TagScores(scores), always_stored(LABELS)))}
    assert set(np.flatnonzero(scores >= STORED_FLOOR).tolist()) <= indices


@settings(deadline=None)
@given(SCORES)
def test_ratings_are_always_stored(scores: np.ndarray) -> None:
    indices = {index for index, _ in decode_scores(encode_scores(TagScores(scores), always_stored(LABELS)))}
    assert {0, 1, 7} <= indices


@settings(deadline=None)
@given(SCORES)
def test_scores_come_back_in_label_order(scores: np.ndarray) -> None:
    indices = [index for index, _ in decode_scores(encode_scores(TagScores(scores), always_stored(LABELS)))]
    assert indices == sorted(set(indices))


def test_a_score_below_the_floor_is_not_stored() -> None:
    assert 3 not in stored(0, 0, 0, 0.0099)


def test_a_score_at_the_floor_is_still_at_the_floor_when_it_comes_back() -> None:
    assert stored(0, 0, 0, 0.01)[3] >= STORED_FLOOR


def test_a_score_at_the_default_threshold_still_reaches_it_when_it_comes_back() -> None:
    assert stored(0, 0, 0, 0.35)[3] >= TagRules().threshold


def test_a_large_label_table_keeps_its_indices() -> None:
    labels = LabelTable(("t",) * 70_001, ("general",) * 70_001)
    scores = np.zeros(70_001, dtype=np.float32)
    scores[70_000] = 0.5
    assert decode_scores(encode_scores(TagScores(scores), always_stored(labels))) == [(70_000, 0.5)]


def test_nothing_to_store_is_nothing() -> None:
    labels = LabelTable(("a",), ("general",))
    assert decode_scores(encode_scores(TagScores(np.zeros(1, dtype=np.float32)), always_stored(labels))) == []


def test_the_scores_themselves_are_not_changed() -> None:
    scores = np.full(COUNT, 0.001, dtype=np.float32)
    encode_scores(TagScores(scores), always_stored(LABELS))
    assert (scores == np.float32(0.001)).all()


def test_a_stored_score_takes_six_bytes() -> None:
    assert len(encode_scores(TagScores(np.full(COUNT, 0.5, dtype=np.float32)), always_stored(LABELS))) == 6 * COUNT


@settings(deadline=None)
@given(st.builds(Caption, st.text(), st.integers(0, 512), st.sampled_from(["stop", "length"]), st.floats(-50, 0)))
def test_a_caption_comes_back_as_it_was(caption: Caption) -> None:
    assert decode_caption(encode_caption(caption)) == caption
