"""A list of tags as it is written: the tags, and every character between them.

What separates tags is found in the text: a comma, another mark that the user chose, or a line break. A text of
several lines is one list if it has one tag a line, and else a list in each line, as trainers read one line of it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from sdprep.rules.labels import normalize_tag
from sdprep.rules.mixed_text import DEFAULT_SEPARATOR, LINE_BREAK, own_separator

COMMA = ","
# What may stand before the first tag besides separators.
MARK = "\ufeff"
BREAKS = "\n\r\v\f\x1c-\x1e\x85\u2028\u2029"
ACCENTS = "\u0300-\u036f"
ENDS = re.compile(rf"[{BREAKS}]+\Z")
# A line with something in it, without its end.
LINE = re.compile(rf"[^{BREAKS}]*[^\s{MARK}][^{BREAKS}]*")


@dataclass(frozen=True, slots=True)
class TagList:
    """Tags with what stands between them: `gaps` has one entry more than `tags`, for both ends too."""

    tags: tuple[str, ...]
    gaps: tuple[str, ...]

    def __str__(self) -> str:
        return self.gaps[0] + "".join(tag + gap for tag, gap in zip(self.tags, self.gaps[1:], strict=True))

    @property
    def separator(self) -> str:
        """What stands between most of the tags."""
        inner = Counter(self.gaps[1:-1])
        return max(inner, key=lambda gap: inner[gap]) if inner else DEFAULT_SEPARATOR

    def find(self, tag: str) -> int | None:
        """The place of a tag in any spelling, or None."""
        wanted = normalize_tag(tag)
        return next((place for place, each in enumerate(self.tags) if normalize_tag(each) == wanted), None)

    def insert(self, place: int, tag: str) -> TagList:
        """The list with one tag more, at this place or at the end if there are fewer."""
        tags, gaps = self.tags, self.gaps
        place = min(place, len(tags))
        if not tags:
            # A byte order mark stays first, and a final newline last.
            lead = gaps[0][: len(gaps[0]) - len(gaps[0].lstrip(MARK))]
            return TagList((tag,), (lead, gaps[0][len(lead) :]))
        new = (*tags[:place], tag, *tags[place:])
        if place == len(tags):
            return TagList(new, (*gaps[:-1], self.separator, gaps[-1]))
        between = self.separator if place == 0 else gaps[place]
        return TagList(new, (*gaps[: place + 1], between, *gaps[place + 1 :]))

    def remove(self, place: int) -> TagList:
        """The list without the tag at this place; of the two gaps beside it one stays, that with a line break first."""
        tags, gaps = self.tags, self.gaps
        rest = (*tags[:place], *tags[place + 1 :])
        before, after = gaps[place], gaps[place + 1]
        if not rest:
            kept = before + after
        elif place == 0:
            kept = before
        elif place == len(tags) - 1 or (LINE_BREAK.search(after) and not LINE_BREAK.search(before)):
            kept = after
        else:
            kept = before
        return TagList(rest, (*gaps[:place], kept, *gaps[place + 2 :]))

    def replace(self, place: int, tag: str) -> TagList:
        """The list with another tag at this place."""
        return TagList((*self.tags[:place], tag, *self.tags[place + 1 :]), self.gaps)

    def ordered(self, tags: Sequence[str]) -> TagList:
        """The list with its tags in another order; what stands between the places stays there."""
        return TagList(tuple(tags), self.gaps)


def edit_lists(text: str, edit: Callable[[TagList], TagList]) -> str:
    """The text after an edit of each of its lists."""
    mark = _mark_of(text)
    return edit_lines(text, lambda line: str(edit(_parse(line, mark))), one_tag_a_line=True)


def edit_lines(text: str, edit: Callable[[str], str], *, one_tag_a_line: bool = False) -> str:
    """The text after an edit of each of its lines; blank lines of several stay as they are.

    With `one_tag_a_line`, lines that are that are edited together.
    """
    is_one = LINE_BREAK.search(text.strip()) is None
    if is_one or (one_tag_a_line and LINE_BREAK.search(own_separator(text))):
        end = ENDS.search(text)
        # The final newline is no part of the line.
        return edit(text) if end is None else edit(text[: end.start()]) + end[0]
    return LINE.sub(lambda line: edit(line[0]), text)


def tags_in(text: str) -> list[str]:
    """The tags of a text as they are spelled in it, in its order."""
    if COMMA in text and text.isascii() and text.rstrip("\n").isprintable():
        # As below, which takes ten times as long.
        return [tag for each in text.split(COMMA) if (tag := each.strip())]
    found: list[str] = []

    def collect(tags: TagList) -> TagList:
        found.extend(tags.tags)
        return tags

    edit_lists(text, collect)
    return found


def whole_words(text: str, flags: int = 0) -> re.Pattern[str]:
    """The pattern of a word or phrase where no letter, digit or accent goes on at its ends; accents as NFC or NFD."""
    forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD")]
    # Scripts without letter case write no spaces between words.
    before, after = (
        look if edge.isdigit() or edge.lower() != edge.upper() else ""
        for look, edge in ((r"(?<!\w)", forms[0][0]), (rf"(?![\w{ACCENTS}])", forms[0][-1]))
    )
    return re.compile(f"{before}(?:{'|'.join(map(re.escape, dict.fromkeys([text, *forms])))}){after}", flags)


def _mark_of(text: str) -> str:
    """What separates the tags of a line; a comma if no other mark stands between two tags."""
    if COMMA in text:
        return COMMA
    mark = own_separator(text).strip()
    # An emoticon such as ;) begins or ends with a mark.
    is_separator = mark and all(piece.strip() for piece in text.strip().removesuffix(mark).split(mark))
    return mark if is_separator else COMMA


def _parse(text: str, mark: str) -> TagList:
    pieces = _splitter(mark).split(text)
    tags, gaps = pieces[1::2], pieces[::2]
    return TagList(tuple(tags), tuple(gaps))


@lru_cache
def _splitter(mark: str) -> re.Pattern[str]:
    """The pattern of a tag between marks and line breaks, without the white space around it."""
    inside = rf"[^\s{MARK}{re.escape(mark)}]"
    between = rf"[^{BREAKS}{re.escape(mark)}]"
    return re.compile(rf"({inside}(?:{between}*{inside})?)")
