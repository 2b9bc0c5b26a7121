"""`sdprep bench`: the stages of a run one by one, and all together, on images of a folder that stays untouched."""

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

# Decoded images that are kept for the model may take this many bytes; those beyond are not shown to it.
HELD_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Bench:
    """What was measured, under what circumstances, and what follows from it.

    `failures` are of images that have no result. `written_to` is where the texts of `write` and `all` lay before
    they were deleted, and `same_disk` says whether that is on the file system of the images.
    """

    stages: dict[str, Stage]
    circumstances: Environment
    judgement: BenchVerdict
    batch_size: int
    failures: tuple[dict[str, str], ...]
    written_to: Path
    same_disk: bool


def bench(
    directory: Path | None = None, settings: BenchSettings = BenchSettings(), *, listener: Listener | None = None
) -> Bench:
    """Measure the stages on the first `limit` images of a folder, or on those of the demo; it stays as it is.

    Raises NoImages for an empty folder, and SdprepError where the model cannot be had or opened.
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
    at = run.circumstances()
    failures = tuple(run.failures.values())
    return Bench(stages, at, judge(stages, at), settings.batch_size, failures, Path(folder).parent, same_disk)


class _Run:
    """The stages, each a method that leaves its figures in `stages` unless no image came through."""

    def __init__(self, spec: ModelSpec, files: ModelFiles, settings: BenchSettings, listener: Listener) -> None:
        self._spec, self._files, self._settings, self._listener = spec, files, settings, listener
        self._work = RunOptions(batch_size=settings.batch_size, workers=settings.workers, limit=settings.limit)
        self._provider: str | None = None
        self._startup: float | None = None
        self._said: set[str] = set()
        self.stages: dict[str, Stage] = {}
        self.failures: dict[str, dict[str, str]] = {}

    def circumstances(self) -> Environment:
        """What the figures depend on."""
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
        """The bytes and their checksum, one file after the other."""
        timer, images = _Timer(), 0
        for item in items:
            try:
                file_digest(item)
                images += 1
            except ImageError as error:
                self._fail(Failure(item, error.code, str(error)))
        self._note("read", timer.stage(images))

    def decode_and_predict(self, items: list[ImageItem], *, predict: bool) -> None:
        """Images made ready with nothing behind them; and the model with images that lie in memory.

        Both by the functions that a worker runs, in this process, which takes memory as a worker does from here on.
        """
        # Imported here, as the other stages need no numpy.
        from sdprep.engines.memory import keep_one_heap
        from sdprep.engines.runner import StageRunner

        keep_one_heap()
        inline = StageRunner(engine_config(self._spec, self._files, self._model_settings()), self._tell)
        with closing(inline):
            self._provider = inline.provider
            held: list[Decoded] = []
            timer, images, size = _Timer(), 0, 0
            for outcome in inline.decoded(items):
                if isinstance(outcome, Failure):
                    self._fail(outcome)
                    continue
                images, size = images + 1, size + outcome.pixels.nbytes
                if size <= HELD_BYTES:
                    held.append(outcome)
            self._note("decode", timer.stage(images))
            if predict:
                # The first batch of a model takes longer than all others.
                self._count(inline.predicted(islice(held, self._settings.batch_size), CancelToken()))
                timer = _Timer()
                self._note("predict", timer.stage(self._count(inline.predicted(held, CancelToken()))))

    def whole(self, directory: Path, out: Path) -> None:
        """A run from beginning to end, its texts and catalog in `out`; then the texts anew, from stored results."""
        start = _Start(self._listener, self._tell)
        report = self._annotate(directory, out, start)
        self._provider = report.provider
        for failure in report.failures:
            self.failures.setdefault(failure["path"], failure)
        if start.at is None:
            return
        self._startup = start.at - start.timer.began
        self._note("all", Stage(report.written, time.perf_counter() - start.at, None))
        for text in out.rglob(f"*{self._extension}"):
            text.unlink()
        timer = _Timer()
        self._note("write", timer.stage(self._annotate(directory, out, NullListener()).written))

    def _annotate(self, directory: Path, out: Path, listener: Listener) -> RunReport:
        settings = self._model_settings(PathOptions(output_dir=out))
        if isinstance(settings, TagSettings):
            return tag(directory, settings, listener=listener)
        return caption(directory, settings, listener=listener)

    def _model_settings(self, layout: PathOptions = PathOptions()) -> TagSettings | CaptionSettings:
        kind = TagSettings if self._spec.task == "tag" else CaptionSettings
        return kind(model=self._settings.model, run=self._work, paths=layout)

    @property
    def _extension(self) -> str:
        return self._model_settings().caption_extension

    def _count(self, outcomes: Iterable[Result | Failure]) -> int:
        """The results among some outcomes."""
        images = 0
        for outcome in outcomes:
            if isinstance(outcome, Failure):
                self._fail(outcome)
            else:
                images += 1
        return images

    def _tell(self, note: str) -> None:
        """Pass on what a model says for a person, once: it is opened twice."""
        if note not in self._said:
            self._said.add(note)
            self._listener.note(note)

    def _fail(self, failure: Failure) -> None:
        named = {"path": failure.item.rel, "code": failure.code.value, "message": failure.message}
        self.failures.setdefault(failure.item.rel, named)

    def _note(self, name: str, stage: Stage) -> None:
        if stage.images:
            self.stages[name] = stage


class _Timer:
    """Seconds since it was made: on the clock, and of the processor in this process."""

    def __init__(self) -> None:
        self.began, self._cpu = time.perf_counter(), time.process_time()

    def stage(self, images: int) -> Stage:
        """What has passed, for so many images."""
        return Stage(images, time.perf_counter() - self.began, time.process_time() - self._cpu)


class _Start:
    """A listener that notes when the model is ready; the rest goes on to another, what is said through `tell`."""

    def __init__(self, listener: Listener, tell: Callable[[str], None]) -> None:
        self._listener, self._tell, self.timer = listener, tell, _Timer()
        self.at: float | None = None

    def note(self, message: str) -> None:
        """Pass it on."""
        self._tell(message)

    def start(self, total: int) -> None:
        """The model is about to see its first image."""
        self._listener.start(total)
        self.at = time.perf_counter()

    def advance(self) -> None:
        """One more."""
        self._listener.advance()
