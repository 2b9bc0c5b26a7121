"""Text that a person and sdprep wrote together: taking it apart and putting it together again.

A text is a list of pieces: the tags of a tag file, parted by its separator, or the lines of a caption file. The
person's pieces are never changed; the machine's pieces may be replaced by newer ones; a piece that the person took
out is never put back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sdprep.rules.tags import fold, split_tags


@dataclass(frozen=True, slots=True)
class Parts:
    """Who wrote what: the person's text as it stands, the machine's pieces, the pieces that the person removed."""

    person: str = ""
    machine: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


def normalize(text: str) -> str:
    """Text as sdprep compares it: without byte order mark, carriage returns and trailing newlines."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").rstrip("\r\n")


def take_apart(text: str, known: Parts | None, joiner: str) -> Parts:
    """The person's part of a text, given what the machine last wrote into it (None: nothing).

    A machine piece that is gone was taken out by the person, and is remembered as removed.
    """
    if known is None or not known.machine:
        return Parts(person=normalize(text), removed=known.removed if known else ())
    pieces = split_tags(normalize(text), joiner)
    machine = {fold(piece) for piece in known.machine}
    present = {fold(piece) for piece in pieces}
    person = [piece for piece in pieces if fold(piece) not in machine]
    removed = [piece for piece in known.machine if fold(piece) not in present]
    return Parts(joiner.join(person), removed=_unique([*known.removed, *removed]))


def put_together(parts: Parts, pieces: Iterable[str], where: str, joiner: str) -> tuple[str, Parts]:
    """The text of the person's part and new machine pieces, appended or prepended, and who wrote what in it.

    A piece that the person has already, or has removed, is left out. `where` is "append" or "prepend".
    """
    taken = {fold(piece) for piece in [*split_tags(parts.person, joiner), *parts.removed]}
    machine = tuple(piece for piece in pieces if fold(piece) not in taken)
    added = joiner.join(machine)
    order: Sequence[str] = (parts.person, added) if where == "append" else (added, parts.person)
    return joiner.join(part for part in order if part), Parts(parts.person, machine, parts.removed)


def _unique(pieces: Iterable[str]) -> tuple[str, ...]:
    return tuple({fold(piece): piece for piece in pieces}.values())
