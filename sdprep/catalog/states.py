"""The rows of `states`: who wrote what in a sidecar, in the columns of this and of earlier versions.

The readers raise one of NO_SENSE for what sdprep never wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sdprep.catalog.schema import as_bytes, as_number, as_pieces, as_table, as_text, as_texts, check_sum, dump, one_of
from sdprep.rules.mixed_text import DEFAULT_SEPARATOR, USER, MixedText, Part, Settings
from sdprep.rules.policy import SidecarState

TASKS = ("tag", "caption")
# The settings of earlier versions kept the separators of the user's part under this name.
SEPARATORS = "separators"

# From the number of stored settings to the settings, and back.
Read = Callable[[int], dict[str, Any]]
Number = Callable[[Settings], int]


def encode_state(state: SidecarState, text: bytes, number: Number) -> tuple[Any, ...]:
    """The STATE columns of a state whose text has this hash."""
    content = state.content
    columns: dict[str, Any] = {"parts": [_encode_part(part, state.digest, number) for part in content.parts]}
    if content.separators:
        columns[SEPARATORS] = content.separators
    generated = content.generated
    settings = number(generated[-1].settings if generated else {})
    return (
        *(state.task, state.origin, text, state.digest, settings),
        *("append", "", "[]", dump(content.removed), dump(columns)),
    )


def _encode_part(part: Part, digest: bytes, number: Number) -> dict[str, Any]:
    if part.author == USER:
        return {"author": USER, "pieces": part.pieces}
    settings = {"joiner": part.joiner, "settings": number(part.settings)}
    # Nearly all parts are of the image that the run saw.
    other: dict[str, Any] = {} if part.digest == digest else {"digest": part.digest.hex()}
    if part.prompt:
        other["prompt"] = dict(part.prompt)
    return {"author": part.author, "pieces": part.pieces, **settings, **other}


def decode_state(row: Sequence[Any], known_sum: Any, text: str, read: Read) -> SidecarState:
    """The state of the STATE columns of a row, with its normalized text."""
    task, origin, _, digest, settings, side, user, machine, removed, parts = row
    check_sum(row[:-1] if parts is None else row, known_sum)
    one_of(task, TASKS)
    gone = () if removed == "[]" else as_pieces(removed)
    if parts is not None:
        state = SidecarState(task, text, as_bytes(digest), _decode_content(as_table(parts), gone, digest, read))
        if state.origin != origin:
            raise ValueError("the origin of a text is not that of its parts")
        return state
    if one_of(origin, ("user", "mixed", "machine")) == "machine" and user != "":
        raise ValueError("a generated text has a part of the user's")
    theirs = [Part(USER, (as_text(user),))] if user or origin == "user" else []
    if origin == "user":
        return SidecarState(task, text, as_bytes(digest), MixedText((*theirs,), gone))
    known = read(settings)
    joiner = as_text(known.get("caption_separator", DEFAULT_SEPARATOR)) if task == "tag" else "\n"
    generated = Part(task, as_pieces(machine), joiner, known, as_bytes(digest))
    ordered = [*theirs, generated] if one_of(side, ("append", "prepend")) == "append" else [generated, *theirs]
    content = MixedText(tuple(ordered), gone, as_texts(known.get(SEPARATORS, [])))
    return SidecarState(task, text, as_bytes(digest), content)


def _decode_content(table: dict[str, Any], removed: tuple[str, ...], digest: bytes, read: Read) -> MixedText:
    parts = []
    for each in table["parts"]:
        author, pieces = one_of(each["author"], (USER, *TASKS)), as_texts(each["pieces"])
        if author == USER:
            parts.append(Part(USER, pieces))
            continue
        its = bytes.fromhex(each["digest"]) if "digest" in each else digest
        prompt = {as_text(name): as_text(value) for name, value in dict(**each.get("prompt", {})).items()}
        parts.append(Part(author, pieces, as_text(each["joiner"]), read(as_number(each["settings"])), its, prompt))
    return MixedText(tuple(parts), removed, as_texts(table.get(SEPARATORS, [])))
