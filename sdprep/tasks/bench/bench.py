"""`sdprep bench`: a run with timings that leaves the folder of images unchanged, and what follows from it."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from sdprep.config import BenchSettings, CaptionSettings, PathOptions, RunOptions, TagSettings
from sdprep.demo import IMAGES
from sdprep.files import real_path
from sdprep.models.backends import with_backend
from sdprep.models.execution import usable_cpus
from sdprep.models.registry.registry import find
from sdprep.report import Listener, NullListener, RunReport
from sdprep.tasks.annotation.run import DOING
from sdprep.tasks.bench.bench_report import BenchVerdict, Environment, Stage, judge
from sdprep.tasks.caption import caption
from sdprep.tasks.tag import tag


@dataclass(frozen=True, slots=True)
class Bench:
    """What was measured, on which machine and settings, and what follows from it.

    `failures` are images without a result. `written_to` is where sidecars were put before they were deleted, and
    `same_disk` whether that is on the file system of the images.
    """

    stages: dict[str, Stage]
    environment: Environment
    verdict: BenchVerdict
    batch_size: int
    failures: tuple[dict[str, str], ...]
    written_to: Path
    same_disk: bool


def bench(
    directory: Path | None = None, settings: BenchSettings = BenchSettings(), *, listener: Listener | None = None
) -> Bench:
    """Measure a run over the first `limit` images of a folder, or of the demo; the folder stays unchanged.

    Raises NoImages for an empty folder, and SdprepError if the model is not available or cannot be opened.
    """
    directory, start = directory or IMAGES, _Start(listener or NullListener())
    spec = with_backend(find(settings.model, "tag"), "auto")
    # Sidecars beside the images would be kept.
    run = RunOptions(
        batch_size=settings.batch_size,
        workers=settings.workers,
        limit=settings.limit,
        timings=True,
        existing="overwrite",
    )
    with tempfile.TemporaryDirectory(prefix="sdprep-bench-") as folder:
        same_disk = directory.stat().st_dev == Path(folder).stat().st_dev
        paths = PathOptions(output_dir=Path(folder))
        if spec.task == "tag":
            report = tag(directory, TagSettings(model=settings.model, run=run, paths=paths), listener=start)
        else:
            report = caption(directory, CaptionSettings(model=settings.model, run=run, paths=paths), listener=start)
        stages = {} if start.at is None else _stages(report, settings.workers, time.perf_counter() - start.at)
    environment = Environment(
        model=spec.name,
        task=spec.task,
        precision=spec.precision,
        provider=report.provider,
        cpus=usable_cpus(),
        workers=settings.workers,
        startup=None if start.at is None else start.at - start.began,
        images=None if directory == IMAGES else real_path(directory),
    )
    verdict = judge(stages, environment)
    failures = tuple(report.failures)
    return Bench(stages, environment, verdict, settings.batch_size, failures, Path(folder).parent, same_disk)


def _stages(report: RunReport, workers: int, seconds: float) -> dict[str, Stage]:
    """The stages of a run that had images, and all together, which took `seconds`."""
    taken = report.timings or {}
    stages = {
        name: Stage(int(stage["images"]), stage["seconds"], stage["cpu_seconds"])
        for name, stage in taken.items()
        if stage["images"] and name != "plan"
    }
    if "decode" in stages:
        # The seconds of its threads together.
        stages["decode"].seconds /= max(1, workers)
    if report.written:
        cpu = sum(stage.cpu_seconds for stage in stages.values())
        stages["all"] = Stage(report.written, seconds, cpu)
    return stages


class _Start:
    """A listener that records when the model is ready, and passes everything on."""

    def __init__(self, listener: Listener) -> None:
        self._listener, self.began = listener, time.perf_counter()
        self.at: float | None = None

    def note(self, message: str) -> None:
        self._listener.note(message)

    def stage(self, name: str, total: int | None = None, unit: str = "images") -> None:
        self._listener.stage(name, total, unit)
        if name in DOING.values():
            self.at = time.perf_counter()

    def advance(self, count: int = 1) -> None:
        self._listener.advance(count)
