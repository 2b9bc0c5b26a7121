"""Which labels an image gets: by fixed thresholds, thresholds of single tags, or the widest gap between scores."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

from sdprep.rules.labels import ARGMAX_CATEGORIES, LabelTable, TagRules, normalize_tag

# With MCut only general tags may have any score: without this floor an image without a known character would get the
# likeliest one. The value is that of the Waifu Diffusion taggers' own demo.
GAP_FLOOR = 0.15
# A difference of scores below this is no gap between tags that fit and others.
NARROWEST_GAP = 0.05


class Thresholds:
    """The thresholds of all labels of a table, None where one depends on the image."""

    def __init__(self, labels: LabelTable, values: Sequence[float | None]) -> None:
        self._categories, self.values = labels.categories, values
        fixed = [threshold for threshold in values if threshold is not None]
        # None if some depend on the image. Usually none does, and images have hundreds of scores.
        self._fixed = fixed if len(fixed) == len(values) else None

    @classmethod
    def by_rules(cls, labels: LabelTable, rules: TagRules, tag_thresholds: Mapping[str, float]) -> Thresholds:
        """The thresholds by some rules.

        The threshold of a single tag, from `tag_thresholds` (by normalized name), overrides that of its category, which
        overrides the general one.
        """
        by_category = {category: rules.threshold_of(category) for category in set(labels.categories)}
        # Infinity is never reached: the best rating and quality are taken elsewhere.
        values = [
            math.inf
            if category in ARGMAX_CATEGORIES
            else tag_thresholds.get(normalize_tag(name), by_category[category])
            for name, category in zip(labels.names, labels.categories, strict=True)
        ]
        return cls(labels, values)

    def select(self, scores: Iterable[tuple[int, float]]) -> list[tuple[int, float]]:
        """The (label index, score) pairs at or above their thresholds, without ratings and qualities."""
        if self._fixed is not None:
            fixed = self._fixed
            return [pair for pair in scores if pair[1] >= fixed[pair[0]]]
        tags = list(scores)
        without = {self._categories[index] for index, _ in tags if self.values[index] is None}
        gaps = {category: self._gap(tags, category) for category in without}
        return [(index, score) for index, score in tags if score >= self._of(index, gaps)]

    def lacks_gap(self, scores: Iterable[tuple[int, float]]) -> bool:
        """Whether the scores of a category whose threshold depends on the image are flat, so that it separates none."""
        by_category: dict[str, list[float]] = {}
        for index, score in scores:
            if self.values[index] is None:
                by_category.setdefault(self._categories[index], []).append(score)
        return any(self._is_flat(category, found) for category, found in by_category.items())

    def _is_flat(self, category: str, found: list[float]) -> bool:
        """Whether all labels of a category are above its gap, or no gap between its general tags is wide."""
        if len(found) == self._categories.count(category) > 1 and min(found) >= mcut_threshold(found):
            return True
        widest = max(upper - lower for lower, upper in itertools.pairwise([0.0, *sorted(found)]))
        return category == "general" and widest < NARROWEST_GAP

    def _gap(self, tags: Iterable[tuple[int, float]], category: str) -> float:
        gap = mcut_threshold([score for index, score in tags if self._categories[index] == category])
        return gap if category == "general" else max(gap, GAP_FLOOR)

    def _of(self, index: int, gaps: Mapping[str, float]) -> float:
        threshold = self.values[index]
        return gaps[self._categories[index]] if threshold is None else threshold


def mcut_threshold(scores: Sequence[float]) -> float:
    """The middle of the widest gap between the sorted scores, with zero as the last: Maximum Cut, "MCut".

    Source: Largeron, Moulin, Géry, "MCut: a thresholding strategy for multi-label classification", 2012.
    """
    falling = [*sorted(scores, reverse=True), 0.0]
    upper, lower = max(itertools.pairwise(falling), key=lambda pair: pair[0] - pair[1], default=(0.0, 0.0))
    return (upper + lower) / 2
