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
from functools import cached_property, lru_cache

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


@dataclass(frozen=True)
class Layout:
    """How a text has its tags. The operations of one edit share that of the text before the first of them."""

    text: str

    @cached_property
    def mark(self) -> str:
        """What separates the tags of a line; a comma if no other mark stands between two tags."""
        if COMMA in self.text:
            return COMMA
        mark = own_separator(self.text).strip()
        # An emoticon such as ;) begins or ends with a mark.
        is_separator = mark and all(piece.strip() for piece in self.text.strip().removesuffix(mark).split(mark))
        return mark if is_separator else COMMA

    @cached_property
    def has_one_line(self) -> bool:
        """Whether all is on one line."""
        return LINE_BREAK.search(self.text.strip()) is None

    @cached_property
    def has_a_tag_a_line(self) -> bool:
        """Whether the lines are one list, with one tag a line."""
        return not self.has_one_line and LINE_BREAK.search(own_separator(self.text)) is not None

    @cached_property
    def separator(self) -> str | None:
        """What stands between most of the tags, with one mark; None if nowhere are two in a list."""
        gaps: list[str] = []

        def collect(tags: TagList) -> TagList:
            gaps.extend(tags.gaps[1:-1])
            return tags

        edit_lists(self.text, collect, self)
        return self.most_common(gaps)

    def most_common(self, gaps: Sequence[str]) -> str | None:
        """The most common one of these gaps, each without the marks of empty places; None if there are no gaps."""
        counted = Counter[str]()
        for gap, count in Counter(gaps).items():
            counted[self._with_one_mark(gap)] += count
        return max(counted, key=lambda gap: counted[gap]) if counted else None

    def at(self, text: str) -> Layout:
        """The layout of the text after some operations: still this one, or a new one if this has no separator."""
        return self if text == self.text or self.separator is not None else Layout(text)

    def _with_one_mark(self, gap: str) -> str:
        if gap.count(self.mark) < 2:
            return gap
        marks: list[str] = re.findall(rf"\s*{re.escape(self.mark)}\s*", gap)
        return max(marks, key=lambda each: (LINE_BREAK.search(each) is not None, len(each)))


@dataclass(frozen=True, slots=True)
class TagList:
    """Tags with what stands between them: `gaps` has one entry more than `tags`, for both ends too.

    `layout` is that of the whole text.
    """

    tags: tuple[str, ...]
    gaps: tuple[str, ...]
    layout: Layout

    def __str__(self) -> str:
        return self.gaps[0] + "".join(tag + gap for tag, gap in zip(self.tags, self.gaps[1:], strict=True))

    @property
    def separator(self) -> str:
        """What a new tag is separated with: as most tags of the text are, or of this list if the text has several."""
        has_one_list = self.layout.has_one_line or self.layout.has_a_tag_a_line
        own = None if has_one_list else self.layout.most_common(self.gaps[1:-1])
        return own or self.layout.separator or DEFAULT_SEPARATOR

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
            return self._with((tag,), (lead, gaps[0][len(lead) :]))
        new = (*tags[:place], tag, *tags[place:])
        if place == len(tags):
            return self._with(new, (*gaps[:-1], self.separator, gaps[-1]))
        between = self.separator if place == 0 else gaps[place]
        return self._with(new, (*gaps[: place + 1], between, *gaps[place + 1 :]))

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
        return self._with(rest, (*gaps[:place], kept, *gaps[place + 2 :]))

    def replace(self, place: int, tag: str) -> TagList:
        """The list with another tag at this place."""
        return self._with((*self.tags[:place], tag, *self.tags[place + 1 :]), self.gaps)

    def ordered(self, tags: Sequence[str]) -> TagList:
        """The list with its tags in another order; what stands between the places stays there."""
        return self._with(tuple(tags), self.gaps)

    def _with(self, tags: tuple[str, ...], gaps: tuple[str, ...]) -> TagList:
        return TagList(tags, gaps, self.layout)


def edit_lists(text: str, edit: Callable[[TagList], TagList], layout: Layout | None = None) -> str:
    """The text after an edit of each of its lists; its layout counts unless there is one from before other edits."""
    known = layout or Layout(text)
    return edit_lines(text, lambda line: str(edit(_parse(line, known))), known)


def edit_lines(text: str, edit: Callable[[str], str], layout: Layout | None = None) -> str:
    """The text after an edit of each of its lines; blank lines of several stay as they are.

    With a layout of one tag a line, the lines are edited together.
    """
    if LINE_BREAK.search(text.strip()) is None or (layout is not None and layout.has_a_tag_a_line):
        end = ENDS.search(text)
        # The final newline is no part of the line.
        return edit(text) if end is None else edit(text[: end.start()]) + end[0]
    return LINE.sub(lambda line: edit(line[0]), text)


def tags_in(text: str, layout: Layout | None = None) -> list[str]:
    """The tags of a text as they are spelled in it, in its order; `layout` is that from before edits of the text."""
    has_commas = COMMA in text if layout is None else layout.mark == COMMA
    if has_commas and text.isascii() and text.rstrip("\n").isprintable():
        # As below, which takes ten times as long.
        return [tag for each in text.split(COMMA) if (tag := each.strip())]
    found: list[str] = []

    def collect(tags: TagList) -> TagList:
        found.extend(tags.tags)
        return tags

    edit_lists(text, collect, layout)
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


def _parse(text: str, layout: Layout) -> TagList:
    pieces = _splitter(layout.mark).split(text)
    tags, gaps = pieces[1::2], pieces[::2]
    return TagList(tuple(tags), tuple(gaps), layout)


@lru_cache
def _splitter(mark: str) -> re.Pattern[str]:
    """The pattern of a tag between marks and line breaks, without the white space around it."""
    inside = rf"[^\s{MARK}{re.escape(mark)}]"
    between = rf"[^{BREAKS}{re.escape(mark)}]"
    return re.compile(rf"({inside}(?:{between}*{inside})?)")
