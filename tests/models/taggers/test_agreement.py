"""How two taggers are compared."""

import numpy as np
import pytest

from sdprep.models.taggers.agreement import agreement

ORIGINAL = np.array([[0.9, 0.8, 0.1], [0.4, 0.2, 0.6]], dtype=np.float32)


def changed(row, column, value):
    other = ORIGINAL.copy()
    other[row, column] = value
    return other


def test_equal_scores_agree_fully():
    found = agreement(ORIGINAL, ORIGINAL, 0.35)
    assert (found.kept, found.f1, found.mean_change, found.largest_change) == (1, 1, 0, 0)


def test_the_tags_of_the_original_are_counted():
    found = agreement(ORIGINAL, ORIGINAL, 0.35)
    assert (found.pictures, found.tags) == (2, 4)


def test_a_score_at_the_threshold_is_a_tag():
    assert agreement(np.float32([[0.5]]), np.float32([[0.5]]), 0.5).tags == 1


def test_a_lost_tag_lowers_what_is_kept_and_f1():
    found = agreement(ORIGINAL, changed(0, 0, 0.1), 0.35)
    assert (found.kept, found.f1) == (3 / 4, 2 * 3 / (4 + 3))


def test_a_new_tag_lowers_f1_alone():
    found = agreement(ORIGINAL, changed(1, 1, 0.9), 0.35)
    assert (found.kept, found.f1) == (1, 2 * 4 / (4 + 5))


def test_a_change_that_crosses_no_threshold_is_still_a_change():
    found = agreement(ORIGINAL, changed(0, 0, 0.6), 0.35)
    assert found.f1 == 1
    assert found.largest_change == pytest.approx(0.3)
    assert found.mean_change == pytest.approx(0.3 / 6)


def test_all_tags_lost_is_no_agreement():
    found = agreement(ORIGINAL, np.zeros_like(ORIGINAL), 0.35)
    assert (found.kept, found.f1) == (0, 0)


def test_tags_that_the_original_does_not_have_are_no_agreement():
    assert agreement(np.zeros_like(ORIGINAL), ORIGINAL, 0.35).f1 == 0


def test_nothing_agrees_with_nothing():
    found = agreement(np.zeros_like(ORIGINAL), np.zeros_like(ORIGINAL), 0.35)
    assert (found.tags, found.kept, found.f1) == (0, 1, 1)
