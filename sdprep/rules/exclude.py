"""Lists of tags as users type them, and the tags that they mean: names, wildcards, regular expressions."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sdprep.errors import UsageError
from sdprep.rules.labels import normalize_tag

# The comma, and those of Chinese and Japanese keyboards.
COMMAS, SEMICOLONS = ",\uff0c\u3001", ";\uff1b"
# What people and their shells put around a tag.
QUOTES = {'"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019"}
ENTRY = re.compile(rf"(?:\\[{COMMAS}]|[^{COMMAS}])+")
EXCLUSION = re.compile(rf"\s*(/.+?/(?=\s*(?:[{COMMAS}]|$))|{ENTRY.pattern})")


def split_list(text: str) -> tuple[str, ...]:
    r"""The entries of a list separated by commas, without quotes around them; `\,` is a literal comma."""
    entries = (unquoted(entry.strip()) for entry in ENTRY.findall(unquoted(text.strip())))
    return tuple(_with_literal_commas(entry) for entry in entries if entry)


def parse_exclusions(text: str) -> tuple[str, ...]:
    """The entries of a list as `split_list` gives them, except that a comma inside `/.../` does not separate."""
    entries = (unquoted(entry.strip()) for entry in EXCLUSION.findall(unquoted(text.strip())))
    return tuple(entry if is_regex(entry) else _with_literal_commas(entry) for entry in entries if entry)


def unquoted(text: str) -> str:
    """A text without the quotes around it, if they belong together."""
    inner = text[1:-1]
    is_quoted = len(text) > 1 and QUOTES.get(text[0]) == text[-1] and not {text[0], text[-1]} & set(inner)
    return inner.strip() if is_quoted else text


def _with_literal_commas(entry: str) -> str:
    return re.sub(rf"\\([{COMMAS}])", r"\1", entry)


def is_regex(entry: str) -> bool:
    """Whether an entry is a regular expression."""
    return len(entry) > 2 and entry[0] == entry[-1] == "/"


class Wildcard:
    """A pattern of a whole text, in which `*` matches any characters and `?` matches one.

    It takes linear time in the text, whatever the pattern; `re` takes exponential time for some patterns.
    """

    def __init__(self, pattern: str) -> None:
        # Bit n of a state means that the first n characters of the pattern, not counting stars, have matched.
        self._stars, self._any, self._letters, bit = 0, 0, dict[str, int](), 1
        for letter in pattern:
            if letter == "*":
                self._stars |= bit
                continue
            if letter == "?":
                self._any |= bit
            else:
                self._letters[letter] = self._letters.get(letter, 0) | bit
            bit <<= 1
        self._end = bit

    def search(self, text: str) -> bool:
        """Return whether the pattern matches the text from its first to its last character."""
        state = 1
        for letter in text:
            state = (state & (self._any | self._letters.get(letter, 0))) << 1 | state & self._stars
            if not state:
                return False
        return bool(state & self._end)


def compile_exclusion(entry: str) -> re.Pattern[str] | Wildcard | None:
    """Return the pattern of an entry: `/.../` is a regular expression, `*` or `?` make a wildcard; else None.

    Raises UsageError for an invalid regular expression.
    """
    if is_regex(entry):
        try:
            return re.compile(entry[1:-1], re.IGNORECASE)
        except (re.error, RecursionError, OverflowError) as error:
            raise UsageError(f"{entry} is not a valid regular expression: {error}") from error
    if "*" in entry or "?" in entry:
        return Wildcard(normalize_tag(entry))
    return None


class TagSet:
    """The tags that entries mean. An entry that is the name of a known tag, such as `?` or `*_*`, means that tag.

    Raises UsageError as `compile_exclusion`.
    """

    def __init__(self, entries: Iterable[str], known: Iterable[str]) -> None:
        names, entries = {normalize_tag(name) for name in known}, tuple(entries)
        patterns = {entry: None if normalize_tag(entry) in names else compile_exclusion(entry) for entry in entries}
        self._exact = {normalize_tag(entry) for entry, pattern in patterns.items() if pattern is None}
        self._patterns = [pattern for pattern in patterns.values() if pattern is not None]

    def __contains__(self, tag: str) -> bool:
        normalized = normalize_tag(tag)
        spellings = {tag, normalized, normalized.replace(" ", "_")}
        return normalized in self._exact or any(
            pattern.search(spelling) for pattern in self._patterns for spelling in spellings
        )
