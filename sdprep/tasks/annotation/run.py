"""The run that caption and tag share: the images of a source, through a model, into a sink."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Protocol

from sdprep.catalog.session import AccessMode, CatalogAccess
from sdprep.config import CaptionSettings, TagSettings
from sdprep.engines.base import open_engine
from sdprep.errors import CatalogFailed, ModelError, WriteError
from sdprep.files import real_path
from sdprep.images.source import FolderSource
from sdprep.models.backends import check_installed
from sdprep.models.files.hub import ensure_downloaded, find_local
from sdprep.models.registry.registry import unlisted
from sdprep.report import CancelToken, Listener, NullListener, RunReport, StageTime, add_stages
from sdprep.tasks.annotation.engine_config import engine_config
from sdprep.tasks.annotation.job import Annotator, Job
from sdprep.tasks.annotation.model_notes import other_models_note, toy_note
from sdprep.tasks.annotation.sidecar_sink import SidecarSink
from sdprep.tasks.annotation.writer import Writer
from sdprep.tasks.changes import replace_through_journal
from sdprep.tasks.run_info import catalogs_for, run_info
from sdprep.types import Failure, FailureCode, ImageItem, Result

# A model that has answered with NaN or infinity this often, and never with numbers, is at fault, and not the images.
NONFINITE_LIMIT = 8
# What a listener is told while the model sees the images, by command.
DOING = {"caption": "captioning", "tag": "tagging"}
# The stages of a run, in their order.
STAGES = ("plan", "decode", "predict", "write")


class Source(Protocol):
    """Where images come from."""

    @property
    def skipped(self) -> str:
        """What `items` left out although it may be an image, as a sentence; empty if there is nothing."""

    def items(self) -> list[ImageItem]:
        """All images. Raises NoImages if there are none."""


class Sink(Protocol):
    """Where results go. It counts every image in the report of the run."""

    def pending(self, items: list[ImageItem], job: Job) -> list[ImageItem]:
        """The images that the model has to see; the others are counted now."""

    def write(self, outcome: Result | Failure, job: Job) -> None:
        """Take the outcome of one pending image; `job.reader` reads its result."""

    def commit(self) -> None:
        """Make everything that was taken durable; also called when the run ends early."""


class Annotation:
    """One run of caption or tag; `report` counts the images."""

    def __init__(
        self,
        annotator: Annotator,
        settings: TagSettings | CaptionSettings,
        listener: Listener | None = None,
        stop: CancelToken | None = None,
    ) -> None:
        self._annotator, self._settings = annotator, settings
        self._listener = NullListener() if listener is None else listener
        self._stop = CancelToken() if stop is None else stop
        self._began = time.monotonic()
        self._timings: dict[str, StageTime] = {}
        if (reason := unlisted()) is not None:
            self._listener.note(reason)
        self._files = find_local(annotator.spec)
        self._job = annotator.job(self._files)
        self._info = run_info(annotator.command, settings, str(self._job.request.settings["model"]))
        self.report = RunReport(
            annotator.command, run=self._info.uid, dry_run=settings.run.dry_run, model=annotator.spec.name
        )

    def run_folder(self, directory: Path) -> RunReport:
        """Annotate the images of a folder with sidecars.

        Raises SdprepError if the run cannot continue; the fault of an image is in the report.
        """
        try:
            return self._run_folder(directory)
        except (WriteError, CatalogFailed) as error:
            missing = self.report.uncounted + self.report.remaining
            error.args = (f"{error}\n{missing} of {self.report.found} images are missing",)
            raise

    def _run_folder(self, directory: Path) -> RunReport:
        paths, options, report = self._settings.paths, self._settings.run, self.report
        mode = AccessMode.DRY_RUN if options.dry_run else AccessMode.ADD
        access = CatalogAccess(self._annotator.command, mode, self._listener.note)
        with catalogs_for(directory, paths, access) as catalogs:
            writer = Writer(report, self._info, self._listener if options.debug else NullListener())
            want_results = self._annotator.want_results
            sink = SidecarSink(
                catalogs, writer, report, options, self._stop, want_results=want_results, advance=self._listener.advance
            )
            source = FolderSource(directory, recursive=paths.recursive, output_dir=paths.output_dir)
            job = self._annotate(source, sink)
            if not options.dry_run:
                catalog = catalogs.of(paths.output_dir or real_path(directory))
                job.reader.finish(
                    partial(sink.results, job), report, partial(replace_through_journal, catalog, self._info)
                )
            self._close_report()
            for catalog in () if options.dry_run else catalogs:
                with catalog.transaction():
                    catalog.end_run(self._info.uid, report.as_dict())
        return report

    def run(self, source: Source, sink: Sink) -> RunReport:
        """Annotate the images of a source. Raises SdprepError if the run cannot continue."""
        self._annotate(source, sink)
        self._close_report()
        return self.report

    def _annotate(self, source: Source, sink: Sink) -> Job:
        """Give every image of the source an outcome, and return the job with the model's files."""
        items = source.items()
        if source.skipped:
            self._listener.note(source.skipped)
        if (warning := toy_note(self._annotator.spec, items)) is not None:
            self._listener.note(warning)
        self.report.found = len(items)
        self._listener.stage("planning", len(items))
        with self._interruptible(sink), self._measured("plan", len(items)):
            pending = sink.pending(items, self._job)
        model = str(self._job.request.settings["model"])
        if (note := other_models_note(self.report.other_models, model)) is not None:
            self._listener.note(note)
        if not pending or self._stop:
            self.report.remaining += len(pending)
            return self._job
        return self._predict(pending, sink)

    def _predict(self, pending: list[ImageItem], sink: Sink) -> Job:
        """Load the model, show it the images, and give the outcomes to the sink."""
        spec, report, job = self._annotator.spec, self.report, self._job
        check_installed(spec)
        if self._files is None:
            self._files = ensure_downloaded(spec, self._listener)
            job = self._annotator.job(self._files)
        self._listener.stage(f"loading {spec.name}")
        failures = NonfiniteCheck(max(NONFINITE_LIMIT, 2 * self._settings.run.batch_size))
        with open_engine(engine_config(spec, self._files, self._settings), self._listener.note) as engine:
            report.predicted = len(pending)
            report.provider = engine.provider
            self._listener.stage(DOING[report.command], len(pending))
            left = len(pending)
            with self._interruptible(sink):
                for outcome in engine.run(pending, self._stop):
                    left -= 1
                    with self._measured("write", isinstance(outcome, Result)):
                        sink.write(outcome, job)
                    failures.check(outcome)
                    self._listener.advance()
        add_stages(self._timings, engine.timings if self._settings.run.timings else {})
        report.predicted -= left
        report.remaining += left
        return job

    @contextmanager
    def _interruptible(self, sink: Sink) -> Iterator[None]:
        """Inside, cancellation is checked; at the end, however it comes, the sink commits."""
        self._stop.interruptible = True
        try:
            yield
        finally:
            with self._measured("write"):
                sink.commit()
            self._stop.interruptible = False

    def _measured(self, name: str, images: int = 0) -> AbstractContextManager[None]:
        """Add the time spent inside to a stage, if timings are asked for."""
        if not self._settings.run.timings:
            return nullcontext()
        stage = self._timings.setdefault(name, StageTime())
        stage.images += images
        return stage.measured()

    def _close_report(self) -> None:
        report = self.report
        report.revision = self._files.revision if self._files else self._annotator.spec.source.revision
        report.stopped = self._stop.exit_code
        report.seconds = time.monotonic() - self._began
        if self._settings.run.timings:
            stages = {name: self._timings[name] for name in STAGES if name in self._timings}
            report.timings = {
                name: {key: round(value, 6) for key, value in asdict(stage).items()} for name, stage in stages.items()
            }
        report.check()


class NonfiniteCheck:
    """Tells a model that only answers with NaN or infinity from images that make it do so."""

    def __init__(self, limit: int) -> None:
        self._limit, self._results, self._nonfinite = limit, 0, 0

    def check(self, outcome: Result | Failure) -> None:
        """Raise ModelError once too many images have failed so, and none has a result."""
        if isinstance(outcome, Result):
            self._results += 1
            return
        self._nonfinite += outcome.code is FailureCode.NONFINITE
        if not self._results and self._nonfinite >= self._limit:
            raise ModelError(
                f"the model answered with NaN or infinity for each of its first {self._nonfinite} images. "
                "Check its files, or take another --device, precision or --model; --device cpu is the surest"
            )
