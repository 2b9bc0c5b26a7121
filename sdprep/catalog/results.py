"""Model results as bytes of the catalog: sparse tag scores, and captions."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from sdprep.catalog.schema import CODES, as_number, as_table, select_many
from sdprep.rules.labels import ARGMAX_CATEGORIES, STORED_FLOOR, LabelTable
from sdprep.types import Caption, TagScores

if TYPE_CHECKING:
    from sdprep.catalog.catalog import Catalog


def always_stored(labels: LabelTable) -> list[int]:
    """The indices of labels whose scores are always stored: ratings and qualities."""
    return [index for index, category in enumerate(labels.categories) if category in ARGMAX_CATEGORIES]


def encode_scores(scores: TagScores, always: list[int]) -> bytes:
    """Scores of at least 0.01, and those of `always`, as label indices (uint32) followed by values (float16)."""
    keep = scores.scores >= STORED_FLOOR
    keep[always] = True
    indices = keep.nonzero()[0]
    return indices.astype("<u4").tobytes() + scores.scores[indices].astype("<f2").tobytes()


def decode_scores(data: bytes) -> list[tuple[int, float]]:
    """The (label index, probability) pairs of stored scores, in label order."""
    count = len(data) // 6
    values = struct.unpack(f"<{count}I{count}e", data)
    return list(zip(values[:count], values[count:], strict=True))


def join_results(results: Sequence[bytes]) -> bytes:
    """The results of several models as one, which is never stored."""
    return msgspec.msgpack.encode(results)


def split_results(data: bytes) -> list[bytes]:
    """The results of several models."""
    return msgspec.msgpack.decode(data, type=list[bytes])


def are_scores(data: object, labels: int) -> bool:
    """Whether stored bytes are scores of a model with this number of labels."""
    if not isinstance(data, bytes) or len(data) % 6:
        return False
    return all(index < labels for index in struct.unpack_from(f"<{len(data) // 6}I", data))


def encode_caption(caption: Caption) -> bytes:
    """A caption as JSON."""
    return msgspec.json.encode(caption)


def decode_caption(data: bytes) -> Caption:
    """The caption of a stored result."""
    return msgspec.json.decode(data, type=Caption)


def is_caption(data: bytes) -> bool:
    """Whether stored bytes are a caption."""
    try:
        decode_caption(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, TypeError):
        return False
    return True


def score_recipes(catalog: Catalog) -> list[tuple[int, dict[str, Any]]]:
    """The numbers and contents of the recipes of tag scores, the newest first. Raises DamagedCatalog."""
    with catalog.decoding("the recipe of a result"):
        rows = catalog.db.execute("SELECT id, json FROM recipes ORDER BY id DESC").fetchall()
        recipes = [(as_number(number), as_table(text)) for number, text in rows]
    return [(number, recipe) for number, recipe in recipes if recipe.get("task") == "tag"]


def failure_codes(catalog: Catalog, digests: Sequence[bytes]) -> dict[bytes, str]:
    """Why images could not be decoded, by their SHA-256; unknown codes are left out."""
    rows = select_many(catalog.db, "SELECT digest, code FROM failures WHERE digest IN ({})", digests)
    return {digest: code for digest, code in rows if code in CODES}
