"""The comparison of one row's scores, alone and in a batch."""

import math

import pytest
import torch

from sdprep.errors import ModelError
from sdprep.models.captioners.chat.batching import BatchCheck


def compare(alone, together):
    BatchCheck("tiny", torch.float32).compare(torch.tensor(alone), torch.tensor(together))


def test_scores_that_agree_pass_and_so_do_words_that_are_ruled_out_in_both():
    compare([-1.0, -2.0, -math.inf, math.nan], [-1.0, -2.000001, -math.inf, math.nan])


@pytest.mark.parametrize("other", [math.nan, -math.inf, -3.0])
def test_a_score_that_only_the_batch_has_is_a_difference(other):
    with pytest.raises(ModelError, match="answers differently if another image is in the batch"):
        compare([-1.0, -2.0], [-1.0, other])
