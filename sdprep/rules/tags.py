"""From tag scores to the tags of a sidecar: threshold, categories, spelling, order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

# Emoticons that are tags: here an underscore is a mouth or an eye, not a space. The nineteen names come from the
# Danbooru tag list, as the Waifu Diffusion taggers' own demo protects them.
KAOMOJI = frozenset("0_0 (o)_(o) +_+ +_- ._. <o>_<o> <|>_<|> =_= >_< 3_3 6_9 >_o @_@ ^_^ o_o u_u x_x |_| ||_||".split())

# Scores below this are not stored, so no threshold can reach below it.
STORED_FLOOR = 0.01


@dataclass(frozen=True, slots=True)
class LabelTable:
    """The labels of a tagger in the order of its outputs, with the category of each."""

    names: tuple[str, ...]
    categories: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TagRules:
    """How scores become tags. A category's own threshold, where given, replaces `threshold`."""

    threshold: float = 0.35
    general_threshold: float | None = None
    character_threshold: float | None = None
    remove_underscore: bool = False
    undesired_tags: tuple[str, ...] = ()
    use_rating_tags: bool = False
    order: str = "confidence"

    def threshold_of(self, category: str) -> float:
        """The threshold that a label of this category must reach."""
        own = {"general": self.general_threshold, "character": self.character_threshold}.get(category)
        return self.threshold if own is None else own

    def settings(self) -> dict[str, Any]:
        """The rules by name, as they are remembered of a text."""
        return {**asdict(self), "undesired_tags": list(self.undesired_tags)}


def spell(tag: str, *, remove_underscore: bool) -> str:
    """A tag as it is written: with spaces for underscores where that is asked for, emoticons left alone."""
    if remove_underscore and tag not in KAOMOJI:
        return tag.replace("_", " ")
    return tag


def fold(tag: str) -> str:
    """A tag reduced to what a person means by it, so that both spellings and any letter case compare equal."""
    return tag.strip().replace("_", " ").casefold()


def split_tags(text: str, separator: str = ",") -> list[str]:
    """The tags of a line. A separator that is only white space splits as it stands; any other by its core."""
    core = separator.strip() or separator
    return [tag.strip() for tag in text.split(core) if tag.strip()]


def select_tags(scores: Iterable[tuple[int, float]], labels: LabelTable, rules: TagRules) -> list[str]:
    """The tags that the rules keep, spelt and in order.

    `scores` are (label index, probability). A label is kept at or above the threshold of its category; ties keep
    label order. The best rating comes first when ratings are asked for, whatever its probability.
    """
    unwanted = {fold(tag) for tag in rules.undesired_tags}
    ordered = sorted(scores)
    kept = [
        (index, score)
        for index, score in ordered
        if labels.categories[index] != "rating" and score >= rules.threshold_of(labels.categories[index])
    ]
    if rules.order == "confidence":
        kept.sort(key=lambda pair: -pair[1])
    names = [labels.names[index] for index, _ in kept]
    if rules.use_rating_tags:
        names = _best_rating(ordered, labels) + names
    tags = [spell(name, remove_underscore=rules.remove_underscore) for name in names if fold(name) not in unwanted]
    return list(dict.fromkeys(tags))


def _best_rating(scores: Sequence[tuple[int, float]], labels: LabelTable) -> list[str]:
    ratings = [(index, score) for index, score in scores if labels.categories[index] == "rating"]
    if not ratings:
        return []
    return [labels.names[max(ratings, key=lambda pair: pair[1])[0]]]
