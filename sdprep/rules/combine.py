"""The scores of several taggers as those of one, and which tags of theirs are kept."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Literal

from sdprep.rules.labels import ARGMAX_CATEGORIES, LabelTable, normalize_tag
from sdprep.rules.tags import TagSelector
from sdprep.rules.thresholds import Thresholds

# How the answers of several models become one: tags of any model, of more than half of them, or by the mean score.
Combine = Literal["union", "vote", "mean"]
Scores = Sequence[tuple[int, float]]


class CombinedLabels:
    """The tags that any of some label tables has, each once, in the order of the tables.

    A tag is the same in all spellings. Its category is that of the first table; only ratings and qualities are apart
    from tags of the same name. `places` has, per table, the index here of each label.
    """

    def __init__(self, tables: Sequence[LabelTable]) -> None:
        indices: dict[tuple[str, str], int] = {}
        names, categories = list[str](), list[str]()
        self.places: list[list[int]] = []
        for table in tables:
            places = []
            for name, category in zip(table.names, table.categories, strict=True):
                key = normalize_tag(name), category if category in ARGMAX_CATEGORIES else ""
                if key not in indices:
                    indices[key] = len(names)
                    names.append(name)
                    categories.append(category)
                places.append(indices[key])
            self.places.append(places)
        self.table = LabelTable(tuple(names), tuple(categories))
        # By tag, how many models know it.
        self.known_by = Counter(place for places in self.places for place in set(places))

    def placed(self, scores: Sequence[Scores]) -> list[dict[int, float]]:
        """The scores of each model by index here; of two labels of a model that are one tag, the higher."""
        found = []
        for places, own in zip(self.places, scores, strict=True):
            best: dict[int, float] = {}
            for index, score in own:
                best[places[index]] = max(score, best.get(places[index], 0.0))
            found.append(best)
        return found


class CombinedSelector:
    """Chooses and orders the tags of images by the scores of several models.

    `thresholds` are those of each model by its own rules, and `selector` has the rules for the combined labels. A tag
    has the mean score of the models that know it, where a score that was too low to be stored is 0; with "union" it has
    the highest score. Ratings and qualities always have the mean.
    """

    def __init__(
        self, labels: CombinedLabels, thresholds: Sequence[Thresholds], selector: TagSelector, how: Combine
    ) -> None:
        self._labels, self._own, self._selector, self._how = labels, thresholds, selector, how
        self._mean = Thresholds(labels.table, _means(labels, thresholds)) if how == "mean" else None

    def select(self, scores: Sequence[Scores]) -> list[str]:
        """The tags that are kept of one image, formatted and in order; `scores` has those of each model."""
        combined = self.combined(scores)
        return self._selector.write(self._kept(scores, combined), combined)

    def combined(self, scores: Sequence[Scores]) -> list[tuple[int, float]]:
        """The (index, score) pairs of one image in the order of the combined labels."""
        by_tag: defaultdict[int, list[float]] = defaultdict(list)
        for own in self._labels.placed(scores):
            for place, score in own.items():
                by_tag[place].append(score)
        return [(place, self._score(place, found)) for place, found in sorted(by_tag.items())]

    def lacks_gap(self, scores: Sequence[Scores]) -> bool:
        """Whether "mcut" separates nothing, in the mean or in the scores of any model."""
        if self._mean is not None:
            return self._mean.lacks_gap(self.combined(scores))
        return any(own.lacks_gap(found) for own, found in zip(self._own, scores, strict=True))

    def _score(self, place: int, found: list[float]) -> float:
        if self._how == "union" and self._labels.table.categories[place] not in ARGMAX_CATEGORIES:
            return max(found)
        return sum(found) / self._labels.known_by[place]

    def _kept(self, scores: Sequence[Scores], combined: list[tuple[int, float]]) -> list[tuple[int, float]]:
        if self._mean is not None:
            return self._mean.select(combined)
        passed: Counter[int] = Counter()
        for places, own, found in zip(self._labels.places, self._own, scores, strict=True):
            passed.update({places[index] for index, _ in own.select(found)})
        least = 1 if self._how == "union" else len(scores) // 2 + 1
        return [(place, score) for place, score in combined if passed[place] >= least]


def _means(labels: CombinedLabels, thresholds: Sequence[Thresholds]) -> list[float | None]:
    """The mean threshold of each tag over the models that know it; None if it depends on the image."""
    found: list[list[float | None]] = [[] for _ in labels.table.names]
    for places, own in zip(labels.places, thresholds, strict=True):
        for place, threshold in zip(places, own.values, strict=True):
            found[place].append(threshold)
    return [None if None in values else sum(filter(None, values)) / len(values) for values in found]
