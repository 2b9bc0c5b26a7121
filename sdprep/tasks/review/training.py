"""What a trainer makes of the images of a review: what `sdprep check` finds, and how an image is cropped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sdprep.errors import UsageError
from sdprep.report import Listener
from sdprep.tasks.exchange.check import CheckSettings, check
from sdprep.tasks.review.index import Index
from sdprep.trainers.buckets import Size
from sdprep.trainers.findings import ABOUT, Code
from sdprep.trainers.targets import TARGETS

# The largest resolution that is asked for.
MOST = 16_384


def findings(index: Index, folder: Path, target: str, listener: Listener) -> list[dict[str, Any]]:
    """What is wrong for a trainer, by code, with the numbers of the images; raises as `check`."""
    report = check(folder, target, listener=listener)
    numbers = {}
    for number, item in enumerate(index.items):
        names = index.names_of(item)
        for name in (item.rel, names.name(item.rel, "tags"), names.name(item.rel, "caption")):
            numbers[name] = number
    found: dict[Code, dict[int, None]] = {}
    for each in report.findings:
        some = found.setdefault(each.code, {})
        if each.path in numbers:
            some[numbers[each.path]] = None
    return [
        {"code": code.value, "severity": ABOUT[code].severity, "message": ABOUT[code].sentence, "numbers": list(some)}
        for code, some in found.items()
    ]


def crop(size: Size, resolution: Size, target: str) -> dict[str, Sequence[int]] | None:
    """The bucket of an image and the part of it that a trainer uses: x, y, width and height in its own pixels.

    None for a trainer whose buckets are not computed. Raises UsageError for a resolution without buckets.
    """
    if target not in TARGETS:
        raise UsageError(f"unknown target {target!r}; known are {', '.join(TARGETS)}")
    if not all(0 < side <= MOST for side in (*resolution, *size)):
        raise UsageError(f"the resolution is 1 to {MOST} pixels")
    bucket = TARGETS[target].bucket(size, CheckSettings(resolution=resolution).rules)
    if bucket is None or min(bucket.size) == 0:
        return None
    (width, height), (across, down) = size, bucket.resized
    used = [min(width, round(bucket.size[0] * width / across)), min(height, round(bucket.size[1] * height / down))]
    return {"bucket": bucket.size, "crop": [(width - used[0]) // 2, (height - used[1]) // 2, *used]}
