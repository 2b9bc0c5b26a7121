"""Text that the user and sdprep wrote together: its parts, reading them out of a file, and putting them together.

A text is a list of parts in the order of the file: the user's, and one for each model that captioned or tagged the
image. A part is a list of pieces: tags, or captions. The user's part is never changed; a model's part may be replaced
by a newer one of the same model, in its place; a piece that the user removed is never added again.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sdprep.rules.labels import normalize_tag

Settings = Mapping[str, Any]
# Every line break that str.splitlines knows: programs differ in which ones they use.
LINE_BREAK = re.compile("\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
# More tags than any tagger has. If more pieces were removed, the latest are remembered.
MOST_REMOVED = 20_000
# The author of the part that no model wrote.
USER = "user"
# What users separate tags with, whatever the separator of a run is.
TAG_SEPARATORS = (",", ";", "|", "\n", "\t", "\uff0c", "\uff1b", "\u3001")
DEFAULT_SEPARATOR = ", "
# Between the models of a text, in its settings.
MODELS = " + "


@dataclass(frozen=True, slots=True)
class Part:
    """What one author wrote in a sidecar: the user, whose text is one piece, or a model.

    `author` is "user" or the task of the model. `joiner` separates the pieces, and the part from its neighbours;
    `settings` are all that shaped the pieces; `digest` is the SHA-256 of the image that they describe. `prompt` has the
    hash of what a captioner was asked about it ("hash"), and the values of the variables in that; nothing if the prompt
    has none.
    """

    author: str
    pieces: tuple[str, ...]
    joiner: str = DEFAULT_SEPARATOR
    settings: Settings = field(default_factory=dict)
    digest: bytes = b""
    prompt: Mapping[str, str] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """The name of the model, or of several; another version of its files is the same model."""
        models = str(self.settings.get("model", "")).split(MODELS)
        return MODELS.join(re.split(r"[@#](?=[^@#]*$)", each)[0] for each in models)

    @property
    def text(self) -> str:
        """The pieces as one text."""
        return self.joiner.join(self.pieces)

    def is_by(self, other: Part) -> bool:
        """Whether both parts have the same author: the user, or one model."""
        return self.author == other.author and (self.author == USER or self.model == other.model)


@dataclass(frozen=True, slots=True)
class MixedText:
    """The parts of a text in their order, none of them twice, and what the user removed from it.

    `separators` are further ones with which the user's part was once read.
    """

    parts: tuple[Part, ...] = ()
    removed: tuple[str, ...] = ()
    separators: tuple[str, ...] = ()

    @property
    def user(self) -> str:
        """The user's part; empty if there is none."""
        return next((part.text for part in self.parts if part.author == USER), "")

    @property
    def generated(self) -> tuple[Part, ...]:
        """The parts of models."""
        return tuple(part for part in self.parts if part.author != USER)

    @property
    def tags(self) -> list[str]:
        """The tags of the text: what taggers and the user wrote, without what captioners wrote."""
        separators = (*self.separators, *TAG_SEPARATORS)
        parts = (part for part in self.parts if part.author != "caption")
        return [
            tag for part in parts for tag in (pieces_of(part.text, separators) if part.author == USER else part.pieces)
        ]

    @property
    def text(self) -> str:
        """All parts as one text."""
        text, last = "", None
        for part in self.parts:
            if part.text.strip():
                joiner = part.joiner if last is None or part.author != USER else last.joiner
                text, last = _joined(text, part.text, joiner) if last else part.text, part
        return text or self.user


def normalize(text: str) -> str:
    """Text as sdprep compares it: without byte order mark, carriage returns and final newlines."""
    text = text.lstrip("\ufeff")
    return (re.sub(r"\r+\n", "\n", text) if "\r" in text else text).rstrip("\r\n")


def user_text(text: str) -> MixedText:
    """A text of which the user wrote all."""
    return MixedText((Part(USER, (normalize(text),)),))


def read_parts(text: str, known: MixedText, position: str, others: Sequence[str] = ()) -> MixedText:
    """The parts of a text that was edited since sdprep last wrote it, when it had the parts `known`.

    A generated piece that is still there is in its part; everything else is the user's, unchanged, and a piece that
    is gone was removed by the user. `others` are further separators that the user may have written; `position`,
    "append" or "prepend", is the side on which generated pieces are looked for first.
    """
    text = normalize(text)
    segments = _Segments(text, [part.joiner for part in known.generated])
    pieces = [(number, piece) for number, part in enumerate(known.parts) for piece in _machine_pieces(part)]
    found = segments.find(pieces, position)
    user = segments.without(found)
    has = piece_finder(text, others)
    lines = [line.strip() for line in LINE_BREAK.split(known.user)]
    # Of several lines each is also a piece: another line may still have what stood between its commas.
    written = [*pieces_of(known.user, others), *(lines if len(lines) > 1 else [])]
    written += [piece for part in known.generated for piece in part.pieces]
    removed = [*known.removed, *(piece for piece in written if not has(piece))]
    each_once = {normalize_tag(piece): piece for piece in removed}
    kept = {(number, piece) for number, piece in found.values()}
    parts = [
        replace(part, pieces=tuple(piece for piece in part.pieces if (number, piece) in kept))
        for number, part in enumerate(known.parts)
    ]
    return MixedText(_with_user(parts, user, position), tuple(each_once.values())[-MOST_REMOVED:], known.separators)


def _machine_pieces(part: Part) -> tuple[str, ...]:
    return () if part.author == USER else part.pieces


def _with_user(parts: Sequence[Part], user: str, position: str) -> tuple[Part, ...]:
    """The parts with this text as the user's part, where that was, or else on the side that is not `position`."""
    theirs = Part(USER, (user,))
    if any(part.author == USER for part in parts):
        return tuple(theirs if part.author == USER else part for part in parts)
    if not user.strip():
        return tuple(parts)
    return (theirs, *parts) if position == "append" else (*parts, theirs)


class _Segments:
    """A text between its separators."""

    def __init__(self, text: str, joiners: Sequence[str]) -> None:
        # What the user added to a line stands behind a comma.
        lines = not joiners or any("\n" in joiner for joiner in joiners)
        marks = _marks([*joiners, DEFAULT_SEPARATOR] if lines else joiners)
        self._split = re.compile(f"({'|'.join(map(re.escape, marks))})")
        found = self._split.split(text)
        self._raw, self._separators = found[::2], ["", *found[1::2]]

    def find(self, pieces: Iterable[tuple[int, str]], position: str) -> dict[int, tuple[int, str]]:
        """The segments that are exactly a piece, each piece once, with the piece and the number of its part.

        A piece that the user spelled differently or wrote a second time is the user's.
        """
        stripped = [segment.strip() for segment in self._raw]
        indexes: dict[str, list[int]] = defaultdict(list)
        # The generated pieces are at one side, so they are looked for from there.
        for index in range(len(stripped)) if position == "append" else reversed(range(len(stripped))):
            indexes[stripped[index]].append(index)
        found: dict[int, tuple[int, str]] = {}
        # A piece that contains a separator is several segments.
        blocks = [(key, [each.strip() for each in self._split.split(key[1])[::2] if each.strip()]) for key in pieces]
        for key, block in sorted(blocks, key=lambda pair: -len(pair[1])):
            for first in reversed(indexes.get(block[0], []) if block else []):
                places = range(first, first + len(block))
                if stripped[first : places.stop] == block and found.keys().isdisjoint(places):
                    found.update(dict.fromkeys(places, key))
                    break
        return found

    def without(self, found: Mapping[int, object]) -> str:
        """The text without these segments, and without what separated them from the rest."""
        if not found:
            return "".join(part for pair in zip(self._separators, self._raw, strict=True) for part in pair)
        kept = [index for index in range(len(self._raw)) if index not in found]
        if not kept:
            return ""
        text = self._raw[kept[0]] + "".join(self._separators[index] + self._raw[index] for index in kept[1:])
        if self._separators[kept[0]].strip():
            text = text.lstrip()
        joint = self._separators[kept[-1] + 1] if kept[-1] + 1 < len(self._raw) else ""
        return text.rstrip().removesuffix(joint).rstrip() if joint.strip() else text


def place_part(text: MixedText, own: Part, existing: str) -> MixedText:
    """The text with a newly generated part: in the place of that of its model, or where `existing` puts it.

    "append" and "prepend" add it to those of other models, behind or before everything, and move one that is on the
    other side of the user's part. Without them, it takes the place of what other models wrote for the same task.
    """
    is_added = existing in ("append", "prepend")
    if not is_added and not any(part.is_by(own) for part in text.parts):
        first = next((part for part in text.parts if part.author == own.author), None)
        others = [part for part in text.parts if part.author != own.author or part is first]
        parts = [own if part is first else part for part in others] if first else [*others, own]
        return replace(text, parts=tuple(parts))
    if any(part.is_by(own) for part in text.parts) and not is_misplaced(text, own, existing):
        return replace(text, parts=tuple(own if part.is_by(own) else part for part in text.parts))
    others = [part for part in text.parts if not part.is_by(own)]
    return replace(text, parts=(own, *others) if existing == "prepend" else (*others, own))


def is_misplaced(text: MixedText, own: Part, existing: str) -> bool:
    """Whether a part is on the side of the user's on which a run that appends or prepends does not want it."""
    authors = [part.is_by(own) for part in text.parts if part.author == USER or part.is_by(own)]
    wanted = {"append": [False, True], "prepend": [True, False]}.get(existing)
    return wanted is not None and len(authors) == 2 and authors != wanted


def without_repeats(text: MixedText, own: Part, others: Sequence[str]) -> MixedText:
    """The text where this part has no piece that the user removed, or that another part has in any spelling."""
    removed = {normalize_tag(piece) for piece in text.removed}
    rest = [piece_finder(part.text, [part.joiner, *others]) for part in text.parts if part is not own]

    def is_removed(piece: str) -> bool:
        # A caption with commas that was the user's was removed comma by comma.
        return normalize_tag(piece) in removed or removed.issuperset(map(normalize_tag, pieces_of(piece, others)))

    pieces = tuple(piece for piece in own.pieces if not is_removed(piece) and not any(has(piece) for has in rest))
    return replace(text, parts=tuple(replace(part, pieces=pieces) if part is own else part for part in text.parts))


def with_caption_joiner(text: MixedText, *, several: bool) -> MixedText:
    """The text with its captions on one line with the rest of it, since trainers read the first line alone.

    Captions are lines in a text that has nothing else, beside lines of the user's, or if `several` were asked for and
    there are no tags.
    """
    tags = next((part.joiner for part in text.parts if part.author == "tag"), None)
    if tags is not None:
        joiner = tags
    elif several or not text.user.strip() or LINE_BREAK.search(text.user.strip()):
        joiner = "\n"
    else:
        joiner = own_separator(text.user)
    return replace(
        text, parts=tuple(replace(part, joiner=joiner) if part.author == "caption" else part for part in text.parts)
    )


def own_separator(text: str, default: str = DEFAULT_SEPARATOR) -> str:
    """The separator that a user's text has between its tags, with its spaces; `default` if it shows no other.

    A text of several lines has one tag a line if most of its lines have no comma but at their ends.
    """
    lines = [line.strip() for line in LINE_BREAK.sub("\n", text).split("\n") if line.strip()]
    if len(lines) > 1 and 2 * sum("," not in line.strip(",") for line in lines) > len(lines):
        return ",\n" if all(line.endswith(",") for line in lines[:-1]) else "\n"
    core = default.strip() or default
    if core in text:
        return default
    # In braces it separates choices, of which a trainer takes one.
    marks = [mark for mark in TAG_SEPARATORS if mark != "\n" and not (mark == "|" and "{" in text)]
    mark = max(marks, key=text.count)
    found = re.search(f" *{re.escape(mark)} *", text)
    return found[0] if found and found[0] != text else default


def piece_finder(text: str, separators: Sequence[str]) -> Callable[[str], bool]:
    """A function that tells whether a text has a piece, in any spelling and between any of these separators."""
    text, cores = LINE_BREAK.sub("\n", text), _cores(separators)
    framed = [(core, _framed(text, core)) for core in cores]
    single = {normalize_tag(piece) for piece in pieces_of(text, separators)}
    return lambda piece: normalize_tag(piece) in single or any(_framed(piece, core) in line for core, line in framed)


def pieces_of(text: str, separators: Sequence[str]) -> list[str]:
    """The pieces of a text in which the user may have written several separators."""
    pieces = re.split("|".join(map(re.escape, _marks(separators))), LINE_BREAK.sub("\n", text))
    return [piece.strip() for piece in pieces if piece.strip()]


def _marks(separators: Sequence[str]) -> list[str]:
    """What a text is split at: a space separates only if it is the only separator."""
    cores = _cores(separators)
    return [core for core in cores if core.strip() or core in "\n\t"] or cores


def _cores(separators: Sequence[str]) -> list[str]:
    """Separators as they are searched for: without the spaces around them, and every line break as \\n."""
    return list(dict.fromkeys(LINE_BREAK.sub("\n", each.strip() or each) for each in separators))


def _framed(text: str, core: str) -> str:
    """The normalized pieces of a text, each between two NULs, which no text contains."""
    return "".join(("\0", *(f"{normalize_tag(part)}\0" for part in text.split(core) if part.strip())))


def _joined(first: str, second: str, joiner: str) -> str:
    """Two texts with the joiner between them; the first may already end with its visible part."""
    core = joiner.strip()
    if core and first.rstrip().endswith(core):
        return first.rstrip() + joiner.partition(core)[2] + second
    return first + joiner + second
