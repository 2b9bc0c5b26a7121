"""What a run reports while it works and when it ends: listeners, cancellation, and the report of every image."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from sdprep.sanitize import to_json
from sdprep.types import Failure, FailureCode, ImageWarning, KeptReason

# What a run says that ends early.
GO_ON = "run the same command to go on"


class Listener(Protocol):
    """Receives the progress of a run; the command line draws its bar with it."""

    def note(self, message: str) -> None:
        """Show a message to the user."""

    def stage(self, name: str, total: int | None = None, unit: str = "images") -> None:
        """A stage of the run begins, such as "planning" or "tagging"; `total` is None if it cannot be counted."""

    def advance(self, count: int = 1) -> None:
        """The stage has come so much further."""


class NullListener:
    """A listener that ignores everything."""

    def note(self, message: str) -> None:
        """Ignore the message."""

    def stage(self, name: str, total: int | None = None, unit: str = "images") -> None:
        """Ignore the stage."""

    def advance(self, count: int = 1) -> None:
        """Ignore the step."""


class CancelToken:
    """Cooperative cancellation: finish the current batch, then report the rest as `remaining`.

    Setting `exit_code` cancels. A run sets `interruptible` while it checks for that; at other times, as during a
    download, a signal may end it at once. After `deadline`, a time of `time.monotonic`, the current batch is abandoned.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self.interruptible = False
        self.deadline = math.inf

    def __bool__(self) -> bool:
        return self.exit_code is not None


@dataclass(slots=True)
class StageTime:
    """The time that a stage of a run took: seconds by the clock, of all threads together, and CPU seconds."""

    images: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def add(self, other: StageTime) -> None:
        """Add the time of another thread or worker."""
        self.images += other.images
        self.seconds += other.seconds
        self.cpu_seconds += other.cpu_seconds

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Add the time spent inside, with the CPU seconds of this thread."""
        began, cpu = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - began
            self.cpu_seconds += time.thread_time() - cpu


def add_stages(total: dict[str, StageTime], stages: Mapping[str, StageTime]) -> None:
    """Add the times of stages to those of the same names."""
    for name, stage in stages.items():
        total.setdefault(name, StageTime()).add(stage)


@dataclass(slots=True)
class RunReport:
    """What became of every image: `found` is the sum of the next five counts; `predicted` were shown to the model.

    `failed_before` are those of the failures that an earlier run had, and that were not tried again before a command of
    `retry`.
    `asked_again` counts requests that an earlier run had made to a server, and ended before it stored their answers;
    `served` counts its captions by the model that it says has made them.
    `recognised` counts sidecars that were found at new paths; `orphans` names those whose image is gone, with the image
    that has the same content. `stale` names captions whose prompt has changed with the tags in it. `planned` lists
    what a dry run of undo would do. `shards` are the counts of a run over shards: its images are those of the shards
    that it has done itself, and the first of its failures are named.
    """

    command: str
    found: int = 0
    written: int = 0
    current: int = 0
    kept: int = 0
    failed: int = 0
    remaining: int = 0
    missing: int = 0
    rekeyed: int = 0
    outside: int = 0
    vanished: int = 0
    pruned: int = 0
    kept_paths: list[str] = field(default_factory=list)
    kept_reasons: dict[str, list[str]] = field(default_factory=dict)
    missing_paths: list[str] = field(default_factory=list)
    lacking: dict[str, int] = field(default_factory=dict)
    image_changed: list[str] = field(default_factory=list)
    other_settings: int = 0
    stale: list[str] = field(default_factory=list)
    other_models: dict[str, int] = field(default_factory=dict)
    recognised: int = 0
    orphans: list[dict[str, str | None]] = field(default_factory=list)
    planned: list[dict[str, str]] = field(default_factory=list)
    predicted: int = 0
    asked_again: int = 0
    served: dict[str, int] = field(default_factory=dict)
    failures: list[dict[str, str]] = field(default_factory=list)
    failed_before: list[str] = field(default_factory=list)
    retry: list[str] = field(default_factory=list)
    flagged: list[dict[str, str]] = field(default_factory=list)
    model: str | None = None
    revision: str | None = None
    provider: str | None = None
    output: str | None = None
    tag_counts: dict[str, int] | None = None
    run: str | None = None
    dry_run: bool = False
    stopped: int | None = None
    seconds: float = 0.0
    timings: dict[str, dict[str, float]] | None = None
    shards: dict[str, int] | None = None

    def fail(self, failure: Failure) -> None:
        """Count one failed image and name it."""
        self.refuse(failure.item.rel, failure.code, failure.message)
        if failure.is_known:
            self.failed_before.append(failure.item.rel)

    def refuse(self, path: str, code: FailureCode, message: str) -> None:
        """Count one file with which nothing could be done, and name it."""
        self.failed += 1
        self.failures.append({"path": path, "code": code.value, "message": message})

    def flag(self, rel: str, warning: ImageWarning) -> None:
        """Name one image with a warning."""
        self.flagged.append({"path": rel, "code": warning.value, "message": warning.message})

    def keep(self, rel: str, reason: KeptReason | None = None) -> None:
        """Count one image whose text was left as it is, and name it; a reason if there is a sidecar."""
        self.kept += 1
        self.kept_paths.append(rel)
        if reason is not None:
            self.kept_reasons.setdefault(reason.value, []).append(rel)

    def add_moves(self, sidecars: int, orphans: Iterable[tuple[str, str | None]]) -> None:
        """Count sidecars at new paths, and name those without an image, each with the image of its content."""
        self.recognised += sidecars
        self.orphans += [{"path": sidecar, "image": image} for sidecar, image in orphans]

    def check(self) -> None:
        """Raise AssertionError unless every image found is in exactly one count."""
        if self.uncounted:
            counted = self.found - self.uncounted
            raise AssertionError(f"{self.found} images were found but {counted} are accounted for")

    @property
    def uncounted(self) -> int:
        """The images that have no outcome: none when a run has ended as it should."""
        return self.found - self.written - self.current - self.kept - self.failed - self.remaining

    @property
    def kept_so_far(self) -> str:
        """What a run has made when it is interrupted, and how to go on."""
        made = f"{self.written} of {self.found} images written" if self.found else "nothing was written"
        current = f", {self.current} up to date" if self.current else ""
        return f"{made}{current}; {GO_ON}"

    @property
    def exit_code(self) -> int:
        """0 done, 3 some images or shards failed or are damaged, 130 interrupted, 143 terminated."""
        if self.stopped is not None:
            return self.stopped
        shards = self.shards or {}
        return 3 if self.failed or shards.get("failed") or shards.get("damaged") else 0

    def as_dict(self) -> dict[str, Any]:
        """The run report as JSON-ready values, schema 2."""
        values = {name: to_json(getattr(self, name)) for name in self.__slots__}
        return {"schema": 2, **values, "seconds": round(self.seconds, 3)}
