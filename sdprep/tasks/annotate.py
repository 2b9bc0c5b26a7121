"""The run that caption and tag share: look at everything, decide, predict what is missing, write, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sdprep.config import CaptionSettings, TagSettings
from sdprep.data.catalogs import Catalogs
from sdprep.data.source import FolderSource, sidecar_collisions
from sdprep.engines import local
from sdprep.models.base import Model, ModelFiles, ModelSpec
from sdprep.models.hub import fetch, locate
from sdprep.tasks.planning import Job, Target, examine
from sdprep.tasks.runs import catalogs_for, run_info
from sdprep.tasks.writing import Writer
from sdprep.types import Failure, Listener, Predicted, Prediction, RunReport, Stop


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model at work, and how its predictions are stored."""

    model: Model
    encode: Callable[[Prediction], bytes]


@dataclass(frozen=True, slots=True)
class Kind:
    """What makes caption and tag differ.

    `make_job` is called with the model's files where they are on this machine, else with None; `load` opens them.
    `finish` gets all targets at the end, with the job they were written by.
    """

    command: str
    spec: ModelSpec
    make_job: Callable[[ModelFiles | None], Job]
    load: Callable[[ModelFiles], Loaded]
    want_results: bool = False
    finish: Callable[[Sequence[Target], Job], None] = lambda *_: None


class Annotation:
    """One run of caption or tag over a folder."""

    def __init__(self, kind: Kind, settings: TagSettings | CaptionSettings, listener: Listener, stop: Stop) -> None:
        self._kind, self._settings, self._listener, self._stop = kind, settings, listener, stop
        self._files = locate(kind.spec)
        self._job = kind.make_job(self._files)
        info = run_info(kind.command, settings, str(self._job.wish.settings["model"]))
        self.report = RunReport(kind.command, run=info.uid, dry_run=settings.work.dry_run, model=kind.spec.name)
        self._writer = Writer(self.report, info, self._job)

    def run(self, directory: Path) -> RunReport:
        """Do it. Raises SdprepError where the run cannot go on; an image's fault is in the report."""
        began = time.monotonic()
        rehearsal = self._settings.work.dry_run
        with catalogs_for(directory, self._settings.layout, rehearsal=rehearsal) as catalogs:
            targets = self._plan(directory, catalogs)
            todo = self._within_limit([target for target in targets if self._has_work(target)])
            if rehearsal:
                self.report.remaining += len(todo)
            else:
                self._work(todo)
                self._kind.finish(targets, self._job)
            self.report.revision = self._files.revision if self._files else self._kind.spec.source.revision
            self.report.stopped = self._stop.exit_code
            self.report.seconds = time.monotonic() - began
            self.report.check()
            for catalog in catalogs:
                with catalog.transaction():
                    catalog.end_run(str(self.report.run), self.report.as_dict())
        return self.report

    def _plan(self, directory: Path, catalogs: Catalogs) -> list[Target]:
        items = FolderSource(directory, self._settings.layout).items()
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

    def _work(self, todo: Sequence[Target]) -> None:
        for target in todo:
            if self._needs_model(target):
                continue
            if self._stop:
                self.report.remaining += 1
            elif target.result is not None and target.disk.digest is not None:
                self._writer.add(target, target.disk.digest, target.result)
        self._writer.commit()
        unseen = [target for target in todo if self._needs_model(target)]
        if unseen:
            self._predict(unseen)

    def _predict(self, unseen: Sequence[Target]) -> None:
        """Load the model, show it the images, and write what follows."""
        self._files = self._files or fetch(self._kind.spec, self._listener)
        self._job = self._writer.job = self._kind.make_job(self._files)
        loaded = self._kind.load(self._files)
        waiting = {target.item: target for target in unseen}
        self._listener.start(len(waiting))
        work = self._settings.work
        try:
            for outcome in local.run(
                list(waiting), loaded.model, batch_size=work.batch_size, workers=work.workers, stop=self._stop
            ):
                self._take(waiting.pop(outcome.item), outcome, loaded)
        finally:
            self._writer.commit()
            loaded.model.close()
        self.report.remaining += len(waiting)

    def _take(self, target: Target, outcome: Predicted | Failure, loaded: Loaded) -> None:
        if isinstance(outcome, Predicted):
            self._writer.add(target, outcome.digest, loaded.encode(outcome.prediction))
        else:
            self._writer.fail(target, outcome)
        self._listener.advance()
