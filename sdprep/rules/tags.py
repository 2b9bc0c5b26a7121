"""From tag scores to the tags of a sidecar: threshold, categories, spelling, order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from sdprep.errors import UsageError
from sdprep.rules.categories import category_of, order_by_category
from sdprep.rules.exclude import COMMAS, SEMICOLONS, TagSet, unquoted
from sdprep.rules.labels import KAOMOJI, LabelTable, TagRules, escape_parentheses, format_tag, normalize_tag
from sdprep.rules.tag_lists import TagLists
from sdprep.rules.thresholds import Thresholds

# A tag that is being processed: its name and its category.
Tag = tuple[str, str]


def split_tags(text: str, separator: str = ",") -> list[str]:
    """The tags of a line. Spaces around a separator do not count, unless it consists only of white space."""
    core = separator.strip() or separator
    return [tag.strip() for tag in text.split(core) if tag.strip()]


def parse_replacements(text: str) -> tuple[tuple[str, str], ...]:
    r"""The pairs of `old,new;old,new`, in which `\,` and `\;` are literal, as in kohya's scripts; quotes are dropped.

    Raises UsageError for an invalid pair.
    """
    pairs = filter(None, re.split(rf"(?<!\\)[{SEMICOLONS}]", unquoted(text.strip())))
    return tuple(parse_replacement(unquoted(pair.strip()), unquoted) for pair in pairs)


def parse_replacement(pair: str, clean: Callable[[str], str] = str.strip) -> tuple[str, str]:
    """One pair of `parse_replacements`; quotes belong to the tags unless `clean` drops them. Raises UsageError."""
    parts = re.split(rf"(?<!\\)[{COMMAS}]", pair)
    sides = [re.sub(rf"\\([{COMMAS}{SEMICOLONS}])", r"\1", clean(part.strip())).strip() for part in parts]
    if len(sides) != 2 or not sides[0]:
        raise UsageError(f"'{pair}' is not of the form old,new; a comma inside a tag is written \\,")
    return sides[0], sides[1]


@dataclass(slots=True)
class _Form:
    """A tag as it is written, and the canonical tags that it represents."""

    name: str
    category: str
    sources: set[str]


class TagSelector:
    """Chooses, formats and orders the tags of images by one label table and one set of rules.

    Raises UsageError for an invalid exclusion.
    """

    def __init__(self, labels: LabelTable, rules: TagRules, lists: TagLists | None = None) -> None:
        self._labels, self._rules, self._lists = labels, rules, lists or TagLists()
        self.thresholds = Thresholds.by_rules(labels, rules, self._lists.thresholds)
        self._excluded = TagSet(rules.exclude, labels.names)
        self._replaced = {normalize_tag(old): new for old, new in rules.tag_replacement}
        # A name in two categories belongs to the first one when a list leads to it.
        tags = reversed(list(zip(labels.names, labels.categories, strict=True)))
        self._known = {normalize_tag(name): (name, category) for name, category in tags}
        # Thousands of images share a few thousand labels.
        self._tag = cache(self._look_up)
        self._forms = cache(self._write)
        self._first = [TagSet((entry,), labels.names) for entry in rules.always_first_tags]
        self._rank = cache(self._find_rank)

    def select(self, scores: Iterable[tuple[int, float]]) -> list[str]:
        """The tags that the rules keep, formatted and in order.

        `scores` are (label index, probability) pairs. A label is kept at or above its threshold; ties keep label
        order. The best rating and quality are taken at any probability.
        """
        ordered = sorted(scores)
        return self.write(self.thresholds.select(ordered), ordered)

    def write(self, kept: list[tuple[int, float]], scores: Sequence[tuple[int, float]]) -> list[str]:
        """The tags of chosen labels, formatted and in order, with the best rating and quality of all `scores`."""
        rules = self._rules
        if rules.order in ("confidence", "category"):
            kept = sorted(kept, key=lambda pair: -pair[1])
        forms = self._written(index for index, _ in kept)
        if rules.order == "alphabetical":
            forms.sort(key=lambda form: form.name.casefold())
        if rules.character_tags_first:
            forms.sort(key=lambda form: form.category != "character")
        implies = rules.implied == "drop" and self._lists.implied
        best = self._without_implied(forms) if implies else forms[: rules.max_tags]
        return self._framed([(form.name, form.category) for form in best], scores)

    def lacks_gap(self, scores: Iterable[tuple[int, float]]) -> bool:
        """Whether "mcut" separates nothing, as `Thresholds.lacks_gap` says."""
        return self.thresholds.lacks_gap(scores)

    def _written(self, labels: Iterable[int]) -> list[_Form]:
        """The tags of labels as they are written, each once, without unwanted ones."""
        wanted: dict[str, Tag] = {}
        for index in labels:
            key, tag = self._tag(index)
            if key not in wanted and self._forms(*tag):
                wanted[key] = tag
        written: dict[str, _Form] = {}
        for source, tag in wanted.items() if self._rules.implied == "drop" else self._with_implied(wanted):
            for key, form, category in self._forms(*tag):
                if key in written:
                    written[key].sources.add(source)
                else:
                    written[key] = _Form(form, category, {source})
        return list(written.values())

    def _with_implied(self, tags: dict[str, Tag]) -> Iterator[tuple[str, Tag]]:
        """Every tag under its key, each followed by those it implies that no score supports."""
        for key, tag in tags.items():
            yield key, tag
            further = [
                self._named(name) for name in self._lists.implied.get(key, ()) if normalize_tag(name) not in tags
            ]
            yield from ((normalize_tag(name), (name, category)) for name, category in further)

    def _without_implied(self, forms: list[_Form]) -> list[_Form]:
        """The best forms without those that others of the best imply; a form that is cut off implies nothing."""
        implied: set[str] = set()
        while True:
            best = [form for form in forms if not form.sources <= implied][: self._rules.max_tags]
            sources = {source for form in best for source in form.sources}
            more = {normalize_tag(name) for source in sources for name in self._lists.implied.get(source, ())}
            if more <= implied:
                return best
            implied |= more

    def _look_up(self, index: int) -> tuple[str, Tag]:
        """The canonical tag of a label, spelled as in the label file, under the key that its spellings share."""
        name, category = self._labels.names[index], self._labels.categories[index]
        canonical = self._lists.aliases.get(normalize_tag(name))
        if canonical is not None:
            name, category = self._known.get(normalize_tag(canonical), (self._named(canonical)[0], category))
        return normalize_tag(name), (name, category)

    def _named(self, name: str) -> Tag:
        """A tag of a list, spelled as in the label file if it is there."""
        return self._known.get(normalize_tag(name), (name.replace(" ", "_"), "general"))

    def _write(self, name: str, category: str) -> tuple[tuple[str, str, str], ...]:
        """The forms of one tag after expansion and replacement: key, spelling, category; empty if it is unwanted."""
        expand = self._rules.character_tag_expand and category == "character"
        forms = []
        for part in expanded(name) if expand else [name]:
            form = self._replaced.get(
                normalize_tag(part), format_tag(part, remove_underscore=self._rules.remove_underscore)
            )
            if form and form not in self._excluded and part not in self._excluded:
                written = self._rules.artist_prefix + form if category == "artist" else form
                forms.append((normalize_tag(written), written, category))
        return tuple(forms)

    def _framed(self, tags: list[Tag], scores: Sequence[tuple[int, float]]) -> list[str]:
        """Tags with the best quality and rating, the first tags in order, and prefix and suffix."""
        rules = self._rules
        for category, position in (("quality", rules.quality), ("rating", rules.ratings)):
            best = self._best(category, scores) if position != "none" else []
            tags = tags + best if position == "last" else best + tags
        if rules.order == "category":
            tags = order_by_category(tags, lambda tag: category_of(*tag), rules.category_order)
        names = [name for name, _ in tags]
        if self._first:
            names.sort(key=self._rank)
        own = {normalize_tag(tag) for tag in (*rules.prefix, *rules.suffix)}
        names = [name for name in names if normalize_tag(name) not in own]
        if rules.escape_parentheses:
            names = [escape_parentheses(name) for name in names]
        return _each_once([*rules.prefix, *names, *rules.suffix])

    def _find_rank(self, name: str) -> int:
        """The position of the first entry of `always_first_tags` that means a tag."""
        return next((rank for rank, entry in enumerate(self._first) if name in entry), len(self._first))

    def _best(self, category: str, scores: Sequence[tuple[int, float]]) -> list[Tag]:
        known = [(index, score) for index, score in scores if self._labels.categories[index] == category]
        if not known:
            return []
        best = max(known, key=lambda pair: pair[1])[0]
        return [(form, category) for _, form, _ in self._forms(self._labels.names[best], category)]


def _each_once(names: Iterable[str]) -> list[str]:
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(normalize_tag(name), name)
    return list(first.values())


def expanded(label: str) -> list[str]:
    """The tags that a character tag is expanded to: the name, and the series in parentheses at its end."""
    match = re.fullmatch(r"(.+?)_?\(([^()]+)\)", label)
    return [match[1], match[2]] if match and label not in KAOMOJI else [label]
