"""From the tree of a filter to a function that tells whether a record matches.

A filter is asked about a million records: conditions on tags become one look-up each, with wildcards resolved against
the tags that occur, and cheap conditions are asked first.
"""

from __future__ import annotations

import fnmatch
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache

from sdprep.rules.labels import ESCAPES, fold, normalize_tag
from sdprep.rules.where.record import Record
from sdprep.rules.where.tree import CHOICES, And, Node, Not, Number, Or, Pattern, Text

Test = Callable[[Record], bool]
COMPARE: dict[str, Callable[[float, float], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def like(pattern: Pattern) -> Callable[[str], bool]:
    """What tells whether a folded text is like a pattern."""
    return _like(tuple(fold(part) for part in pattern.parts))


def like_tag(pattern: Pattern) -> Callable[[str], bool]:
    """What tells whether a normalized tag is like a pattern."""
    first, *rest = pattern.parts
    if not rest:
        return _like((normalize_tag(first),))
    parts = (first.lstrip(), *rest[:-1], rest[-1].rstrip())
    return _like(tuple(ESCAPES.sub("", fold(part.replace("_", " "))) for part in parts))


def _like(parts: tuple[str, ...]) -> Callable[[str], bool]:
    if len(parts) == 1:
        return parts[0].__eq__
    if parts[1::2] == ("*", "*") and parts[0] == parts[4] == "":
        return lambda text: parts[2] in text
    if "?" not in parts[1::2]:
        return _in_order(parts[0], parts[2:-1:2], parts[-1])
    # fnmatch takes no time that grows faster than text and pattern do, which an expression of one's own may.
    escaped = (re.sub(r"([*?\[])", r"[\1]", part) if place % 2 == 0 else part for place, part in enumerate(parts))
    found = re.compile(fnmatch.translate("".join(escaped))).match
    return lambda text: found(text) is not None


def _in_order(first: str, middle: tuple[str, ...], last: str) -> Callable[[str], bool]:
    """What tells whether a text begins and ends with these, and has those between in their order."""

    def is_like(text: str) -> bool:
        at, end = len(first), len(text) - len(last)
        if at > end or not text.startswith(first) or not text.endswith(last):
            return False
        for part in middle:
            at = text.find(part, at, end)
            if at < 0:
                return False
            at += len(part)
        return True

    return is_like


class Matcher:
    """Tells whether a record matches a filter. It must have learnt all tags of the record before."""

    def __init__(self, tree: Node) -> None:
        self._known: set[str] = set()
        # What tells whether a tag is like a pattern, with the tags that are.
        self._tags: list[tuple[Callable[[str], bool], set[str]]] = []
        self._test = self._compiled(tree)

    def __call__(self, record: Record) -> bool:
        return self._test(record)

    def learn(self, tags: Iterable[str]) -> None:
        """Resolve wildcards against further normalized tags."""
        if not self._tags:
            return
        new = set(tags) - self._known
        self._known |= new
        for is_like, found in self._tags:
            found.update(filter(is_like, new))

    def _compiled(self, node: Node) -> Test:
        if isinstance(node, Text):
            return self._tag([node.pattern]) if node.field == "tag" else _text(node)
        if isinstance(node, Number):
            return _number(node)
        if isinstance(node, Not):
            part = self._compiled(node.part)
            return lambda record: not part(record)
        return self._joined(node)

    def _joined(self, node: And | Or) -> Test:
        # NOT a AND NOT b is NOT (a OR b), and tags of which one must occur take one look-up together.
        patterns = [_pattern_of(part, inverted=isinstance(node, And)) for part in node.parts]
        pairs = [(_cost(part), self._compiled(part)) for part, own in zip(node.parts, patterns, strict=True) if not own]
        if tags := [own for own in patterns if own is not None]:
            has_one = self._tag(tags)
            pairs.append((_COSTS["tag"], has_one if isinstance(node, Or) else lambda record: not has_one(record)))
        return _chained([test for _, test in sorted(pairs, key=lambda pair: pair[0])], both=isinstance(node, And))

    def _tag(self, patterns: Sequence[Pattern]) -> Test:
        """Whether a record has a tag that is like one of these patterns."""
        wanted = {normalize_tag(pattern.parts[0]) for pattern in patterns if len(pattern.parts) == 1}
        if len(patterns) == len(wanted) == 1:
            (tag,) = wanted
            return lambda record: tag in record.tags
        self._tags += [(like_tag(pattern), wanted) for pattern in patterns if len(pattern.parts) > 1]
        return lambda record: not wanted.isdisjoint(record.tags)


def _pattern_of(node: Node, *, inverted: bool) -> Pattern | None:
    """The pattern of a condition on tags, or of its inversion; None for anything else."""
    if inverted:
        return _pattern_of(node.part, inverted=False) if isinstance(node, Not) else None
    return node.pattern if isinstance(node, Text) and node.field == "tag" else None


def _chained(tests: Sequence[Test], *, both: bool) -> Test:
    """One test for several. In halves, since Python cannot call thousands of functions in one another."""
    if len(tests) == 1:
        return tests[0]
    first, second = (_chained(half, both=both) for half in (tests[: len(tests) // 2], tests[len(tests) // 2 :]))
    if both:
        return lambda record: first(record) and second(record)
    return lambda record: first(record) or second(record)


# How long conditions take; numbers take least.
_COSTS = {"tag": 2, "path": 3, "name": 3, "folder": 3, "caption": 4}


def _cost(node: Node) -> int:
    if isinstance(node, (And, Or)):
        return max(map(_cost, node.parts)) + 1
    return _cost(node.part) if isinstance(node, Not) else _COSTS.get(node.field, 1)


def _text(node: Text) -> Test:
    """A condition on any text but tags."""
    if node.field in CHOICES:
        found = frozenset(filter(like(node.pattern), CHOICES[node.field]))
        if node.field == "failed":
            return lambda record: record.failed in found
        if node.field == "missing":
            return lambda record: not found.isdisjoint(record.missing)
        return lambda record: not found.isdisjoint(record.source)
    is_like = like(node.pattern)
    if node.field == "caption":
        is_like = like(Pattern(("", "*", *node.pattern.parts, "*", "")))
        return lambda record: is_like(fold(record.caption))
    if node.field == "path":
        return lambda record: is_like(fold(record.rel))
    if node.field == "name":
        return lambda record: is_like(fold(record.rel.rpartition("/")[2]))
    if node.field == "folder":
        return lambda record: is_like(fold(record.rel.rpartition("/")[0]))
    # Few models and ratings serve all images.
    is_known = cache(lambda value: is_like(fold(value)))
    if node.field == "rating":
        return lambda record: record.rating != "" and is_known(record.rating)
    return lambda record: any(map(is_known, record.models))


def _number(node: Number) -> Test:
    """A comparison, which holds for nothing that is not known."""
    compare, value = COMPARE[node.operator], node.value
    if node.field == "tokens":
        return lambda record: compare(record.tokens, value)
    if node.field == "width":
        return lambda record: record.width > 0 and compare(record.width, value)
    if node.field == "height":
        return lambda record: record.height > 0 and compare(record.height, value)
    if node.field == "ratio":
        return lambda record: record.height > 0 and compare(record.width / record.height, value)
    tag = normalize_tag(node.tag)
    # What is below the lowest probability that is stored counts as 0.
    return lambda record: len(record.scores) > 0 and compare(record.scores.get(tag, 0.0), value)
