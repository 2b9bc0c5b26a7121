"""From tag scores to the tags of a sidecar: threshold, categories, spelling, order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from sdprep.errors import UsageError
from sdprep.rules.exclude import Exclusion
from sdprep.rules.knowledge import TagKnowledge
from sdprep.rules.labels import KAOMOJI, LabelTable, TagRules, fold, spell
from sdprep.rules.thresholds import Cut

# A tag on its way: its name and its category.
Tag = tuple[str, str]


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


class TagSelector:
    """Chooses, spells and orders the tags of one picture after the other, by one label table and one set of rules.

    Raises UsageError for an exclusion that cannot be read.
    """

    def __init__(self, labels: LabelTable, rules: TagRules, knowledge: TagKnowledge | None = None) -> None:
        self._labels, self._rules, self._knowledge = labels, rules, knowledge or TagKnowledge()
        self._cut = Cut(labels, rules, self._knowledge.thresholds)
        self._excluded = Exclusion(rules.exclude, labels.names)
        self._replaced = {fold(old): new for old, new in rules.tag_replacement}
        self._known = {fold(name): (name, labels.categories[index]) for index, name in enumerate(labels.names)}
        # Thousands of pictures share a few thousand labels.
        self._canonical = cache(self._look_up)
        self._forms = cache(self._write)

    def select(self, scores: Iterable[tuple[int, float]]) -> list[str]:
        """The tags that the rules keep, spelt and in order.

        `scores` are (label index, probability). A label is kept at or above its threshold; ties keep label order. The
        best rating and quality are taken whatever their probability.
        """
        rules, ordered = self._rules, sorted(scores)
        kept = self._cut.reached(ordered)
        if rules.order == "confidence":
            kept.sort(key=lambda pair: -pair[1])
        tags = self._written(self._labels.names[index] for index, _ in kept)
        if rules.order == "alphabetical":
            tags.sort(key=lambda tag: tag[0].casefold())
        if rules.character_tags_first:
            tags.sort(key=lambda tag: tag[1] != "character")
        names = self._framed([name for name, _ in tags[: rules.max_tags]], ordered)
        return [re.sub(r"([()])", r"\\\1", name) for name in names] if rules.escape_parentheses else names

    def _written(self, names: Iterable[str]) -> list[Tag]:
        """The tags of labels as they are written, each once, with its category."""
        tags = {fold(tag[0]): tag for tag in map(self._canonical, names) if self._forms(*tag)}
        written: dict[str, Tag] = {}
        for tag in self._without_implied(tags) if self._rules.implied == "drop" else self._with_implied(tags):
            for form in self._forms(*tag):
                written.setdefault(fold(form[0]), form)
        return list(written.values())

    def _without_implied(self, tags: dict[str, Tag]) -> Iterator[Tag]:
        implied = {fold(name) for key in tags for name in self._knowledge.implied.get(key, ())}
        yield from (tag for key, tag in tags.items() if key not in implied)

    def _with_implied(self, tags: dict[str, Tag]) -> Iterator[Tag]:
        """Every tag, and behind it what it implies and no score speaks for."""
        for key, tag in tags.items():
            yield tag
            yield from (
                self._canonical(name) for name in self._knowledge.implied.get(key, ()) if fold(name) not in tags
            )

    def _look_up(self, name: str) -> Tag:
        """The canonical name of a tag, spelt as the label file does, and its category."""
        own = self._known.get(fold(name))
        canonical = self._knowledge.aliases.get(fold(name), name)
        found = self._known.get(fold(canonical))
        return found or (canonical.replace(" ", "_"), own[1] if own else "general")

    def _write(self, name: str, category: str) -> tuple[Tag, ...]:
        """What one tag becomes: expanded, replaced and spelt; nothing if it is not wanted."""
        expand = self._rules.character_tag_expand and category == "character"
        forms = []
        for part in _expanded(name) if expand else [name]:
            form = self._replaced.get(fold(part), spell(part, remove_underscore=self._rules.remove_underscore))
            if form and form not in self._excluded and part not in self._excluded:
                forms.append((form, category))
        return tuple(forms)

    def _framed(self, names: list[str], scores: Sequence[tuple[int, float]]) -> list[str]:
        """Tags with the best quality and rating, those that come first in the given order, and a person's own."""
        rules = self._rules
        for category, place in (("quality", rules.quality), ("rating", rules.ratings)):
            best = self._best(category, scores) if place != "none" else []
            names = names + best if place == "last" else best + names
        rank = {fold(tag): place for place, tag in reversed(list(enumerate(rules.always_first_tags)))}
        names.sort(key=lambda name: rank.get(fold(name), len(rank)))
        own = {fold(tag) for tag in (*rules.prefix, *rules.suffix)}
        return [*rules.prefix, *(name for name in names if fold(name) not in own), *rules.suffix]

    def _best(self, category: str, scores: Sequence[tuple[int, float]]) -> list[str]:
        known = [(index, score) for index, score in scores if self._labels.categories[index] == category]
        if not known:
            return []
        best = max(known, key=lambda pair: pair[1])[0]
        return [name for name, _ in self._forms(self._labels.names[best], category)]


def _expanded(label: str) -> list[str]:
    """A character and its series, the last thing in parentheses, as two tags."""
    match = re.fullmatch(r"(.+?)_?\(([^()]+)\)", label)
    return [match[1], match[2]] if match and label not in KAOMOJI else [label]
