"""What the filter language can ask about an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Record:
    """What the filter language can ask about an image. A field that was not read, or is unknown, is empty or 0.

    `rel` is its path with forward slashes, as in reports. `tags` are normalized (`normalize_tag`), in the file's
    order. `missing` has "tags" and "caption" where there is no such sidecar. `width` and `height` are upright.
    `tokens` is the count for the longer one of its two texts. `scores` has probabilities by normalized tag, and
    `rating` the most probable rating, both of the newest stored result. `source` has "machine", "user" or "mixed" of
    each sidecar, `models` the models that wrote in them. `failed` is the value of a FailureCode.
    """

    rel: str
    tags: tuple[str, ...] = ()
    caption: str = ""
    missing: tuple[str, ...] = ()
    width: int = 0
    height: int = 0
    tokens: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)
    rating: str = ""
    source: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    failed: str = ""
