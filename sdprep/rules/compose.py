"""Text that a person and sdprep wrote together: taking it apart and putting it together again.

A text is a list of pieces: the tags of a tag file, parted by its separator, or the lines of a caption file. The
person's pieces are never changed; the machine's pieces may be replaced by newer ones; a piece that the person took
out is never put back.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from sdprep.rules.labels import fold
from sdprep.rules.tags import split_tags


@dataclass(frozen=True, slots=True)
class Parts:
    """Who wrote what: the person's text as it stands, the machine's pieces, the pieces that the person removed."""

    person: str = ""
    machine: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


def normalize(text: str) -> str:
    """Text as sdprep compares it: without byte order mark, carriage returns and trailing newlines."""
    text = text.lstrip("\ufeff")
    return (re.sub(r"\r+\n", "\n", text) if "\r" in text else text).rstrip("\r\n")


def take_apart(text: str, known: Parts | None, joiner: str) -> Parts:
    """The person's part of a text, to the letter, given what the machine last wrote into it (None: nothing).

    A machine piece that is gone was taken out by the person, and is remembered as removed.
    """
    if known is None or not known.machine:
        return Parts(person=normalize(text), removed=known.removed if known else ())
    core = joiner.strip() or joiner
    segments = normalize(text).split(core)
    present = {fold(segment) for segment in segments}
    # A machine piece may hold the separator itself; it is then several segments.
    pieces = {piece: {fold(part) for part in split_tags(piece, joiner)} for piece in known.machine}
    # To the letter: a piece that the person spelt anew is the person's.
    machine = {part for piece in known.machine for part in split_tags(piece, joiner)}
    person = core.join(segment for segment in segments if segment.strip() not in machine)
    removed = [piece for piece, parts in pieces.items() if not parts <= present]
    return Parts(_trimmed(person, core), removed=_unique([*known.removed, *removed]))


def put_together(
    parts: Parts, pieces: Iterable[str], where: str, joiner: str, person_joiner: str | None = None
) -> tuple[str, Parts]:
    """The text of the person's part and new machine pieces, appended or prepended, and who wrote what in it.

    A piece that the person has already, or has removed, is left out. `where` is "append" or "prepend";
    `person_joiner` is what parted the pieces when the person's part was written, if it was not `joiner`.
    """
    persons = split_tags(parts.person, joiner) + split_tags(parts.person, person_joiner or joiner)
    taken = {fold(piece) for piece in [*persons, *parts.removed]}
    machine = tuple(piece for piece in pieces if fold(piece) not in taken)
    added = joiner.join(machine)
    first, second = (parts.person, added) if where == "append" else (added, parts.person)
    return _joined(first, second, joiner), Parts(parts.person, machine, parts.removed)


def _joined(first: str, second: str, joiner: str) -> str:
    """Two texts parted by the joiner, of which a person may have written the beginning at the end of the first."""
    if not first.strip() or not second.strip():
        return first if first.strip() else second
    core = joiner.strip()
    if core and first.rstrip().endswith(core):
        return first.rstrip() + joiner.partition(core)[2] + second
    return first + joiner + second


def _trimmed(text: str, core: str) -> str:
    """A text without the white space, and the separator that parted it from pieces that are gone, at its ends."""
    text = text.strip()
    return text.removesuffix(core).rstrip() if core.strip() else text


def _unique(pieces: Iterable[str]) -> tuple[str, ...]:
    return tuple({fold(piece): piece for piece in pieces}.values())
