"""The run that caption and tag share: look at everything, decide, predict what is missing, write, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from sdprep.catalog.journal import Change
from sdprep.catalog.session import AccessMode, CatalogAccess, CatalogSession
from sdprep.config import CaptionSettings, TagSettings
from sdprep.engines.base import open_engine
from sdprep.errors import CatalogFailed, ModelError, ReadOnlyFolder, WriteError
from sdprep.files import real_path
from sdprep.folders import write_obstacle
from sdprep.models.backends import check_installed
from sdprep.models.base import ModelFiles, ModelSpec
from sdprep.models.files.hub import ensure_downloaded, find_local
from sdprep.models.registry.registry import unlisted
from sdprep.report import CancelToken, Listener, NullListener, RunReport
from sdprep.tasks.annotation.engine_config import engine_config
from sdprep.tasks.annotation.lookup import stored_results
from sdprep.tasks.annotation.planner import Job, PlannedImage, Planner
from sdprep.tasks.annotation.writer import Writer
from sdprep.tasks.changes import replace_through_journal
from sdprep.tasks.dataset import Dataset
from sdprep.tasks.run_info import catalogs_for, run_info
from sdprep.texts.sidecar import sidecar_collisions
from sdprep.types import Failure, FailureCode, ImageItem, Result

# A model that has answered with no number so often, and with numbers never, is at fault, and no image is.
WITHOUT_NUMBERS = 8
OUTPUT_DIR = "Give --output-dir for images that must stay untouched"
# The setting under which a text remembers how its model was described; it is stated together with the model.
MODEL_DESCRIPTION = "model_description"


# What gives the names of images and their stored results.
Results = Callable[[], Iterable[tuple[str, bytes]]]


class Annotator(Protocol):
    """What makes caption and tag differ. With `want_results`, images that need no text are shown to the model too."""

    command: str
    spec: ModelSpec
    want_results: bool

    def make_job(self, files: ModelFiles | None) -> Job:
        """The job with the model's files, or without them as long as they are not on this machine."""

    def finish(self, results: Results, report: RunReport, replace: Callable[[Change], None]) -> None:
        """Do what is left when all images have their outcome; `replace` replaces files through the journal."""


class Annotation:
    """One run of caption or tag over a folder."""

    def __init__(
        self, kind: Annotator, settings: TagSettings | CaptionSettings, listener: Listener, stop: CancelToken
    ) -> None:
        self._kind, self._settings, self._listener, self._stop = kind, settings, listener, stop
        if (reason := unlisted()) is not None:
            listener.note(reason)
        self._files = find_local(kind.spec)
        self._job = kind.make_job(self._files)
        self._info = info = run_info(kind.command, settings, str(self._job.wish.settings["model"]))
        self.report = RunReport(kind.command, run=info.uid, dry_run=settings.run.dry_run, model=kind.spec.name)
        self._refused: set[ImageItem] = set()
        self._obstacles: dict[Path, OSError | None] = {}
        self._answers, self._without_numbers = 0, 0
        self._writer = Writer(self.report, info, self._job, listener if settings.run.debug else NullListener())

    def run(self, directory: Path) -> RunReport:
        """Do it. Raises SdprepError where the run cannot go on; an image's fault is in the report."""
        try:
            return self._run(directory)
        except (WriteError, CatalogFailed) as error:
            missing = self.report.uncounted + self.report.remaining
            error.args = (f"{error}\n{missing} of {self.report.found} images are missing",)
            raise

    def _run(self, directory: Path) -> RunReport:
        began = time.monotonic()
        rehearsal = self._settings.run.dry_run
        purpose = AccessMode.DRY_RUN if rehearsal else AccessMode.ADD
        access = CatalogAccess(self._kind.command, purpose, self._listener.note)
        with catalogs_for(directory, self._settings.paths, access) as catalogs:
            items = self._found(directory)
            pending = self._settle(items, catalogs)
            if not rehearsal:
                self._predict(pending)
                known = [item for item in items if item not in self._refused] if self._refused else items
                catalog = catalogs.of(self._settings.paths.output_dir or real_path(directory))
                results = partial(stored_results, known, self._job, catalogs)
                self._kind.finish(results, self.report, partial(replace_through_journal, catalog, self._info))
            self.report.revision = self._files.revision if self._files else self._kind.spec.source.revision
            self.report.stopped = self._stop.exit_code
            self.report.seconds = time.monotonic() - began
            self.report.check()
            for catalog in () if rehearsal else catalogs:
                with catalog.transaction():
                    catalog.end_run(str(self.report.run), self.report.as_dict())
        return self.report

    def _found(self, directory: Path) -> list[ImageItem]:
        items = Dataset(directory, self._settings.paths).items(self._listener)
        self.report.found = len(items)
        return items

    def _settle(self, items: list[ImageItem], catalogs: CatalogSession) -> list[PlannedImage]:
        """Count or write all that needs no model as it is found, and return what needs one."""
        pending: list[PlannedImage] = []
        left = self._settings.run.limit
        with self._heeding_stop():
            for done, target in enumerate(self._targets(items, catalogs)):
                if self._stop:
                    self.report.remaining += len(items) - done
                    break
                if isinstance(target, Failure):
                    self._refused.add(target.item)
                    self.report.fail(target)
                elif not self._has_work(target):
                    self._writer.settle(target)
                elif left == 0:
                    self.report.remaining += 1
                else:
                    left = None if left is None else left - 1
                    self._begin(target, pending)
        blocked = [(folder, error) for folder, error in self._obstacles.items() if error is not None]
        if blocked and len(blocked) == len(self._obstacles):
            folder, error = blocked[0]
            raise ReadOnlyFolder(folder, error, OUTPUT_DIR)
        return pending

    def _targets(self, items: list[ImageItem], catalogs: CatalogSession) -> Iterator[PlannedImage | Failure]:
        clashes = sidecar_collisions(items, self._job.extension, self._job.naming)
        yield from clashes
        clashing = {clash.item for clash in clashes}
        planner = Planner(self._job, catalogs, want_results=self._kind.want_results)
        yield from planner.examine([item for item in items if item not in clashing] if clashing else items)

    def _has_work(self, target: PlannedImage) -> bool:
        return not target.settled or self._needs_model(target)

    def _needs_model(self, target: PlannedImage) -> bool:
        if self._settings.run.refresh:
            return True
        return target.result is None and (self._kind.want_results or not target.settled)

    def _begin(self, target: PlannedImage, pending: list[PlannedImage]) -> None:
        """Write from the stored result, or note for the model; a rehearsal counts."""
        if self._settings.run.dry_run:
            if target.settled:
                self._writer.settle(target)
            else:
                self.report.remaining += 1
        elif not target.settled and (error := self._obstacle(target.item)) is not None:
            message = f"its folder cannot be written: {error.strerror}"
            self._writer.fail(target, Failure(target.item, FailureCode.UNWRITABLE, message))
        elif self._needs_model(target):
            # There may be a million of these: no result waits for one that will take its place.
            pending.append(target if target.result is None else replace(target, result=None))
        else:
            self._writer.rewrite(target)

    def _obstacle(self, item: ImageItem) -> OSError | None:
        """What forbids writing the sidecar of an image; it is asked before a model is loaded, once per folder."""
        folder = item.target.parent
        if folder not in self._obstacles:
            self._obstacles[folder] = write_obstacle(item.target_folder, folder)
        return self._obstacles[folder]

    @contextmanager
    def _heeding_stop(self) -> Iterator[None]:
        """Inside, a wish to stop is looked at; at the end, however it comes, what is in hand is written."""
        self._stop.interruptible = True
        try:
            yield
        finally:
            self._writer.commit()
            self._stop.interruptible = False

    def _predict(self, pending: list[PlannedImage]) -> None:
        """Have the model loaded and shown the images, and write what follows."""
        if not pending or self._stop:
            self.report.remaining += len(pending)
            return
        check_installed(self._kind.spec)
        self._files = self._files or ensure_downloaded(self._kind.spec, self._listener)
        self._job = self._writer.job = self._kind.make_job(self._files)
        waiting = {target.item: target for target in pending}
        config = engine_config(self._kind.spec, self._files, self._settings)
        with open_engine(config, self._listener.note) as engine:
            self.report.predicted = len(pending)
            self.report.provider = engine.provider
            self._listener.start(len(waiting))
            with self._heeding_stop():
                for outcome in engine.run(list(waiting), self._stop):
                    self._take(waiting.pop(outcome.item), outcome)
        self.report.predicted -= len(waiting)
        self.report.remaining += len(waiting)

    def _take(self, target: PlannedImage, outcome: Result | Failure) -> None:
        if isinstance(outcome, Result):
            self._answers += 1
            self._writer.add(target, outcome.digest, outcome.data, outcome.remarks)
        else:
            self._writer.fail(target, outcome)
            self._check_model(outcome)
        self._listener.advance()

    def _check_model(self, failure: Failure) -> None:
        """Raise ModelError if the model answers with nothing but NaN, for two batches and eight images at least."""
        self._without_numbers += failure.code is FailureCode.NONFINITE
        if not self._answers and self._without_numbers >= max(WITHOUT_NUMBERS, 2 * self._settings.run.batch_size):
            raise ModelError(
                f"the model answered with NaN or infinity for each of its first {self._without_numbers} images. "
                "Check its files, or take another --device, precision or --model; --device cpu is the surest"
            )
