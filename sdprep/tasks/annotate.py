"""The run that caption and tag share: look at everything, decide, predict what is missing, write, report."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from sdprep.config import CaptionSettings, TagSettings
from sdprep.data.catalogs import Access, Catalogs, Purpose
from sdprep.data.sidecar import write_obstacle
from sdprep.data.source import FolderSource, sidecar_collisions
from sdprep.engines import local
from sdprep.errors import CatalogFailed, ReadOnlyFolder, WriteError
from sdprep.models.backends import check_installed
from sdprep.models.base import ModelFiles, ModelSpec
from sdprep.models.hub import fetch, locate
from sdprep.tasks.planning import Job, Target, examine
from sdprep.tasks.runs import catalogs_for, run_info
from sdprep.tasks.writing import Writer
from sdprep.types import Failure, FailureCode, Listener, Result, RunReport, Silent, Stop

OUTPUT_DIR = "Give --output-dir for pictures that must stay untouched"
# The setting under which a text remembers how its model was described; it is stated together with the model.
MODEL_DESCRIPTION = "model_description"


class Kind(Protocol):
    """What makes caption and tag differ. With `want_results`, images that need no text are shown to the model too."""

    command: str
    spec: ModelSpec
    want_results: bool

    def make_job(self, files: ModelFiles | None) -> Job:
        """The job with the model's files, or without them as long as they are not on this machine."""

    def finish(self, targets: Sequence[Target], job: Job, report: RunReport) -> None:
        """What is to be done when all images have their outcome."""


class Annotation:
    """One run of caption or tag over a folder."""

    def __init__(self, kind: Kind, settings: TagSettings | CaptionSettings, listener: Listener, stop: Stop) -> None:
        self._kind, self._settings, self._listener, self._stop = kind, settings, listener, stop
        self._files = locate(kind.spec)
        self._job = kind.make_job(self._files)
        info = run_info(kind.command, settings, str(self._job.wish.settings["model"]))
        self.report = RunReport(kind.command, run=info.uid, dry_run=settings.work.dry_run, model=kind.spec.name)
        self._writer = Writer(self.report, info, self._job, listener if settings.work.debug else Silent())

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
        rehearsal = self._settings.work.dry_run
        purpose = Purpose.REHEARSE if rehearsal else Purpose.ADD
        access = Access(self._kind.command, purpose, self._listener.note)
        with catalogs_for(directory, self._settings.layout, access) as catalogs:
            targets = self._plan(directory, catalogs)
            todo = self._within_limit([target for target in targets if self._has_work(target)])
            if rehearsal:
                self._rehearse(todo)
            else:
                self._work(todo)
                self._kind.finish(targets, self._job, self.report)
            self.report.revision = self._files.revision if self._files else self._kind.spec.source.revision
            self.report.stopped = self._stop.exit_code
            self.report.seconds = time.monotonic() - began
            self.report.check()
            for catalog in () if rehearsal else catalogs:
                with catalog.transaction():
                    catalog.end_run(str(self.report.run), self.report.as_dict())
        return self.report

    def _plan(self, directory: Path, catalogs: Catalogs) -> list[Target]:
        source = FolderSource(directory, self._settings.layout)
        items = source.items()
        if source.passed_over:
            self._listener.note(source.passed_over)
        self.report.found = len(items)
        clashing = {clash.item: clash for clash in sidecar_collisions(items, self._job.extension, self._job.naming)}
        targets = []
        for item in items:
            target = clashing.get(item) or examine(item, self._job, catalogs)
            if isinstance(target, Failure):
                self.report.fail(target)
                continue
            targets.append(target)
            if not self._has_work(target):
                self._writer.settle(target)
        return targets

    def _has_work(self, target: Target) -> bool:
        return not target.settled or self._needs_model(target)

    def _needs_model(self, target: Target) -> bool:
        if self._settings.work.refresh:
            return True
        return target.result is None and (self._kind.want_results or not target.settled)

    def _within_limit(self, todo: list[Target]) -> list[Target]:
        limit = self._settings.work.limit
        chosen = todo if limit is None else todo[:limit]
        self.report.remaining += len(todo) - len(chosen)
        return chosen

    def _rehearse(self, todo: Sequence[Target]) -> None:
        for target in todo:
            if target.settled:
                self._writer.settle(target)
            else:
                self.report.remaining += 1

    def _writable(self, todo: Sequence[Target]) -> list[Target]:
        """Those whose texts can be written; the others fail before a model is loaded for them.

        Raises ReadOnlyFolder if that are all.
        """
        folders = dict.fromkeys(target.sidecar.parent for target in todo if not target.settled)
        obstacles = {folder: error for folder in folders if (error := write_obstacle(folder)) is not None}
        if obstacles and len(obstacles) == len(folders):
            folder, error = next(iter(obstacles.items()))
            raise ReadOnlyFolder(folder, error, OUTPUT_DIR)
        for target in todo:
            if (obstacle := obstacles.get(target.sidecar.parent)) is not None:
                message = f"its folder cannot be written: {obstacle.strerror}"
                self._writer.fail(target, Failure(target.item, FailureCode.UNWRITABLE, message))
        return [target for target in todo if target.sidecar.parent not in obstacles]

    def _work(self, todo: Sequence[Target]) -> None:
        unseen = []
        with self._heeding_stop():
            for target in self._writable(todo):
                if self._needs_model(target):
                    unseen.append(target)
                elif self._stop:
                    self.report.remaining += 1
                elif target.result is not None and target.disk.digest is not None:
                    self._writer.add(target, target.disk.digest, target.result)
        if unseen and not self._stop:
            self._predict(unseen)
        else:
            self.report.remaining += len(unseen)

    @contextmanager
    def _heeding_stop(self) -> Iterator[None]:
        """Inside, a wish to stop is looked at; at the end, however it comes, what is in hand is written."""
        self._stop.heeded = True
        try:
            yield
        finally:
            self._writer.commit()
            self._stop.heeded = False

    def _predict(self, unseen: Sequence[Target]) -> None:
        """Have the model loaded and shown the images, and write what follows."""
        check_installed(self._kind.spec)
        self._files = self._files or fetch(self._kind.spec, self._listener)
        self._job = self._writer.job = self._kind.make_job(self._files)
        waiting = {target.item: target for target in unseen}
        with local.opened(self._kind.spec, self._files, self._settings, self._listener.note) as engine:
            self.report.predicted = len(unseen)
            self.report.provider = engine.provider
            for note in engine.notes:
                self._listener.note(note)
            self._listener.start(len(waiting))
            with self._heeding_stop():
                for outcome in engine.run(list(waiting), self._stop):
                    self._take(waiting.pop(outcome.item), outcome)
        self.report.predicted -= len(waiting)
        self.report.remaining += len(waiting)

    def _take(self, target: Target, outcome: Result | Failure) -> None:
        if isinstance(outcome, Result):
            self._writer.add(target, outcome.digest, outcome.data)
        else:
            self._writer.fail(target, outcome)
        self._listener.advance()
