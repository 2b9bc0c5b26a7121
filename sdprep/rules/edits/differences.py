"""What a change takes out of a text and puts into it: by tags, or by words if the text has sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import takewhile
from typing import Literal

from sdprep.rules.edits.spans import tags_in

# Words of the longest piece between two commas that is taken for a tag; a sentence has more.
LONGEST_TAG = 5
# Comparing more pieces would take long: what differs is shown in one.
MOST_COMPARED = 1_000
Kind = Literal["same", "removed", "added"]


def differences(before: str | None, after: str | None) -> list[tuple[Kind, str]]:
    """The pieces of both texts in their order, those in a row together; None: no file."""
    texts = before or "", after or ""
    words = any(len(tag.split()) > LONGEST_TAG for text in texts for tag in tags_in(text))
    old, new = (re.findall(r"\S+", text) if words else tags_in(text) for text in texts)
    joiner = " " if words else ", "
    return [(kind, joiner.join(pieces)) for kind, pieces in _changes(old, new) if pieces]


def _changes(old: Sequence[str], new: Sequence[str]) -> Iterator[tuple[Kind, Sequence[str]]]:
    start = _equal(old, new)
    end = _equal(old[start:][::-1], new[start:][::-1])
    gone, added = old[start : len(old) - end], new[start : len(new) - end]
    yield "same", old[:start]
    if max(len(gone), len(added)) > MOST_COMPARED:
        yield "removed", gone
        yield "added", added
    else:
        for kind, a, b, c, d in SequenceMatcher(None, gone, added, autojunk=False).get_opcodes():
            if kind == "equal":
                yield "same", gone[a:b]
            else:
                yield "removed", gone[a:b]
                yield "added", added[c:d]
    yield "same", old[len(old) - end :]


def _equal(old: Sequence[str], new: Sequence[str]) -> int:
    """How many pieces are equal from the start."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))
