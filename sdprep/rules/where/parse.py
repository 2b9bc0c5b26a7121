"""Reading a filter such as `tag:hat AND NOT (path:sub/* OR tokens>75)`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite

from sdprep.errors import UsageError
from sdprep.rules.where.match import Matcher, like
from sdprep.rules.where.tree import (
    CHOICES,
    NUMBERS,
    OPERATORS,
    TEXTS,
    And,
    Node,
    Not,
    Number,
    Or,
    Pattern,
    Text,
    fields_of,
    scored_tags,
)

# Nobody nests deeper by hand, and Python cannot recurse without end.
MOST_NESTED = 50
# Characters of a long filter that a message shows before and after the fault.
BEFORE, AFTER = 60, 20
NAME = re.compile(r"[^\W\d]\w*")
OPERATOR = re.compile("|".join(OPERATORS))
NUMBER = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:/(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))?")
EXAMPLES = "a condition such as tag:hat or tokens>75"


@dataclass(frozen=True, slots=True)
class Where:
    """A filter that was parsed; `str` gives its text in one spelling."""

    tree: Node

    @property
    def fields(self) -> frozenset[str]:
        """The names of the fields of Record that it asks about: only those have to be read."""
        return fields_of(self.tree)

    @property
    def scored(self) -> frozenset[str]:
        """The tags whose scores it asks for, as they were written."""
        return scored_tags(self.tree)

    def matcher(self, vocabulary: Iterable[str] = ()) -> Matcher:
        """What tells whether a record matches; `vocabulary` are the normalized tags of all records to come."""
        matcher = Matcher(self.tree)
        matcher.learn(vocabulary)
        return matcher

    def __str__(self) -> str:
        return str(self.tree)


class WhereError(UsageError):
    """A filter that cannot be read; the fault is `at` this character."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.at = at


def parse(text: str) -> Where:
    """Read a filter. Raises WhereError, which shows the text with a caret under the fault."""
    return Where(_Parser(text).parse())


class _Parser:
    """Reads a text from left to right; `_at` is the place of the next character."""

    def __init__(self, text: str) -> None:
        self._text, self._at, self._level = text, 0, 0

    def parse(self) -> Node:
        tree = self._either()
        if self._at < len(self._text):
            if self._text[self._at] == ")":
                raise self._fault("there is no ( for this )")
            raise self._fault('expected AND, OR or the end; a value with spaces needs quotes, as in tag:"long hair"')
        return tree

    def _either(self) -> Node:
        return self._chain("OR", Or)

    def _chain(self, word: str, kind: type[And] | type[Or]) -> Node:
        """One condition, or several with this word between them."""
        parts: list[Node] = []
        while True:
            part = self._chain("AND", And) if kind is Or else self._inverted()
            # What was in parentheses.
            parts += part.parts if isinstance(part, kind) else [part]
            if not self._takes(word):
                return parts[0] if len(parts) == 1 else kind(tuple(parts))

    def _inverted(self) -> Node:
        inverted = False
        while self._takes("NOT"):
            inverted = not inverted
        found = self._condition()
        if inverted:
            return found.part if isinstance(found, Not) else Not(found)
        return found

    def _condition(self) -> Node:
        self._skip_spaces()
        if self._text.startswith("(", self._at):
            self._level += 1
            if self._level > MOST_NESTED:
                raise self._fault(f"more than {MOST_NESTED} parentheses are nested")
            opened, self._at = self._at, self._at + 1
            found = self._either()
            if not self._text.startswith(")", self._at):
                if self._at < len(self._text):
                    raise self._fault("expected AND, OR or )")
                raise self._fault("this ( has no )", opened)
            self._at += 1
            self._level -= 1
            self._skip_spaces()
            return found
        found = self._term()
        self._skip_spaces()
        return found

    def _term(self) -> Node:
        start, name = self._at, NAME.match(self._text, self._at)
        if name is None:
            raise self._fault(f"expected {EXAMPLES}")
        field, self._at = name[0].lower(), name.end()
        if field in TEXTS:
            if not self._text.startswith(":", self._at):
                raise self._fault(
                    f"expected : and a value after {field}, as in {field}:{CHOICES.get(field, ('hat',))[0]}"
                )
            self._at += 1
            return self._text_condition(field)
        if field in NUMBERS:
            return self._comparison(field)
        close = get_close_matches(field, [*TEXTS, *NUMBERS], 1)
        known = f"did you mean {close[0]}?" if close else f"fields are {', '.join([*TEXTS, *NUMBERS])}"
        raise self._fault(f"expected {EXAMPLES}; {name[0]} is not a field: {known}", start)

    def _text_condition(self, field: str) -> Text:
        start, pattern = self._at, self._value()
        if pattern.parts == ("",) and field != "folder":
            raise self._fault(f"expected a value after {field}:", start)
        choices = CHOICES.get(field, ())
        if choices and not any(map(like(pattern), choices)):
            raise self._fault(f"expected one of {', '.join(choices)}", start)
        return Text(field, pattern)

    def _comparison(self, field: str) -> Number:
        tag = self._scored_tag() if field == "score" else ""
        self._skip_spaces()
        colon = self._text.startswith(":", self._at)
        self._at += colon
        self._skip_spaces()
        found = OPERATOR.match(self._text, self._at)
        if found is None and not colon:
            raise self._fault(f"expected one of = != < <= > >= after {field}{'(...)' if tag else ''}")
        operator = "=" if found is None or found[0] == "==" else found[0]
        self._at = self._at if found is None else found.end()
        self._skip_spaces()
        start, number = self._at, NUMBER.match(self._text, self._at)
        end = start if number is None else number.end()
        if number is None or not (end == len(self._text) or self._text[end].isspace() or self._text[end] == ")"):
            raise self._fault("expected a number such as 75, 0.5 or 16/9")
        self._at = end
        condition = Number(field, operator, number[0], tag)
        try:
            is_number = isfinite(condition.value)
        except ZeroDivisionError:
            is_number = False
        if not is_number:
            raise self._fault("expected a number that is not infinite", start)
        return condition

    def _scored_tag(self) -> str:
        if not self._text.startswith("(", self._at):
            raise self._fault("expected a tag in parentheses after score, as in score(hat)<0.5")
        opened, self._at = self._at, self._at + 1
        start, pattern = self._at, self._value()
        if not self._text.startswith(")", self._at):
            raise self._fault("this ( has no )" if self._at >= len(self._text) else "expected )", opened)
        self._at += 1
        if len(pattern.parts) > 1:
            raise self._fault(r"expected one tag without wildcards; \* and \? stand for these characters", start)
        if not pattern.parts[0].strip():
            raise self._fault("expected a tag", start)
        return pattern.parts[0]

    def _value(self) -> Pattern:
        """A value up to its quote, or else up to a space or a `)` for which it has no `(`."""
        quote = self._text[self._at : self._at + 1]
        if quote not in ('"', "'"):
            quote = ""
        opened, self._at = self._at, self._at + len(quote)
        parts, level = [""], 0
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == quote:
                break
            level += (char == "(") - (char == ")")
            if not quote and (char.isspace() or level < 0):
                break
            self._at += 1
            if char in ("*", "?"):
                parts += [char, ""]
                continue
            if char == "\\" and (after := self._text[self._at : self._at + 1]) in ("\\", "*", "?", '"', "'") and after:
                char, self._at = after, self._at + 1
            parts[-1] += char
        if quote:
            if self._at == len(self._text):
                raise self._fault("this quote has no end", opened)
            self._at += 1
        return Pattern(tuple(parts))

    def _takes(self, word: str) -> bool:
        """Whether a word comes next, in any case; then it is skipped."""
        self._skip_spaces()
        end = self._at + len(word)
        after = self._text[end : end + 1]
        is_there = self._text[self._at : end].upper() == word and (not after or after == "(" or after.isspace())
        self._at = end if is_there else self._at
        return is_there

    def _skip_spaces(self) -> None:
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1

    def _fault(self, fault: str, place: int | None = None) -> WhereError:
        """The error for what is wrong at a place of the text."""
        place = self._at if place is None else place
        before, after = _shown(self._text[:place]), _shown(self._text[place:])
        before = before if len(before) <= BEFORE else f"...{before[-BEFORE:]}"
        after = after if len(after) <= AFTER else f"{after[:AFTER]}..."
        return WhereError(f"--where: {fault}\n  {before}{after}\n  {' ' * _columns(before)}^", place)


def _shown(text: str) -> str:
    """The text on one line."""
    return "".join(char if char.isprintable() else " " for char in text)


def _columns(text: str) -> int:
    """How many columns of a terminal a text takes: East Asian characters take two, combining ones none."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) > 0 for char in text)
