"""Which tags come with which: "has A without B"."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

# Only the most frequent tags are compared, each with each.
COMPARED = 200
# A tag is said to come with another one from this share of its images on, and if they are at least so many.
SHARE, FEWEST = 0.8, 5
# Images whose tags are compared at a time.
BLOCK = 4096


@dataclass(frozen=True, slots=True)
class Pair:
    """A tag whose images mostly have another tag too; `without` of its `images` lack it."""

    tag: str
    other: str
    images: int
    without: int


def pairs_of(tags: Sequence[Iterable[str]], counts: Mapping[str, int], most: int = 20) -> list[Pair]:
    """The tags of some images that nearly always come with another one, those first that say most.

    `counts` has all tags by frequency. A pair is left out if no image lacks the other tag, or if that tag is as
    frequent everywhere.
    """
    import numpy as np

    names = [tag for tag in list(counts)[:COMPARED] if counts[tag] >= FEWEST]
    places = {tag: place for place, tag in enumerate(names)}
    both = np.zeros((len(names), len(names)), dtype=np.float64)
    for start in range(0, len(tags), BLOCK):
        block = np.zeros((BLOCK, len(names)), dtype=np.float32)
        for row, some in enumerate(tags[start : start + BLOCK]):
            block[row, [places[tag] for tag in some if tag in places]] = 1
        both += block.T @ block
    frequency = both.diagonal()
    share = both / np.maximum(frequency[:, None], 1)
    # How many more images have both than if the two had nothing to do with each other.
    surplus = both - frequency[:, None] * frequency[None, :] / max(len(tags), 1)
    surplus[(share < SHARE) | (both >= frequency[:, None])] = 0
    order = np.argsort(-surplus, axis=None, kind="stable")[:most]
    found = [(place // len(names), place % len(names)) for place in order.tolist()]
    return [
        Pair(names[a], names[b], int(frequency[a]), int(frequency[a] - both[a, b]))
        for a, b in found
        if surplus[a, b] > 0
    ]
