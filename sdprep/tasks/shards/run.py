"""`sdprep tag` and `sdprep caption` with --results: shards through a model, each committed whole."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from itertools import takewhile

from PIL import __version__ as pillow_version

from sdprep import __version__
from sdprep.config import CaptionSettings, TagSettings
from sdprep.engines.ray import check_installed as check_ray
from sdprep.errors import UsageError
from sdprep.models.backends import check_installed
from sdprep.models.files.hub import ensure_downloaded
from sdprep.report import CancelToken, Listener, NullListener, RunReport
from sdprep.sanitize import printable
from sdprep.shards.plan import plan_shards
from sdprep.shards.results import PLAN, Results, RunRecord, Shard
from sdprep.tasks.annotation.engine_config import engine_config, quantize_for
from sdprep.tasks.annotation.job import Annotator, Combination, Job
from sdprep.tasks.annotation.run import DOING
from sdprep.tasks.caption import Captioning
from sdprep.tasks.shards.anew import TextWorker, record_anew, stored_results
from sdprep.tasks.shards.progress import Progress
from sdprep.tasks.shards.remote import RemoteShards, RemoteWorkers, needs_of, open_remote
from sdprep.tasks.shards.settings import ShardOptions
from sdprep.tasks.shards.work import (
    Ending,
    ShardOutcome,
    ShardTask,
    ShardWorker,
    is_of_shard,
    open_worker,
)
from sdprep.tasks.tag import ScoreReader, annotator
from sdprep.texts.exchange.parquet import check_parquet

MEGABYTE = 1_000_000
# Failures that a report names; the results have them all.
NAMED = 100
# So many shards one after the other that cannot be read tell that the store cannot be.
UNREACHABLE = 2


def run_shards(
    settings: TagSettings | CaptionSettings,
    options: ShardOptions,
    *,
    listener: Listener | None = None,
    stop: CancelToken | None = None,
) -> RunReport:
    """Tag or caption the images of all shards that are not done. Raises SdprepError if the run cannot continue."""
    listener = listener or NullListener()
    check_parquet("shards")
    made = annotator(settings, note=cache(listener.note)) if isinstance(settings, TagSettings) else Captioning(settings)
    if isinstance(made, Combination):
        raise UsageError("--results takes one model; run the command once for each, with a --results of its own")
    if options.ray is not None:
        check_ray()
        needs_of(settings, made.spec)
    return ShardRun(made, settings, options, listener, CancelToken() if stop is None else stop).run()


class ShardRun:
    """One process of a run over shards; `report` counts the images of the shards that it has done."""

    def __init__(
        self,
        made: Annotator,
        settings: TagSettings | CaptionSettings,
        options: ShardOptions,
        listener: Listener,
        stop: CancelToken,
    ) -> None:
        self._made, self._settings, self._options = made, settings, options
        self._listener, self._stop = listener, stop
        self._results = Results.at(options.results)
        # The results of another run, of which only the text is made anew.
        self._stored = stored_results(options.sources)
        self._began = time.monotonic()
        self._in_vain = self._committed = self._damaged = 0
        self._given_up = set[str]()
        self.report = RunReport("tag" if isinstance(settings, TagSettings) else "caption")

    def run(self) -> RunReport:
        """Do the shards. Raises SdprepError."""
        job = self._job()
        plan = self._planned(job)
        done = self._results.done()
        self._given_up = {shard for shard, each in self._results.failed().items() if each.is_given_up} - done.keys()
        if count := len(self._given_up):
            shards = "1 shard was" if count == 1 else f"{count:,} shards were"
            self._listener.note(f"{shards} given up before; sdprep results status {self._results} shows why")
        there = {shard.id for shard in plan} if self._stored is None else self._stored.done().keys()
        left = there - done.keys() - self._given_up
        own, others = self._shares(plan, lambda shard: shard.id in left)
        if own or others:
            self._work(job, own, others)
            done = self._results.done()
        return self._closed(plan, done.keys() & {shard.id for shard in plan})

    def _job(self) -> Job:
        """What is made of each image. Raises UsageError for a prompt that needs a folder."""
        spec, settings = self._made.spec, self._settings
        if self._stored is None:
            check_installed(spec, quantize_for(settings, spec))
        forced = isinstance(settings, TagSettings) and settings.force_download
        self._files = ensure_downloaded(spec, self._listener, check=forced)
        job = self._made.job(self._files)
        if job.prompts is not None:
            raise UsageError("--prompt has variables, which are read from a dataset folder; --results has none")
        self.report.model = spec.name
        self.report.revision = self._files.revision
        return job

    def _planned(self, job: Job) -> list[Shard]:
        """The shards, planned before anything is recorded, so that a wrong source can be put right."""
        shards, record = None, self._record(job)
        if self._stored is not None:
            record = record_anew(self._stored, record)
        if self._results.store.find(PLAN) is None:
            self._listener.stage("planning")
            shards = self._listed()
        self._results.begin(record)
        if self._results.store.overwrites:
            self._listener.note(
                f"{self._results} cannot refuse a second object of the same name: of two processes that do the same "
                "shard, the last one counts"
            )
        return self._results.plan(lambda: self._listed() if shards is None else shards)

    def _listed(self) -> list[Shard]:
        return plan_shards(self._options.sources) if self._stored is None else self._stored.plan()

    def _record(self, job: Job) -> RunRecord:
        sources = self._options.sources
        columns = {"image_column": sources.image_column, "key_column": sources.key_column}
        labels = job.reader.labels if isinstance(job.reader, ScoreReader) else None
        return RunRecord(
            self._made.spec.task,
            str(self._made.spec.name),
            dict(job.request.settings),
            job.result_key or {},
            {"urls": list(sources.urls), **{name: value for name, value in columns.items() if value is not None}},
            versions={"sdprep": __version__, "pillow": pillow_version},
            labels=[] if labels is None else list(zip(labels.names, labels.categories, strict=True)),
            decoder=job.decoder,
            extension=job.extension,
            stated=dict(self._options.stated),
        )

    def _shares(self, plan: Sequence[Shard], is_left: Callable[[Shard], bool]) -> tuple[list[Shard], list[Shard]]:
        """The shards of this process that are left, and those of others in an order of its own."""
        index, count = self._options.index, self._options.count
        others = [shard for place, shard in enumerate(plan) if place % count != index and is_left(shard)]
        random.shuffle(others)
        return list(filter(is_left, plan[index::count])), others if self._options.steal else []

    def _work(self, job: Job, own: Sequence[Shard], others: Sequence[Shard]) -> None:
        """Do the shards, and count what becomes of them."""
        progress = Progress(self._listener, [*own, *others])
        with self._workers(job, len(own) + len(others), progress) as workers:
            progress.begin(DOING[self.report.command] if self._stored is None else "making text")
            self._stop.interruptible = True
            try:
                for shard, outcome in workers.outcomes(self._undone(own, others)):
                    self.report.provider = workers.provider
                    progress.end(shard)
                    self._take(shard, outcome)
            finally:
                self._stop.interruptible = False

    def _workers(
        self, job: Job, count: int, progress: Progress
    ) -> AbstractContextManager[ShardWorker | RemoteWorkers | TextWorker]:
        """What does so many shards: a model in this process or on a cluster, or rules where there are results."""
        if self._stored is not None:
            if self._options.ray is not None:
                raise UsageError("--engine ray is for images; the text of stored results is made in this process")
            return nullcontext(TextWorker(self._stored, self._results, job))
        options, settings, spec = self._options, self._settings, self._made.spec
        config = engine_config(spec, self._files, settings)
        task = ShardTask(self._results, options.sources, spec, job, options.spool * MEGABYTE, settings.run.batch_size)
        self._listener.stage(f"loading {spec.name}" if options.ray is None else "connecting to Ray")
        ray, note = self._options.ray, self._listener.note
        if ray is None:
            return open_worker(task, config, self._stop, note, seen=progress.see)
        sent = RemoteShards.of(task, config, self._record(job))
        return open_remote(sent, ray, needs_of(settings, spec), count, self._stop, note)

    def _undone(self, own: Sequence[Shard], others: Sequence[Shard]) -> Iterator[Shard]:
        """The own shards, then those of others that are not done by then."""
        yield from takewhile(lambda _: not self._stop, own)
        done = self._results.done() if others and not self._stop else {}
        yield from takewhile(lambda _: not self._stop, (shard for shard in others if shard.id not in done))

    def _take(self, shard: Shard, outcome: ShardOutcome) -> None:
        """Count what became of a shard. Raises StoreError if it tells that no shard can be read."""
        report = self.report
        self._in_vain = self._in_vain + 1 if outcome.error is not None and not is_of_shard(outcome.error) else 0
        if outcome.error is not None:
            self._given_up.add(shard.id)
            self._listener.note(f"gave up the shard {shard.id}: {outcome.error}")
            if self._in_vain == UNREACHABLE:
                raise outcome.error
        report.found += outcome.images
        if outcome.ending is Ending.DONE_BY_OTHERS:
            report.current += outcome.images
        elif outcome.ending is Ending.COMMITTED:
            self._committed += 1
            report.written += outcome.images - len(outcome.failed)
            report.failed += len(outcome.failed)
            for row in outcome.failed[: NAMED - len(report.failures)]:
                path = printable(f"{shard.id}/{row.member}")
                report.failures.append({"path": path, "code": row.outcome, "message": row.message})
            if outcome.damage is not None:
                self._damaged += 1
                self._listener.note(f"{printable(shard.url)} ({outcome.damage.outcome}): {outcome.damage.message}")

    def _closed(self, plan: Sequence[Shard], done: set[str]) -> RunReport:
        report = self.report
        failed = len(self._given_up - done)
        report.predicted = report.written if self._stored is None else 0
        report.shards = {
            "found": len(plan),
            "before": len(done) - self._committed,
            "done": self._committed,
            "damaged": self._damaged,
            "failed": failed,
            "remaining": len(plan) - len(done) - failed,
        }
        report.stopped = self._stop.exit_code
        report.seconds = time.monotonic() - self._began
        report.check()
        return report
