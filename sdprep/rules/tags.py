"""From tag scores to the tags of a sidecar: threshold, categories, spelling, order."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sdprep.errors import UsageError

# Emoticons that are tags: here an underscore is a mouth or an eye, not a space. The nineteen names come from the
# Danbooru tag list, as the Waifu Diffusion taggers' own demo protects them.
KAOMOJI = frozenset("0_0 (o)_(o) +_+ +_- ._. <o>_<o> <|>_<|> =_= >_< 3_3 6_9 >_o @_@ ^_^ o_o u_u x_x |_| ||_||".split())

# Scores below this are not stored, so no threshold can reach below it.
STORED_FLOOR = 0.01


@dataclass(frozen=True, slots=True)
class LabelTable:
    """The labels of a tagger in the order of its outputs, with the category of each.

    `best_thresholds` has one number a label where the label file brings them, and is empty otherwise.
    """

    names: tuple[str, ...]
    categories: tuple[str, ...]
    best_thresholds: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class TagRules:
    """How scores become tags. A category's own threshold, where given, replaces `threshold`.

    `order` is "confidence", "csv" (that of the labels) or "alphabetical". `tag_replacement` are (old, new) pairs, an
    empty new one drops the tag. `always_first_tags` only moves tags that are there; `prefix` and `suffix` are always
    there. At most `max_tags` predicted tags are kept; ratings, prefix and suffix are not counted.
    """

    threshold: float = 0.35
    general_threshold: float | None = None
    character_threshold: float | None = None
    remove_underscore: bool = False
    undesired_tags: tuple[str, ...] = ()
    tag_replacement: tuple[tuple[str, str], ...] = ()
    character_tag_expand: bool = False
    character_tags_first: bool = False
    always_first_tags: tuple[str, ...] = ()
    use_rating_tags: bool = False
    use_rating_tags_as_last_tag: bool = False
    order: str = "confidence"
    max_tags: int | None = None
    prefix: tuple[str, ...] = ()
    suffix: tuple[str, ...] = ()
    escape_parentheses: bool = False

    def threshold_of(self, category: str) -> float:
        """The threshold that a label of this category must reach."""
        own = {"general": self.general_threshold, "character": self.character_threshold}.get(category)
        return self.threshold if own is None else own

    def settings(self) -> dict[str, Any]:
        """The rules by name, as they are remembered of a text."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain


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


def parse_replacements(text: str) -> tuple[tuple[str, str], ...]:
    r"""The pairs of `old,new;old,new`, in which `\,` and `\;` stand for the signs themselves, as kohya writes them.

    Raises UsageError for a pair that is none.
    """
    pairs = []
    for pair in filter(None, re.split(r"(?<!\\);", text)):
        sides = [re.sub(r"\\([,;])", r"\1", side).strip() for side in re.split(r"(?<!\\),", pair)]
        if len(sides) != 2 or not sides[0]:
            raise UsageError(f"'{pair}' is not of the form old,new; a comma inside a tag is written \\,")
        pairs.append((sides[0], sides[1]))
    return tuple(pairs)


def select_tags(scores: Iterable[tuple[int, float]], labels: LabelTable, rules: TagRules) -> list[str]:
    """The tags that the rules keep, spelt and in order.

    `scores` are (label index, probability). A label is kept at or above the threshold of its category; ties keep
    label order. The best rating is taken whatever its probability.
    """
    ordered = sorted(scores)
    kept = [
        (index, score)
        for index, score in ordered
        if labels.categories[index] != "rating" and score >= rules.threshold_of(labels.categories[index])
    ]
    if rules.order == "confidence":
        kept.sort(key=lambda pair: -pair[1])
    tags = _written([(labels.names[index], labels.categories[index]) for index, _ in kept], rules)
    if rules.order == "alphabetical":
        tags.sort(key=lambda tag: tag[0].casefold())
    if rules.character_tags_first:
        tags.sort(key=lambda tag: tag[1] != "character")
    ratings = _best_rating(ordered, labels, rules)
    names = _framed([name for name, _ in tags[: rules.max_tags]], ratings, rules)
    return [re.sub(r"([()])", r"\\\1", name) for name in names] if rules.escape_parentheses else names


def _written(labels: Sequence[tuple[str, str]], rules: TagRules) -> list[tuple[str, str]]:
    """The tags of labels as they are written, each once, with its category: expanded, replaced, and wanted."""
    replaced = {fold(old): new for old, new in rules.tag_replacement}
    unwanted = {fold(tag) for tag in rules.undesired_tags}
    written: dict[str, tuple[str, str]] = {}
    for label, category in labels:
        parts = _expanded(label) if rules.character_tag_expand and category == "character" else [label]
        for part in parts:
            name = replaced.get(fold(part), spell(part, remove_underscore=rules.remove_underscore))
            if name and not {fold(name), fold(part)} & unwanted:
                written.setdefault(fold(name), (name, category))
    return list(written.values())


def _expanded(label: str) -> list[str]:
    """A character and its series, the last thing in parentheses, as two tags."""
    match = re.fullmatch(r"(.+?)_?\(([^()]+)\)", label)
    return [match[1], match[2]] if match and label not in KAOMOJI else [label]


def _best_rating(scores: Sequence[tuple[int, float]], labels: LabelTable, rules: TagRules) -> list[str]:
    if not (rules.use_rating_tags or rules.use_rating_tags_as_last_tag):
        return []
    ratings = [(index, score) for index, score in scores if labels.categories[index] == "rating"]
    if not ratings:
        return []
    best = labels.names[max(ratings, key=lambda pair: pair[1])[0]]
    return [name for name, _ in _written([(best, "rating")], rules)]


def _framed(names: list[str], ratings: list[str], rules: TagRules) -> list[str]:
    """Tags with the rating, those that come first in the order that was given, and a person's own around them."""
    names = names + ratings if rules.use_rating_tags_as_last_tag else ratings + names
    rank = {fold(tag): place for place, tag in reversed(list(enumerate(rules.always_first_tags)))}
    names.sort(key=lambda name: rank.get(fold(name), len(rank)))
    own = {fold(tag) for tag in (*rules.prefix, *rules.suffix)}
    return [*rules.prefix, *(name for name in names if fold(name) not in own), *rules.suffix]
