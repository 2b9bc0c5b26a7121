"""How far the scores of a smaller model agree with those of the model that it was made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sdprep.types import Scores


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement over some images: `tags` that the original gives them, the share of these that is `kept`.

    `f1` is the harmonic mean of `kept` and of the share of the other model's tags that the original gives too;
    the changes are those of single probabilities, 0 to 1.
    """

    # Names of keys of `--json`, which programs may read.
    pictures: int
    tags: int
    kept: float
    f1: float
    mean_change: float
    largest_change: float


def agreement(original: Scores, other: Scores, threshold: float) -> Agreement:
    """Compare two arrays of probabilities, float32[images, labels], finite. Nothing agrees with nothing fully."""
    wanted, given = original >= threshold, other >= threshold
    both, tags, all_given = (int(each.sum()) for each in (wanted & given, wanted, given))
    change = np.abs(original - other)
    return Agreement(
        pictures=len(original),
        tags=tags,
        kept=both / tags if tags else 1.0,
        f1=2 * both / (tags + all_given) if tags + all_given else 1.0,
        mean_change=float(change.mean()),
        largest_change=float(change.max()),
    )
