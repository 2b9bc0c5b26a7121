r"""The operations of `sdprep edit` on one text: each changes what it names, and leaves every other character as it is.

Operations on tags work on each list of a text (`spans.py`), those on captions on the whole text, which has no byte
order mark and may have a final newline. `parse_operation` reads the words of the command line.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import takewhile
from types import MappingProxyType
from typing import Literal, Protocol

from sdprep.errors import UsageError
from sdprep.rules.categories import GENERAL, category_in, order_by_category
from sdprep.rules.edits.spans import COMMA, Layout, TagList, edit_lines, edit_lists, whole_words
from sdprep.rules.exclude import TagSet, compile_exclusion, parse_exclusions, split_list
from sdprep.rules.labels import CATEGORY_ORDER, normalize_tag
from sdprep.rules.mixed_text import LINE_BREAK
from sdprep.sanitize import check_text_option

Field = Literal["tags", "caption"]
OnText = Callable[[str], str]
NO_CATEGORIES: Mapping[str, str] = MappingProxyType({})
FIRST, LAST = 0, 1 << 62
POSITION = re.compile(r"(.+)@(first|last|[1-9]\d{0,8})", re.DOTALL)
NO_POSITION = re.compile(r".+@-?\d+", re.DOTALL)
SUBSTITUTION = re.compile(
    r"s(?P<mark>[^\w\s\\])(?P<old>.+?)(?<!\\)(?P=mark)(?P<new>.*?)(?<!\\)(?P=mark)(?P<flags>[gim]*)", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation by its option, such as "add", with its value as on the command line; flags have the value ""."""

    name: str
    value: str = ""

    def __str__(self) -> str:
        return f"{option(self.name)} {self.value}".strip()


class Edit(Protocol):
    """An operation, ready for any number of texts; `layout` is that of a text before the operations ahead of it."""

    def __call__(self, text: str, layout: Layout | None = None) -> str:
        """The text after the operation."""


def prepare(
    operation: Operation,
    edited: Field,
    tags: Iterable[Sequence[str]] = (),
    categories: Mapping[str, str] = NO_CATEGORIES,
) -> Edit:
    """The function of an operation.

    `tags` are those of all texts that are edited, as they are then, for "drop_rare"; `categories` those of tags by
    their normalized names, for "order".

    Raises UsageError for a value that it does not take, and for one on tags that is to edit captions.
    """
    name, value = operation.name, operation.value
    check_text_option(**{name: value})
    if not value and name not in FLAGS:
        raise UsageError(f"{option(name)} is blank; give it a value")
    if edited == "caption" and name not in ON_CAPTIONS:
        raise UsageError(f"{option(name)} works on tags; for captions there are {', '.join(map(option, ON_CAPTIONS))}")
    edit = _on_caption(name, value) if edited == "caption" else _on_tags(name, value, tags, categories)

    def run(text: str, layout: Layout | None = None) -> str:
        # A file of 0 bytes would count as emptied by a power cut, and be written again.
        return edit(text, layout) or ("\n" if text else "")

    return run


def _on_caption(name: str, value: str) -> Edit:
    on_text = ON_CAPTIONS[name](value)
    return lambda text, _=None: on_text(text)


def _on_tags(name: str, value: str, tags: Iterable[Sequence[str]], categories: Mapping[str, str]) -> Edit:
    if name in ON_LINES:
        on_line = ON_LINES[name](value)
        return lambda text, layout=None: edit_lines(text, on_line, layout or Layout(text))
    if name == DROP_RARE:
        on_list = _drop_rare(value, tags)
    elif name == ORDER:
        on_list = _order(value, categories)
    else:
        on_list = ON_LISTS[name](value)
    return lambda text, layout=None: edit_lists(text, on_list, layout)


def option(name: str) -> str:
    """An operation as its option."""
    return f"--{name.replace('_', '-')}"


# Values


def _tags(option: str, value: str) -> tuple[str, ...]:
    """The tags of a list, each once. Raises UsageError for none, and for one that a file would not hold as one."""
    tags = {normalize_tag(tag): tag for tag in reversed(split_list(value))}
    if not tags or any(COMMA in tag or LINE_BREAK.search(tag) for tag in tags.values()):
        raise UsageError(f"--{option} takes a tag or several separated by commas, not {value!r}")
    return tuple(reversed(tags.values()))


def _placed(value: str) -> tuple[str, int | None]:
    """A value without its position, and that position; None if none is named."""
    found = POSITION.fullmatch(value)
    if found is None:
        return value, None
    named = {"first": FIRST, "last": LAST}
    return found[1], named[found[2]] if found[2] in named else int(found[2]) - 1


class _Matcher:
    """Whether a tag is meant by entries: names in any spelling, wildcards, `/regular expressions/`."""

    def __init__(self, option: str, value: str) -> None:
        entries = parse_exclusions(value)
        if not entries:
            raise UsageError(f"--{option} takes a tag or several separated by commas, not {value!r}")
        for entry in entries:
            compile_exclusion(entry)
        self._excluded, self._known = TagSet(entries, ()), dict[str, bool]()

    def __call__(self, tag: str) -> bool:
        # Thousands of texts have the same tags.
        known = self._known.get(tag)
        if known is None:
            known = self._known[tag] = tag in self._excluded
        return known


# Operations on a list of tags


def _add(value: str) -> Callable[[TagList], TagList]:
    if NO_POSITION.fullmatch(value) and not POSITION.fullmatch(value):
        raise UsageError(f"--add takes TAG@first, TAG@last or TAG@N with N from 1, not {value!r}")
    listed, position = _placed(value)
    tags, start = _tags("add", listed), LAST if position is None else position

    def add(found: TagList) -> TagList:
        place = start
        for tag in tags:
            if found.find(tag) is None:
                found = found.insert(place, tag)
                place += 1
        return found

    return add


def _remove(value: str) -> Callable[[TagList], TagList]:
    return _without(_Matcher("remove", value))


def _without(matches: Callable[[str], bool]) -> Callable[[TagList], TagList]:
    def remove(found: TagList) -> TagList:
        for place in reversed([place for place, tag in enumerate(found.tags) if matches(tag)]):
            found = found.remove(place)
        return found

    return remove


def _replace(value: str) -> Callable[[TagList], TagList]:
    old, new = _pair(value)
    wanted, news = normalize_tag(old), _tags("replace", new) if new.strip() else ()

    def replace(found: TagList) -> TagList:
        places = [place for place, tag in enumerate(found.tags) if normalize_tag(tag) == wanted]
        if not places:
            return found
        others = {normalize_tag(tag) for tag in found.tags} - {wanted}
        left = [tag for tag in news if normalize_tag(tag) not in others]
        for place in reversed(places if not left else places[1:]):
            found = found.remove(place)
        for offset, tag in enumerate(left):
            place = places[0] + offset
            found = found.replace(place, tag) if offset == 0 else found.insert(place, tag)
        return found

    return replace


def _pair(value: str) -> tuple[str, str]:
    r"""The two sides of OLD=NEW, in which `\=` is a literal sign. Raises UsageError."""
    old, *rest = re.split(r"(?<!\\)=", value, maxsplit=1)
    old, new = (side.replace(r"\=", "=") for side in (old.strip(), (rest or [""])[0]))
    if not old or not rest:
        raise UsageError(rf"--replace takes OLD=NEW, not {value!r}; write a literal = as \=")
    return old, new


def _move(value: str) -> Callable[[TagList], TagList]:
    listed, position = _placed(value)
    if position is None:
        raise UsageError(f"--move takes TAG@first, TAG@last or TAG@N, not {value!r}")
    matchers = [_Matcher("move", entry.replace(",", r"\,")) for entry in _tags("move", listed)]

    def move(found: TagList) -> TagList:
        chosen = [place for matches in matchers for place, tag in enumerate(found.tags) if matches(tag)]
        chosen = list(dict.fromkeys(chosen))
        rest = [tag for place, tag in enumerate(found.tags) if place not in chosen]
        moved = [found.tags[place] for place in chosen]
        return found.ordered([*rest[:position], *moved, *rest[position:]])

    return move


def _sort(_: str) -> Callable[[TagList], TagList]:
    return lambda found: found.ordered(sorted(found.tags, key=normalize_tag))


def _dedupe(_: str) -> Callable[[TagList], TagList]:
    def dedupe(found: TagList) -> TagList:
        first: dict[str, int] = {}
        twice = [place for place, tag in enumerate(found.tags) if first.setdefault(normalize_tag(tag), place) != place]
        for place in reversed(twice):
            found = found.remove(place)
        return found

    return dedupe


def _drop_rare(value: str, tags: Iterable[Sequence[str]]) -> Callable[[TagList], TagList]:
    if not re.fullmatch(r"[1-9]\d{0,8}", value):
        raise UsageError(f"--drop-rare takes a number of images, not {value!r}")
    counts = Counter(tag for some in tags for tag in set(map(normalize_tag, some)))
    return _without(lambda tag: counts[normalize_tag(tag)] < int(value))


def _order(value: str, categories: Mapping[str, str]) -> Callable[[TagList], TagList]:
    """The function that orders tags by category: "category" for the usual order, or a list of categories.

    Trigger words stay first: what no tagger knows, before all that one knows.

    Raises UsageError for a category that nothing has.
    """
    order = CATEGORY_ORDER if value == "category" else split_list(value)
    known = dict.fromkeys([*CATEGORY_ORDER, *categories.values()])
    if categories and (unknown := [name for name in order if name not in known]):
        raise UsageError(f"--order: there is no category {', '.join(unknown)}; there are {', '.join(known)}")
    category = cache(partial(category_in, known=categories))

    def by_category(found: TagList) -> TagList:
        is_unknown = (normalize_tag(tag) not in categories and category(tag) == GENERAL for tag in found.tags)
        triggers = [tag for tag, _ in zip(found.tags, takewhile(bool, is_unknown), strict=False)]
        rest = found.tags[len(triggers) :]
        return found.ordered([*triggers, *order_by_category(rest, category, order)])

    return by_category


def _regex_on_tags(value: str) -> Callable[[TagList], TagList]:
    substitute = _substitution(value)

    def regex(found: TagList) -> TagList:
        for place in reversed(range(len(found.tags))):
            before = found.tags[place]
            after = substitute(before)
            if after != before:
                found = found.replace(place, after.strip()) if after.strip() else found.remove(place)
        return found

    return regex


# Operations on a whole text


def _substitution(value: str) -> OnText:
    """The function of `s/OLD/NEW/FLAGS`. Raises UsageError."""
    found = SUBSTITUTION.fullmatch(value)
    if found is None:
        raise UsageError(f"--regex takes s/OLD/NEW/ with the flags g, i and m behind it, not {value!r}")
    mark, flags = found["mark"], found["flags"]
    old, new = (found[name].replace(f"\\{mark}", mark) for name in ("old", "new"))
    try:
        pattern = re.compile(old, sum(kind for flag, kind in (("i", re.I), ("m", re.M)) if flag in flags))
        pattern.sub(new, "")
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(f"--regex {value}: {error}") from error
    return lambda text: pattern.sub(new, text, count=0 if "g" in flags else 1)


def _prefix(value: str) -> OnText:
    return lambda line: line if line.startswith(value) else value + line


def _suffix(value: str) -> OnText:
    return lambda line: line if line.endswith(value) else line + value


def _replace_words(value: str) -> OnText:
    """The function that replaces a word or phrase where no letter or digit goes on at its ends."""
    old, new = _pair(value)
    pattern = whole_words(old)
    return lambda text: pattern.sub(lambda _: new, text)


def _on_lines(operation: Callable[[str], OnText]) -> Callable[[str], OnText]:
    return lambda value: partial(edit_lines, edit=operation(value))


ON_LISTS: dict[str, Callable[[str], Callable[[TagList], TagList]]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "move": _move,
    "sort": _sort,
    "dedupe": _dedupe,
    "regex": _regex_on_tags,
}
ON_LINES: dict[str, Callable[[str], OnText]] = {"prefix": _prefix, "suffix": _suffix}
ON_CAPTIONS: dict[str, Callable[[str], OnText]] = {
    "replace": _replace_words,
    "regex": _substitution,
    **{name: _on_lines(operation) for name, operation in ON_LINES.items()},
}
# The one that has to know all texts, and the one that has to know what tags are.
DROP_RARE, ORDER = "drop_rare", "order"
# Those without a value.
FLAGS = ("sort", "dedupe")
# All of them, in the order of the help.
NAMES = ("add", "remove", "replace", "regex", "move", "sort", ORDER, "dedupe", "prefix", "suffix", DROP_RARE)
