"""`sdprep bench`: measures the stages of a run one by one and together, and leaves the folder of images unchanged."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from sdprep.config import BENCH_STAGES, BenchSettings, CaptionSettings, PathOptions, RunOptions, TagSettings
from sdprep.errors import ImageError
from sdprep.images.decoder import file_digest
from sdprep.images.source import FolderSource
from sdprep.models.backends import check_installed, with_backend
from sdprep.models.base import ModelFiles, ModelSpec
from sdprep.models.execution import usable_cpus
from sdprep.models.files.hub import ensure_downloaded
from sdprep.models.registry.registry import find
from sdprep.report import CancelToken, Listener, NullListener, RunReport
from sdprep.tasks.annotation.engine_config import engine_config
from sdprep.tasks.bench_report import BenchVerdict, Environment, Stage, judge
from sdprep.tasks.caption import caption
from sdprep.tasks.demo import IMAGES
from sdprep.tasks.tag import tag
from sdprep.types import Decoded, Failure, ImageItem, Result

# Decoded images kept for the model may take this many bytes; the model does not get the rest.
HELD_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Bench:
    """What was measured, on which machine and settings, and what follows from it.

    `failures` are images without a result. `written_to` is where `write` and `all` put sidecars before they were
    deleted, and `same_disk` whether that is on the file system of the images.
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
    """Measure the stages on the first `limit` images of a folder, or of the demo; the folder stays unchanged.

    Raises NoImages for an empty folder, and SdprepError if the model is not available or cannot be opened.
    """
    listener, directory = listener or NullListener(), directory or IMAGES
    spec = with_backend(find(settings.model, "tag"), "auto")
    items = FolderSource(directory).items()[: settings.limit]
    check_installed(spec)
    wanted = set(settings.stage or BENCH_STAGES)
    run = _Run(spec, ensure_downloaded(spec, listener), settings, listener)
    if "read" in wanted:
        run.read(items)
    if wanted & {"decode", "predict"}:
        run.decode_and_predict(items, predict="predict" in wanted)
    with tempfile.TemporaryDirectory(prefix="sdprep-bench-") as folder:
        if wanted & {"write", "all"}:
            run.whole(directory, Path(folder))
        same_disk = directory.stat().st_dev == Path(folder).stat().st_dev
    stages = {name: run.stages[name] for name in BENCH_STAGES if name in wanted and name in run.stages}
    environment = run.environment()
    failures = tuple(run.failures.values())
    return Bench(
        stages, environment, judge(stages, environment), settings.batch_size, failures, Path(folder).parent, same_disk
    )


class _Run:
    """The stages, each a method that puts its figures into `stages` unless no image had a result."""

    def __init__(self, spec: ModelSpec, files: ModelFiles, settings: BenchSettings, listener: Listener) -> None:
        self._spec, self._files, self._settings, self._listener = spec, files, settings, listener
        self._run = RunOptions(batch_size=settings.batch_size, workers=settings.workers, limit=settings.limit)
        self._provider: str | None = None
        self._startup: float | None = None
        self._notes: set[str] = set()
        self.stages: dict[str, Stage] = {}
        self.failures: dict[str, dict[str, str]] = {}

    def environment(self) -> Environment:
        """Return what the figures depend on."""
        return Environment(
            model=self._spec.name,
            task=self._spec.task,
            precision=self._spec.precision,
            provider=self._provider,
            cpus=usable_cpus(),
            workers=self._settings.workers,
            startup=self._startup,
        )

    def read(self, items: list[ImageItem]) -> None:
        """Measure reading files and computing their checksums, one after the other."""
        timer, images = _Timer(), 0
        for item in items:
            try:
                file_digest(item)
                images += 1
            except ImageError as error:
                self._fail(Failure(item, error.code, str(error)))
        self._record("read", timer.stage(images))

    def decode_and_predict(self, items: list[ImageItem], *, predict: bool) -> None:
        """Measure decoding without the model, and the model with images in memory.

        Both run the functions of a worker in this process, which allocates memory like a worker from here on.
        """
        # Imported here, since the other stages need no numpy.
        from sdprep.engines.memory import keep_one_heap
        from sdprep.engines.runner import StageRunner

        keep_one_heap()
        runner = StageRunner(engine_config(self._spec, self._files, self._model_settings()), self._pass_on)
        with closing(runner):
            self._provider = runner.provider
            held: list[Decoded] = []
            timer, images, size = _Timer(), 0, 0
            for outcome in runner.decoded(items):
                if isinstance(outcome, Failure):
                    self._fail(outcome)
                    continue
                images, size = images + 1, size + outcome.pixels.nbytes
                if size <= HELD_BYTES:
                    held.append(outcome)
            self._record("decode", timer.stage(images))
            if predict:
                # The first batch takes longer than all others.
                self._count(runner.predicted(islice(held, self._settings.batch_size), CancelToken()))
                timer = _Timer()
                self._record("predict", timer.stage(self._count(runner.predicted(held, CancelToken()))))

    def whole(self, directory: Path, out: Path) -> None:
        """Measure a whole run with sidecars and catalog in `out`, then writing them again from stored results."""
        start = _Start(self._listener, self._pass_on)
        report = self._annotate(directory, out, start)
        self._provider = report.provider
        for failure in report.failures:
            self.failures.setdefault(failure["path"], failure)
        if start.at is None:
            return
        self._startup = start.at - start.timer.start
        self._record("all", Stage(report.written, time.perf_counter() - start.at, None))
        for sidecar in out.rglob(f"*{self._extension}"):
            sidecar.unlink()
        timer = _Timer()
        self._record("write", timer.stage(self._annotate(directory, out, NullListener()).written))

    def _annotate(self, directory: Path, out: Path, listener: Listener) -> RunReport:
        settings = self._model_settings(PathOptions(output_dir=out))
        if isinstance(settings, TagSettings):
            return tag(directory, settings, listener=listener)
        return caption(directory, settings, listener=listener)

    def _model_settings(self, paths: PathOptions = PathOptions()) -> TagSettings | CaptionSettings:
        settings = TagSettings if self._spec.task == "tag" else CaptionSettings
        return settings(model=self._settings.model, run=self._run, paths=paths)

    @property
    def _extension(self) -> str:
        return self._model_settings().caption_extension

    def _count(self, outcomes: Iterable[Result | Failure]) -> int:
        """Count the results among outcomes, and record the failures."""
        images = 0
        for outcome in outcomes:
            if isinstance(outcome, Failure):
                self._fail(outcome)
            else:
                images += 1
        return images

    def _pass_on(self, note: str) -> None:
        """Pass on a note of the model once, although it is opened twice."""
        if note not in self._notes:
            self._notes.add(note)
            self._listener.note(note)

    def _fail(self, failure: Failure) -> None:
        failed = {"path": failure.item.rel, "code": failure.code.value, "message": failure.message}
        self.failures.setdefault(failure.item.rel, failed)

    def _record(self, name: str, stage: Stage) -> None:
        if stage.images:
            self.stages[name] = stage


class _Timer:
    """Seconds since it was created: by the clock, and CPU seconds of this process."""

    def __init__(self) -> None:
        self.start, self._cpu = time.perf_counter(), time.process_time()

    def stage(self, images: int) -> Stage:
        """Return the time since the start as that of a stage."""
        return Stage(images, time.perf_counter() - self.start, time.process_time() - self._cpu)


class _Start:
    """A listener that records when the model is ready; notes go to `pass_on`, the rest to another listener."""

    def __init__(self, listener: Listener, pass_on: Callable[[str], None]) -> None:
        self._listener, self._pass_on, self.timer = listener, pass_on, _Timer()
        self.at: float | None = None

    def note(self, message: str) -> None:
        """Pass a note on."""
        self._pass_on(message)

    def start(self, total: int) -> None:
        """Record that the model is about to get its first image."""
        self._listener.start(total)
        self.at = time.perf_counter()

    def advance(self) -> None:
        """Pass on one more outcome."""
        self._listener.advance()
