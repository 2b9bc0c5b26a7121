"""The tree of a filter: conditions, and NOT, AND and OR over them. `str` of a node is text that parses to it again."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sdprep.types import FailureCode

# The fields with texts, and the fields of Record that they ask about.
TEXTS = {
    "tag": ("tags",),
    "caption": ("caption",),
    "path": ("rel",),
    "name": ("rel",),
    "folder": ("rel",),
    "rating": ("rating",),
    "source": ("source",),
    "model": ("models",),
    "missing": ("missing",),
    "failed": ("failed",),
}
# The fields with numbers.
NUMBERS = {
    "width": ("width",),
    "height": ("height",),
    "ratio": ("width", "height"),
    "tokens": ("tokens",),
    "score": ("scores",),
}
# Fields whose values are known.
CHOICES = {
    "source": ("machine", "user", "mixed"),
    "missing": ("tags", "caption"),
    "failed": tuple(code.value for code in FailureCode),
}
OPERATORS = ("<=", ">=", "==", "!=", "=", "<", ">")
# What needs no quotes, and what a backslash makes literal.
PLAIN = re.compile(r"""[^\s"'()\\*?]*""")
SPECIAL = re.compile(r"""([\\*?"'])""")


@dataclass(frozen=True, slots=True)
class Pattern:
    """A text with wildcards: literal text at even places of `parts`, and `*` or `?` at odd ones."""

    parts: tuple[str, ...]

    def __str__(self) -> str:
        parts = [SPECIAL.sub(r"\\\1", part) if place % 2 == 0 else part for place, part in enumerate(self.parts)]
        text = "".join(parts)
        return text if text and PLAIN.fullmatch("".join(parts[::2])) else f'"{text}"'


@dataclass(frozen=True, slots=True)
class Text:
    """A field that must be like a pattern."""

    field: str
    pattern: Pattern

    def __str__(self) -> str:
        return f"{self.field}:{self.pattern}"


@dataclass(frozen=True, slots=True)
class Number:
    """A field that is compared with a number, as it was spelled: `16/9`. `tag` is that of a score."""

    field: str
    operator: str
    number: str
    tag: str = ""

    @property
    def value(self) -> float:
        """The number."""
        above, _, below = self.number.partition("/")
        return float(above) / float(below or 1)

    def __str__(self) -> str:
        return f"{self.field}{f'({Pattern((self.tag,))})' if self.tag else ''}{self.operator}{self.number}"


@dataclass(frozen=True, slots=True)
class Not:
    """What must not hold; it is not a Not itself."""

    part: Node

    def __str__(self) -> str:
        return f"NOT {self.part}" if isinstance(self.part, (Text, Number)) else f"NOT ({self.part})"


@dataclass(frozen=True, slots=True)
class And:
    """Conditions of which all must hold; none is an And itself."""

    parts: tuple[Node, ...]

    def __str__(self) -> str:
        return " AND ".join(f"({part})" if isinstance(part, Or) else str(part) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Or:
    """Conditions of which one must hold; none is an Or itself."""

    parts: tuple[Node, ...]

    def __str__(self) -> str:
        return " OR ".join(map(str, self.parts))


Node = Text | Number | Not | And | Or


def fields_of(node: Node) -> frozenset[str]:
    """The names of the fields of Record that a filter asks about."""
    if isinstance(node, (And, Or)):
        return frozenset().union(*map(fields_of, node.parts))
    if isinstance(node, Not):
        return fields_of(node.part)
    return frozenset((TEXTS if isinstance(node, Text) else NUMBERS)[node.field])


def scored_tags(node: Node) -> frozenset[str]:
    """The tags whose scores a filter asks for, as they were written."""
    if isinstance(node, (And, Or)):
        return frozenset().union(*map(scored_tags, node.parts))
    if isinstance(node, Not):
        return scored_tags(node.part)
    return frozenset({node.tag} if isinstance(node, Number) and node.tag else ())
