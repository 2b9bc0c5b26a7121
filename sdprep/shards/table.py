"""One row per image of a shard, and the Parquet object that holds the rows of a shard: result and commit in one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from sdprep.catalog.results import decode_caption, encode_caption
from sdprep.errors import StoreError
from sdprep.sanitize import printable
from sdprep.texts.exchange.parquet import parquet_bytes, parquet_columns, parquet_facts
from sdprep.types import Caption

SCHEMA = 1
# The outcome of an image that has a result.
OK = "ok"
# Under this name the footer of an object has what is known of its shard.
FACTS = "sdprep"
# What pyarrow and msgspec raise for bytes that sdprep never wrote.
NO_TABLE = (ValueError, OSError, NotImplementedError, msgspec.MsgspecError)
COMMON = {
    "key": "string",
    "member": "string",
    "outcome": "string",
    "message": "string",
    "sha256": "string",
    "width": "uint32",
    "height": "uint32",
    "text": "string",
    "warnings": "list<string>",
}
# What a model answered. There are taggers with more labels than a uint16 counts. `others` has captions as JSON.
ANSWERS = {
    "tag": {"tags": "list<string>", "label": "list<uint32>", "p": "list<float>"},
    "caption": {
        "caption": "string",
        "score": "double",
        "n_tokens": "uint32",
        "finish_reason": "string",
        "others": "list<string>",
    },
}


@dataclass(frozen=True, slots=True)
class Row:
    """One image of a shard, with its result or the reason why it has none.

    `key` is the name of its sample, which several images of a tar may share; `member` is its own. `outcome` is "ok" or
    a FailureCode. Width and height are those of the file, before any rotation. `text` is what its sidecar would have,
    `tags` are the pieces of it, `result` is the bytes that a catalog stores. `warnings` are ImageWarnings.
    A row without a name is not about an image: it tells what is wrong with the shard as a whole.
    """

    key: str
    member: str
    outcome: str = OK
    message: str = ""
    digest: bytes | None = None
    width: int | None = None
    height: int | None = None
    text: str | None = None
    tags: tuple[str, ...] = ()
    result: bytes | None = None
    warnings: tuple[str, ...] = ()

    @property
    def is_image(self) -> bool:
        """Whether it is about an image, and not about the shard as a whole."""
        return bool(self.member)


@dataclass(frozen=True, slots=True)
class ShardFacts:
    """What is known of a shard that is done: its images by outcome, and where and how they were seen.

    `damage` is the outcome of the shard as a whole, if it could not be read to its end.
    """

    task: str
    etag: str = ""
    provider: str = ""
    host: str = ""
    ended: float = 0.0
    seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    damage: str = ""
    schema: int = SCHEMA


def encode_rows(rows: Sequence[Row], facts: ShardFacts) -> bytes:
    """The object of a shard; the outcomes are counted here. Raises MissingExtra without pyarrow."""
    damage = next((row.outcome for row in rows if not row.is_image), "")
    counted = replace(facts, counts=dict(Counter(row.outcome for row in rows if row.is_image)), damage=damage)
    columns: dict[str, Sequence[Any]] = {
        "key": [printable(row.key) for row in rows],
        "member": [printable(row.member) for row in rows],
        "outcome": [row.outcome for row in rows],
        "message": [printable(row.message) for row in rows],
        "sha256": [None if row.digest is None else row.digest.hex() for row in rows],
        "width": [row.width for row in rows],
        "height": [row.height for row in rows],
        "text": [row.text for row in rows],
        "warnings": [row.warnings for row in rows],
    }
    answers = _score_columns(rows) if facts.task == "tag" else _caption_columns(rows)
    facts_text = msgspec.json.encode(counted).decode("utf-8")
    return parquet_bytes(columns | answers, COMMON | ANSWERS[facts.task], {FACTS: facts_text})


def decode_rows(data: bytes, task: str, name: str, *, answers: bool = True) -> list[Row]:
    """The rows of an object, which has this name in messages, or without `answers` only what all tasks have.

    Raises StoreError, and MissingExtra without pyarrow.
    """
    try:
        columns = parquet_columns(data, COMMON | (ANSWERS[task] if answers else {}))
        results: Sequence[bytes | None] = [None] * len(columns["key"])
        if answers:
            results = _score_results(columns) if task == "tag" else _caption_results(columns)
        tags = columns.get("tags") or [()] * len(results)
        digests = [None if text is None else bytes.fromhex(text) for text in columns["sha256"]]
        names = ("key", "member", "outcome", "message", "width", "height", "text")
        rest = zip(digests, tags, results, columns["warnings"], strict=True)
        return [
            Row(**values, digest=digest, tags=tuple(tags or ()), result=result, warnings=tuple(warnings or ()))
            for values, (digest, tags, result, warnings) in zip(_records(columns, names), rest, strict=True)
        ]
    except NO_TABLE as error:
        raise _damaged(name, error) from error


def _damaged(name: str, error: Exception) -> StoreError:
    # Nobody else would make it again: its shard counts as done.
    reason = " ".join(str(error).split())
    return StoreError(f"{name} is not the table of a shard: {reason}\nDelete it, and the same run does its shard again")


def decode_facts(size: int, read: Callable[[int, int], bytes], name: str) -> ShardFacts:
    """What the footer of an object of `size` bytes says. Raises StoreError, and MissingExtra without pyarrow."""
    try:
        facts = msgspec.json.decode(parquet_facts(size, read).get(FACTS, ""), type=ShardFacts)
    except NO_TABLE as error:
        raise _damaged(name, error) from error
    if facts.schema > SCHEMA:
        raise StoreError(f"{name} was written by a newer sdprep (schema {facts.schema}). Update sdprep")
    return facts


def _records(columns: dict[str, Sequence[Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    return [dict(zip(names, values, strict=True)) for values in zip(*(columns[name] for name in names), strict=True)]


def _score_columns(rows: Sequence[Row]) -> dict[str, Sequence[Any]]:
    import numpy as np

    labels, values = list[Any](), list[Any]()
    for result in (row.result for row in rows):
        count = len(result or b"") // 6
        labels.append(None if result is None else np.frombuffer(result, "<u4", count))
        values.append(None if result is None else np.frombuffer(result, "<f2", count, 4 * count).astype(np.float32))
    return {"tags": [row.tags for row in rows], "label": labels, "p": values}


def _score_results(columns: dict[str, Sequence[Any]]) -> list[bytes | None]:
    pairs = zip(columns["label"], columns["p"], strict=True)
    return [
        None if labels is None else labels.astype("<u4").tobytes() + values.astype("<f2").tobytes()
        for labels, values in pairs
    ]


def _caption_columns(rows: Sequence[Row]) -> dict[str, Sequence[Any]]:
    captions = [None if row.result is None else decode_caption(row.result) for row in rows]
    others = [None if each is None else [encode_caption(other).decode() for other in each.others] for each in captions]
    return {
        "caption": [each and each.text for each in captions],
        "score": [each and each.score for each in captions],
        "n_tokens": [each and each.n_tokens for each in captions],
        "finish_reason": [each and each.finish_reason for each in captions],
        "others": others,
    }


def _caption_results(columns: dict[str, Sequence[Any]]) -> list[bytes | None]:
    names = ("caption", "n_tokens", "finish_reason", "score", "others")
    return [
        None if text is None else encode_caption(Caption(text, tokens, reason, score, _captions(others)))
        for text, tokens, reason, score, others in zip(*(columns[name] for name in names), strict=True)
    ]


def _captions(others: Sequence[str] | None) -> tuple[Caption, ...]:
    return tuple(decode_caption(other.encode("utf-8")) for other in others or ())
