"""Rule packs: named lists of rules for tags and captions, as data; each rule changes what it names and nothing else.

A pack is a TOML file with `description` and any number of `[[tags]]` and `[[captions]]`; each of them has a `rule` and
what that needs. The rules of a kind run in their order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sdprep.errors import UsageError
from sdprep.rules.edits import kohya
from sdprep.rules.edits.spans import ENDS, TagList, edit_lines, edit_lists, whole_words
from sdprep.rules.exclude import TagSet
from sdprep.rules.labels import format_tag, normalize_tag
from sdprep.sanitize import check_text_option

# The probability of each tag of an image, by normalized name.
Scores = Mapping[str, float]
NO_SCORES: Scores = MappingProxyType({})
TagRule = Callable[[TagList, Scores], TagList]
CaptionRule = Callable[[str], str]
Table = Mapping[str, Any]
# A word, also of several parts: Japanese and Chinese text has no spaces between words.
_WORD = re.compile(r"[\w'’-]+")
_REPEATED = re.compile(r"\b([\w'’-]+(?: [\w'’-]+){0,3})(?: \1)+\b", re.IGNORECASE)
_SPACES = re.compile(r"[^\S\n\r]+")


@dataclass(frozen=True, slots=True)
class Pack:
    """The rules of a pack in their order. `scored` are tags whose scores decide."""

    name: str
    description: str = ""
    tags: tuple[Callable[[str, Scores], str], ...] = ()
    captions: tuple[CaptionRule, ...] = ()
    scored: tuple[str, ...] = ()

    @property
    def kinds(self) -> tuple[str, ...]:
        """What it has rules for: "tags", "caption"."""
        return (*(["tags"] if self.tags else []), *(["caption"] if self.captions else []))

    def clean_tags(self, text: str, scores: Scores = NO_SCORES) -> str:
        """The text of a tag file after the rules for tags."""
        for rule in self.tags:
            text = rule(text, scores)
        return text

    def clean_caption(self, text: str) -> str:
        """The text of a caption file after the rules for captions."""
        for rule in self.captions:
            text = rule(text)
        return text


def parse_pack(name: str, table: Table) -> Pack:
    """The pack of a TOML table. Raises UsageError naming the pack and what is wrong with it."""
    try:
        _check_keys("the pack", table, ("description", "tags", "captions"))
        return Pack(
            name,
            _text(table, "description", ""),
            tuple(_tag_rule(each) for each in _tables(table, "tags")),
            tuple(_caption_rule(each) for each in _tables(table, "captions")),
            tuple(tag for each in _tables(table, "tags") if each["rule"] == "exclusive" for tag in each["tags"]),
        )
    except UsageError as error:
        raise UsageError(f"rule pack {name}: {error}") from error


def _tag_rule(table: Table) -> Callable[[str, Scores], str]:
    name = _text(table, "rule")
    if name == "kohya-exact":
        _check_keys(name, table, ("rule",))
        return lambda text, _: _inside(text, kohya.clean_tags)
    rule = _named(TAG_RULES, "tags", table)
    return lambda text, scores: edit_lists(text, lambda tags: rule(tags, scores))


def _inside(text: str, edit: Callable[[str], str]) -> str:
    """The text after an edit of what is between a byte order mark and the final line break."""
    end = ENDS.search(text)
    return edit(text) if end is None else edit(text[: end.start()]) + end[0]


def _caption_rule(table: Table) -> CaptionRule:
    rule = _named(CAPTION_RULES, "captions", table)
    return lambda text: edit_lines(text, rule)


def _named(rules: Mapping[str, tuple[Callable[[Table], Any], tuple[str, ...]]], kind: str, table: Table) -> Any:
    name = _text(table, "rule")
    if name not in rules:
        raise UsageError(f"[[{kind}]] has no rule {name!r}; there are {', '.join(rules)}")
    make, keys = rules[name]
    _check_keys(f"the rule {name}", table, ("rule", *keys))
    return make(table)


# Rules for tags


def _underscores(_: Table) -> TagRule:
    def spaces(tags: TagList, _: Scores) -> TagList:
        return tags.ordered([format_tag(tag, remove_underscore=True) for tag in tags.tags])

    return spaces


def _dedupe(_: Table) -> TagRule:
    def once(tags: TagList, _: Scores) -> TagList:
        seen: set[str] = set()
        twice = []
        for place, tag in enumerate(map(normalize_tag, tags.tags)):
            twice += [place] if tag in seen else []
            seen.add(tag)
        return _without(tags, twice)

    return once


def _drop(table: Table) -> TagRule:
    matches = _matcher(table, "tags")
    return lambda tags, _: _without(tags, _places(tags, matches))


def _implied(table: Table) -> TagRule:
    """A rule that drops a tag that another one implies, of [tag, implied] pairs; the first may be a wildcard."""
    pairs = [(TagSet((first,), ()), normalize_tag(second)) for first, second in _pairs(table, "pairs")]

    def drop(tags: TagList, _: Scores) -> TagList:
        names = [normalize_tag(tag) for tag in tags.tags]
        implied = {second for first, second in pairs if second in names and any(
            name in first for name in names if name != second)}  # fmt: skip
        return _without(tags, [place for place, name in enumerate(names) if name in implied])

    return drop


def _exclusive(table: Table) -> TagRule:
    """A rule that leaves one tag of a group: the one with the highest score, or else the first.

    All of them stay beside one of the tags of `unless`, or beside all of those of a list in it.
    """
    matches = _matcher(table, "tags")
    listed = [each if isinstance(each, list) else [each] for each in _list(table, "unless")]
    unless = [[_matcher({"unless": [tag]}, "unless") for tag in some] for some in listed]

    def one(tags: TagList, scores: Scores) -> TagList:
        places = _places(tags, matches)
        if len(places) < 2 or any(all(_places(tags, each) for each in some) for some in unless):
            return tags
        best = max(places, key=lambda place: scores.get(normalize_tag(tags.tags[place]), 0.0))
        return _without(tags, [place for place in places if place != best])

    return one


def _ambiguous(table: Table) -> TagRule:
    """A rule that drops all tags of a group that has several, in an image with any of the tags of `when`."""
    matches, when = _matcher(table, "tags"), _matcher(table, "when")
    keeps = _matcher(table, "except", optional=True)

    def none(tags: TagList, _: Scores) -> TagList:
        places = [place for place in _places(tags, matches) if not keeps(tags.tags[place])]
        return _without(tags, places) if len(places) > 1 and any(map(when, tags.tags)) else tags

    return none


def _covered(_: Table) -> TagRule:
    """A rule that drops a tag with whose words a longer one ends: shirt beside white shirt."""

    def drop(tags: TagList, _: Scores) -> TagList:
        names = [normalize_tag(tag) for tag in tags.tags]
        ends = {" ".join(words[start:]) for words in (name.split() for name in names) for start in range(1, len(words))}
        return _without(tags, [place for place, name in enumerate(names) if name in ends])

    return drop


def _without(tags: TagList, places: Sequence[int]) -> TagList:
    for place in reversed(places):
        tags = tags.remove(place)
    return tags


def _places(tags: TagList, matches: Callable[[str], bool]) -> list[int]:
    return [place for place, tag in enumerate(tags.tags) if matches(tag)]


TAG_RULES: Mapping[str, tuple[Callable[[Table], TagRule], tuple[str, ...]]] = {
    "underscores": (_underscores, ()),
    "dedupe": (_dedupe, ()),
    "drop": (_drop, ("tags",)),
    "implied": (_implied, ("pairs",)),
    "exclusive": (_exclusive, ("tags", "unless")),
    "ambiguous": (_ambiguous, ("tags", "when", "except")),
    "covered": (_covered, ()),
}


# Rules for captions


def _replace(table: Table) -> CaptionRule:
    """A rule that replaces whole words, of [old, new] pairs in their order, and ignores letter case."""
    pairs = [(whole_words(old, re.IGNORECASE), new) for old, new in _pairs(table, "pairs")]

    def replace(line: str) -> str:
        for pattern, new in pairs:
            line = pattern.sub(lambda found, new=new: _with_case(new, found[0]), line)  # type: ignore[misc]
        return line

    return replace


def _replace_exactly(table: Table) -> CaptionRule:
    """A rule that replaces letters wherever they are, each pair until it finds nothing more."""
    pairs = _pairs(table, "pairs")
    for old, new in pairs:
        if old in new:
            raise UsageError(f"the rule replace-exactly would never end: {new!r} has {old!r} in it")

    def replace(line: str) -> str:
        for old, new in pairs:
            while old in line:
                line = line.replace(old, new)
        return line

    return replace


def _openers(table: Table) -> CaptionRule:
    """A rule that drops phrases at the beginning of a caption, and makes the next word what the phrase was."""
    phrases = sorted(_texts(table, "phrases"), key=len, reverse=True)
    pattern = re.compile(rf"\s*(?:{'|'.join(map(re.escape, phrases))})(?!\w)[\s,:]*", re.IGNORECASE)

    def drop(line: str) -> str:
        found = pattern.match(line)
        rest = line[found.end() :] if found else ""
        return _with_case(rest, line.lstrip()) if rest.strip() else line

    return drop


def _repeated_words(_: Table) -> CaptionRule:
    return lambda line: _REPEATED.sub(r"\1", line)


def _whitespace(_: Table) -> CaptionRule:
    return lambda line: _SPACES.sub(" ", line).strip()


def _refusals(table: Table) -> CaptionRule:
    """A rule that makes a caption blank that begins with one of these phrases: a model that did not answer."""
    phrases = tuple(phrase.casefold() for phrase in _texts(table, "phrases"))
    return lambda line: "" if line.lstrip().replace("’", "'").casefold().startswith(phrases) else line


def _with_case(text: str, like: str) -> str:
    """The text with a capital letter at its beginning if `like` has one."""
    return text[:1].upper() + text[1:] if like[:1].isupper() else text


CAPTION_RULES: Mapping[str, tuple[Callable[[Table], CaptionRule], tuple[str, ...]]] = {
    "replace": (_replace, ("pairs",)),
    "replace-exactly": (_replace_exactly, ("pairs",)),
    "openers": (_openers, ("phrases",)),
    "repeated-words": (_repeated_words, ()),
    "whitespace": (_whitespace, ()),
    "refusals": (_refusals, ("phrases",)),
}


# What a pack may hold


def _check_keys(what: str, table: Table, known: Sequence[str]) -> None:
    if unknown := [key for key in table if key not in known]:
        raise UsageError(f"{what} has no {', '.join(unknown)}; it takes {', '.join(known)}")


def _text(table: Table, key: str, default: str | None = None) -> str:
    value = table.get(key, default)
    if not isinstance(value, str):
        raise UsageError(f"{key} is missing or not a text")
    return value


def _tables(table: Table, key: str) -> list[Table]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise UsageError(f"{key} is not a list of tables such as [[{key}]]")
    return value


def _list(table: Table, key: str) -> list[Any]:
    value = table.get(key, [])
    if not isinstance(value, list):
        raise UsageError(f"{key} is not a list")
    return value


def _texts(table: Table, key: str) -> tuple[str, ...]:
    value = table.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(each, str) and each for each in value):
        raise UsageError(f"{key} is missing or not a list of texts")
    return tuple(value)


def _pairs(table: Table, key: str) -> list[tuple[str, str]]:
    value = table.get(key)
    if not isinstance(value, list) or not value or not all(_is_pair(each) for each in value):
        raise UsageError(f'{key} is missing or not a list of pairs such as ["old", "new"]')
    check_text_option(**{key: [text for pair in value for text in pair]})
    return [(old, new) for old, new in value]


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(each, str) for each in value) and value[0]


def _matcher(table: Table, key: str, *, optional: bool = False) -> Callable[[str], bool]:
    """Whether a tag is one of those that a key lists: names and wildcards."""
    if optional and key not in table:
        return lambda _: False
    wanted, known = TagSet(_texts(table, key), ()), dict[str, bool]()

    def matches(tag: str) -> bool:
        # Thousands of texts have the same tags.
        if tag not in known:
            known[tag] = tag in wanted
        return known[tag]

    return matches
