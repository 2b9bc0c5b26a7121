"""Text that the user and sdprep wrote together: splitting and merging it.

A text is a list of pieces: the tags of a tag file, separated by its separator, or the lines of a caption file. The
user's pieces are never changed; generated pieces may be replaced by newer ones; a piece that the user removed is never
added again.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sdprep.rules.labels import normalize_tag
from sdprep.rules.tags import split_tags

# Every line break that str.splitlines knows: programs differ in which ones they use.
LINE_BREAK = re.compile("\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
# More tags than any tagger has. If more pieces were removed, the latest are remembered.
MOST_REMOVED = 20_000


@dataclass(frozen=True, slots=True)
class MixedText:
    """Who wrote what: the user's text as it is, the generated pieces, the pieces that the user removed."""

    user: str = ""
    generated: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


def normalize(text: str) -> str:
    """Text as sdprep compares it: without byte order mark, carriage returns and final newlines."""
    text = text.lstrip("\ufeff")
    return (re.sub(r"\r+\n", "\n", text) if "\r" in text else text).rstrip("\r\n")


def split_user_text(
    text: str, known: MixedText | None, joiner: str, others: Sequence[str] = (), position: str = "append"
) -> MixedText:
    """The user's part of a text, unchanged, given what sdprep last wrote into it (None: nothing).

    A piece that is gone was removed by the user, and is remembered. `others` are further separators that the user may
    have written; `position` is the side of the generated pieces, "append" or "prepend".
    """
    text = normalize(text)
    if known is None:
        return MixedText(text)
    core = joiner.strip() or joiner
    segments = text.split(core)
    generated = _find_pieces([segment.strip() for segment in segments], known.generated, joiner, position)
    user = text
    if generated:
        user = core.join(segment for index, segment in enumerate(segments) if index not in generated)
        user = _trimmed(user, core, start=0 in generated, end=len(segments) - 1 in generated)
    has = _piece_finder(text, joiner, others)
    written = [*_pieces_of(known.user, joiner, others), *known.generated]
    removed = [*known.removed, *(piece for piece in written if not has(piece))]
    each_once = {normalize_tag(piece): piece for piece in removed}
    return MixedText(user, removed=tuple(each_once.values())[-MOST_REMOVED:])


def _find_pieces(segments: list[str], pieces: Iterable[str], joiner: str, position: str) -> set[int]:
    """The indexes of generated segments: those that are exactly a piece, and each piece once.

    A piece that the user spelled differently or wrote a second time is the user's.
    """
    indexes: dict[str, list[int]] = defaultdict(list)
    # The generated pieces are at one side, so they are looked for from there.
    for index in range(len(segments)) if position == "append" else reversed(range(len(segments))):
        indexes[segments[index]].append(index)
    found: set[int] = set()
    # A piece that contains the separator is several segments.
    for parts in sorted((split_tags(piece, joiner) for piece in pieces), key=len, reverse=True):
        for first in reversed(indexes.get(parts[0], []) if parts else []):
            block = range(first, first + len(parts))
            if segments[first : block.stop] == parts and found.isdisjoint(block):
                found.update(block)
                break
    return found


def merge_generated(
    parts: MixedText, pieces: Iterable[str], position: str, joiner: str, others: Sequence[str] = ()
) -> tuple[str, MixedText]:
    """The text of the user's part and newly generated pieces, and who wrote what in it.

    A piece that the user has already, or has removed, is left out. `position` is "append" or "prepend"; `others` are
    further separators that may be between the user's pieces.
    """
    removed, has = {normalize_tag(piece) for piece in parts.removed}, _piece_finder(parts.user, joiner, others)
    generated = tuple(piece for piece in pieces if normalize_tag(piece) not in removed and not has(piece))
    written = MixedText(parts.user, generated, parts.removed)
    return text_of(written, position, joiner), written


def text_of(parts: MixedText, position: str, joiner: str) -> str:
    """The user's part and the generated pieces as one text."""
    added = joiner.join(parts.generated)
    return _joined(parts.user, added, joiner) if position == "append" else _joined(added, parts.user, joiner)


def _piece_finder(text: str, joiner: str, others: Sequence[str]) -> Callable[[str], bool]:
    """A function that tells whether a text has a piece, in any spelling and between any of these separators."""
    text, cores = LINE_BREAK.sub("\n", text), _cores(joiner, others)
    framed = [(core, _framed(text, core)) for core in cores]
    single = {normalize_tag(piece) for piece in _pieces_of(text, joiner, others)}
    return lambda piece: normalize_tag(piece) in single or any(_framed(piece, core) in line for core, line in framed)


def _pieces_of(text: str, joiner: str, others: Sequence[str]) -> list[str]:
    """The pieces of a text in which the user may have written several separators."""
    cores = _cores(joiner, others)
    # A space separates only if it is the only separator.
    marks = [core for core in cores if core.strip() or core in "\n\t"] or cores
    pieces = re.split("|".join(map(re.escape, marks)), LINE_BREAK.sub("\n", text))
    return [piece.strip() for piece in pieces if piece.strip()]


def _cores(joiner: str, others: Sequence[str]) -> list[str]:
    """Separators as they are searched for: without the spaces around them, and every line break as \\n."""
    return list(dict.fromkeys(LINE_BREAK.sub("\n", each.strip() or each) for each in (joiner, *others)))


def _framed(text: str, core: str) -> str:
    """The normalized pieces of a text, each between two NULs, which no text contains."""
    return "".join(("\0", *(f"{normalize_tag(part)}\0" for part in text.split(core) if part.strip())))


def _joined(first: str, second: str, joiner: str) -> str:
    """Two texts with the joiner between them; the first may already end with its visible part."""
    if not first.strip() or not second.strip():
        return first if first.strip() else second
    core = joiner.strip()
    if core and first.rstrip().endswith(core):
        return first.rstrip() + joiner.partition(core)[2] + second
    return first + joiner + second


def _trimmed(text: str, core: str, *, start: bool, end: bool) -> str:
    """A text without what separated it from the generated pieces at its start or end."""
    if not core.strip():
        return text
    if start:
        text = text.lstrip()
    return text.rstrip().removesuffix(core).rstrip() if end else text
