"""What the page shows of an image: its captions and tags as they are on disk, who wrote them, scores, sizes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sdprep.catalog.session import CatalogSession
from sdprep.report import NullListener
from sdprep.rules.edits.differences import differences
from sdprep.rules.edits.spans import tags_in
from sdprep.rules.mixed_text import LINE_BREAK, normalize
from sdprep.rules.policy import SidecarState
from sdprep.tasks.review.index import Index
from sdprep.tasks.review.marks import marks
from sdprep.tasks.review.spelling import Spellings
from sdprep.tasks.texts.facts import Facts
from sdprep.tasks.texts.plan import PlannedChange
from sdprep.tasks.texts.records import ImageRecord
from sdprep.tasks.texts.sidecars import ImageFiles, Sidecar

# The tokens after which trainers cut a text unless they are told otherwise.
MOST_TOKENS = 75
FIELDS = ("width", "height", "tokens", "scores")


def rows(index: Index, numbers: Sequence[int], catalogs: CatalogSession) -> list[dict[str, Any]]:
    """The rows of images, read anew; the index takes what has changed."""
    images = list(index.reading(numbers, catalogs, fields=FIELDS, scored=None))
    index.keep(zip(numbers, images, strict=True))
    marked, states = marks(index, numbers, catalogs), _states(index, images, catalogs)
    return [
        _row(number, image, marked[number], states, index.spellings)
        for number, image in zip(numbers, images, strict=True)
    ]


def _states(index: Index, images: Iterable[ImageRecord], catalogs: CatalogSession) -> dict[Path, SidecarState | None]:
    """What is known of the sidecars of images, by their paths."""
    files = [ImageFiles(each.item, index.names_of(each.item), each.tags, each.caption) for each in images]
    facts = Facts(catalogs, (), (), NullListener().note)
    return {sidecar.path: state for known in facts.states(files) for sidecar, state in known}


def _row(
    number: int,
    image: ImageRecord,
    marked: Mapping[str, Any],
    states: Mapping[Path, SidecarState | None],
    spellings: Spellings,
) -> dict[str, Any]:
    record = image.record
    texts = {
        kind: _text(sidecar, states.get(sidecar.path))
        for kind, sidecar in (("tags", image.tags), ("caption", image.caption))
        if sidecar
    }
    texts["tags"]["list"] = tags_in(texts["tags"]["text"])
    return {
        "number": number,
        "path": record.rel,
        "width": record.width,
        "height": record.height,
        "failure": image.size_failure.message if image.size_failure else None,
        **texts,
        "scores": {spellings.of(tag): round(p, 4) for tag, p in record.scores.items()},
        "tokens": record.tokens,
        "most_tokens": MOST_TOKENS,
        **marked,
    }


def _text(sidecar: Sidecar, state: SidecarState | None) -> dict[str, Any]:
    text = shown(sidecar.text or "")
    is_unmodified = state is not None and normalize(sidecar.text or "") == state.text
    source = "" if sidecar.data is None else "user"
    if state is not None and state.origin != "user":
        source = state.origin if is_unmodified else "mixed"
    return {
        "text": text,
        "hash": text_hash(sidecar.data),
        "exists": sidecar.data is not None,
        "source": source,
        "is_approved": is_unmodified and state is not None and state.origin == "user",
        "failure": sidecar.failure.message if sidecar.failure else None,
    }


def text_hash(data: bytes | None) -> str:
    """What the page sends back as If-Match: the SHA-256 of a sidecar's bytes, or "" if there is no file."""
    return "" if data is None else hashlib.sha256(data).hexdigest()


def shown(text: str) -> str:
    """A text as the page shows it: lines end in LF, and the end of the last line is not there."""
    return LINE_BREAK.sub("\n", text).rstrip("\n") if LINE_BREAK.search(text) else text


def as_in(before: str, text: str) -> str:
    """A text from the page with the line ends, and the end of the last line, of the text that was shown."""
    lines = shown(text)
    found = list(_ends(before))
    if lines == shown(before):
        return before
    usual = max(set(found), key=found.count) if found else "\n"
    last = before[len(before.rstrip("\r\n")) :]
    return lines.replace("\n", usual) + (last if before else "")


def _ends(text: str) -> Iterator[str]:
    return (found[0] for found in LINE_BREAK.finditer(text))


def sample(number: int, change: PlannedChange) -> dict[str, Any]:
    """What the page shows of a change that is planned."""
    [text] = change.shown()
    return {
        "number": number,
        "path": change.item.rel,
        "before": text.before,
        "after": text.after,
        "parts": [{"text": piece, "kind": kind} for kind, piece in differences(text.before, text.after)],
    }
