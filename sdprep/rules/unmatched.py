"""Entries of tag options that can match no tag, such as misspelt ones, in one line per option."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from sdprep.rules.exclude import Wildcard, compile_exclusion, is_regex
from sdprep.rules.labels import LabelTable, TagRules, normalize_tag
from sdprep.rules.tag_lists import TagLists
from sdprep.rules.tags import expanded

# Names listed in a line, and how alike two names are of which one may be meant for the other.
MOST_NAMES, LIKENESS = 10, 0.75


def unmatched(model: str, labels: LabelTable, rules: TagRules, lists: TagLists) -> Iterator[str]:
    """A line for each option with entries that match no tag, and for each list of which no entry does."""
    known = _written_tags(labels, rules, lists)
    before = {normalize_tag(name): name for name in known}
    after = before | {normalize_tag(new): new for _, new in rules.tag_replacement if new}
    options = {
        "--exclude": [each for each in rules.exclude if not _matches(each, after)],
        "--tag-replacement": [old for old, _ in rules.tag_replacement if normalize_tag(old) not in before],
        "--always-first-tags": [each for each in rules.always_first_tags if not _matches(each, after)],
    }
    for option, entries in options.items():
        if entries:
            named = [f"{entry}{_hint(option, entry, after, lists)}" for entry in entries[:MOST_NAMES]]
            more = f" and {len(entries) - MOST_NAMES} more" if len(entries) > MOST_NAMES else ""
            yield f"{option}: no tag of {model} matches {', '.join(named)}{more}"
    of_labels = {normalize_tag(name) for name in labels.names}
    for option, names in (("--aliases", set(lists.aliases)), ("--implications", set(lists.implied))):
        if names and not of_labels & names:
            yield f"{option}: none of its {len(names)} names is a tag of {model}"


def _written_tags(labels: LabelTable, rules: TagRules, lists: TagLists) -> list[str]:
    """The tags that a run can write before it replaces any."""
    names = [lists.aliases.get(normalize_tag(name), name) for name in labels.names]
    if rules.implied == "add":
        names += [name for implied in lists.implied.values() for name in implied]
    if rules.character_tag_expand:
        characters = [name for name, category in zip(labels.names, labels.categories, strict=True)
                      if category == "character"]  # fmt: skip
        names += [part for name in characters for part in expanded(name)]
    return names


def _matches(entry: str, tags: dict[str, str]) -> bool:
    """Whether an entry matches one of the tags, which are given by normalized name."""
    if normalize_tag(entry) in tags:
        return True
    pattern = compile_exclusion(entry)
    if pattern is None:
        return False
    if isinstance(pattern, Wildcard):
        return any(map(pattern.search, tags))
    return any(map(pattern.search, _spellings(tags)))


def _spellings(tags: dict[str, str]) -> Iterable[str]:
    for normalized, name in tags.items():
        yield from (name, normalized, normalized.replace(" ", "_"))


def _hint(option: str, entry: str, tags: dict[str, str], lists: TagLists) -> str:
    """What may be meant instead of an entry."""
    if is_pattern(entry):
        return " (it takes no wildcards and no /regex/)" if option == "--tag-replacement" else ""
    if (canonical := lists.aliases.get(normalize_tag(entry))) is not None:
        return f" (--aliases makes it {canonical})"
    close = get_close_matches(normalize_tag(entry), tags, 1, LIKENESS)
    return f" (did you mean {tags[close[0]]}?)" if close else ""


def is_pattern(entry: str) -> bool:
    """Whether an entry looks like a wildcard or a regular expression."""
    return is_regex(entry) or "*" in entry or "?" in entry
