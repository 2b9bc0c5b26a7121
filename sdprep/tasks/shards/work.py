"""One shard: its images through a loaded model into rows, which are then committed."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import Enum
from functools import partial

from sdprep.engines.base import Engine, EngineConfig, open_engine
from sdprep.errors import NoSuchObject, StoreError, WorkerError
from sdprep.images.decoder import file_limit
from sdprep.models.base import ModelSpec
from sdprep.report import CancelToken
from sdprep.shards.ahead import Chunk, ReadAhead
from sdprep.shards.plan import Sources
from sdprep.shards.read import ChangedSource, read_shard
from sdprep.shards.results import TRIES, FailedShard, Results, Shard
from sdprep.shards.spool import open_spool
from sdprep.shards.table import OK, Row, ShardFacts
from sdprep.tasks.annotation.job import Job
from sdprep.tasks.annotation.notes import toy_note
from sdprep.tasks.annotation.run import NONFINITE_LIMIT, NonfiniteCheck
from sdprep.tasks.shards.text import with_text
from sdprep.types import Failure, FailureCode, Result

# Workers that may die until a shard is begun anew with the images that have no outcome yet, and how often it may.
MOST_DEATHS, MOST_NEW_BEGINNINGS = 10, 10
# A model that waits for images is given so many batches of them at least.
BATCHES = 4
# What an image did to its worker: it is not shown to another one.
POISON = frozenset({FailureCode.CRASHED, FailureCode.TIMED_OUT})


class Ending(Enum):
    """How the work on a shard ended; a closed list."""

    COMMITTED = "committed"
    DONE_BY_OTHERS = "done by others"
    GIVEN_UP = "given up"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ShardOutcome:
    """How the work on a shard ended; its images and those that failed if it was done, the error if it was given up.

    `damage` is the row of a shard that could not be read to its end.
    """

    ending: Ending
    images: int = 0
    failed: Sequence[Row] = ()
    damage: Row | None = None
    error: StoreError | WorkerError | None = None

    @classmethod
    def of(cls, rows: Sequence[Row], *, is_ours: bool) -> ShardOutcome:
        """That of a shard with these rows, which another process may have committed before."""
        images = [row for row in rows if row.is_image]
        failed = [row for row in images if row.outcome != OK]
        damage = next((row for row in rows if not row.is_image), None)
        return cls(Ending.COMMITTED if is_ours else Ending.DONE_BY_OTHERS, len(images), failed, damage)


@dataclass(frozen=True, slots=True)
class ShardTask:
    """What a worker needs besides an engine: the results, the sources, the job, and the most bytes in hand."""

    results: Results
    sources: Sources
    spec: ModelSpec
    job: Job
    spool_bytes: int
    batch_size: int


class ShardWorker:
    """Does shards with a model that is loaded once.

    `note` gets what the user should know, and `seen` the bytes of each image that has an outcome.
    """

    def __init__(
        self,
        task: ShardTask,
        engine: Engine,
        ahead: ReadAhead,
        stop: CancelToken,
        note: Callable[[str], None],
        seen: Callable[[int], None],
    ) -> None:
        self._seen = seen
        self._task, self._engine, self._ahead, self._stop, self._note = task, engine, ahead, stop, note
        self._failures = NonfiniteCheck(max(NONFINITE_LIMIT, 2 * task.batch_size))
        self._has_results = self._has_noted = False
        self._poison: dict[str, tuple[str, str]] = {}
        self.provider = engine.provider

    def outcomes(self, shards: Iterable[Shard]) -> Iterator[tuple[Shard, ShardOutcome]]:
        """What becomes of each shard; see `run`."""
        for shard, following in _with_following(shards):
            yield shard, self.run(shard, following)
            if self._stop:
                return

    def run(self, shard: Shard, following: Shard | None = None) -> ShardOutcome:
        """Do a shard; the one that follows it is read meanwhile.

        Raises StoreError if the results cannot be written, and what ends every run with this model.
        """
        results = self._task.results
        if results.is_done(shard.id):
            return ShardOutcome(Ending.DONE_BY_OTHERS)
        before = results.failure(shard.id) or FailedShard(0, "")
        if before.is_given_up:
            return ShardOutcome(Ending.GIVEN_UP, error=StoreError(before.error))
        began, self._poison = time.time(), dict(before.poison)
        try:
            rows = list(self._rows(shard, following))
        except (StoreError, WorkerError) as error:
            # What has changed will not be as it was by itself.
            attempts = TRIES if isinstance(error, ChangedSource) else before.attempts + 1
            results.set_failure(shard.id, FailedShard(attempts, str(error), platform.node(), dict(self._poison)))
            if isinstance(error, WorkerError) and not self._has_results:
                raise
            return ShardOutcome(Ending.GIVEN_UP, error=error)
        if self._stop:
            return ShardOutcome(Ending.STOPPED)
        now = time.time()
        facts = ShardFacts(
            self._task.spec.task, shard.etag, self._engine.provider, platform.node(), ended=now, seconds=now - began
        )
        is_ours = results.commit(shard.id, rows, facts)
        if before.poison or before.error or self._poison:
            results.set_failure(shard.id, None)
        return ShardOutcome.of(rows, is_ours=is_ours)

    def _rows(self, shard: Shard, following: Shard | None) -> Iterator[Row]:
        """A row for each image, in their order; once cancelled, those that were reached."""
        for chunk in self._ahead.chunks(shard, following, self._stop):
            self._leave_out_poison(chunk)
            for outcome in self._outcomes(shard, chunk):
                place = chunk.places[outcome.item]
                chunk.rows[place] = self._row(chunk.rows[place], outcome)
                self._seen(self._ahead.release(outcome.item))
            if self._stop:
                return
            yield from chunk.rows

    def _leave_out_poison(self, chunk: Chunk) -> None:
        for item, place in list(chunk.places.items()) if self._poison else ():
            row = chunk.rows[place]
            if row.member in self._poison:
                code, message = self._poison[row.member]
                chunk.rows[place] = Row(row.key, row.member, code, message)
                del chunk.places[item]
                self._ahead.release(item)

    def _outcomes(self, shard: Shard, chunk: Chunk) -> Iterator[Result | Failure]:
        """The outcomes of the images of a chunk; those that kill workers are kept for whoever tries the shard next.

        Raises WorkerError if workers die although no image explains it.
        """
        if not self._has_noted and (note := toy_note(self._task.spec, chunk.places)) is not None:
            self._note(note)
        self._has_noted = True
        left = dict.fromkeys(chunk.places)
        for number in range(MOST_NEW_BEGINNINGS):
            count = len(left)
            try:
                for outcome in self._engine.run(list(left), self._stop) if left else ():
                    del left[outcome.item]
                    self._failures.check(outcome)
                    self._has_results |= isinstance(outcome, Result)
                    if isinstance(outcome, Failure) and outcome.code in POISON:
                        name = chunk.rows[chunk.places[outcome.item]].member
                        self._poison[name] = (outcome.code.value, outcome.message)
                    yield outcome
            except WorkerError:
                if len(left) == count or number + 1 == MOST_NEW_BEGINNINGS or not self._has_results:
                    raise
                self._keep_poison(shard)
            else:
                if left and not self._stop:
                    raise AssertionError(f"{len(left)} images have no outcome")
                return

    def _keep_poison(self, shard: Shard) -> None:
        before = self._task.results.failure(shard.id) or FailedShard(0, "")
        kept = FailedShard(before.attempts, before.error, platform.node(), dict(self._poison))
        self._task.results.set_failure(shard.id, kept)

    def _row(self, row: Row, outcome: Result | Failure) -> Row:
        if isinstance(outcome, Failure):
            return Row(row.key, row.member, outcome.code.value, outcome.message, outcome.digest)
        width, height = outcome.size or (None, None)
        made = Row(
            row.key,
            row.member,
            OK,
            digest=outcome.digest,
            width=width,
            height=height,
            result=outcome.data,
            warnings=tuple(each.value for each in outcome.warnings),
        )
        return with_text(made, self._task.job)


@contextmanager
def open_worker(
    task: ShardTask,
    config: EngineConfig,
    stop: CancelToken,
    note: Callable[[str], None],
    *,
    seen: Callable[[int], None] = lambda _: None,
    sharers: int = 1,
) -> Iterator[ShardWorker]:
    """A worker with its model loaded, one of `sharers` on this machine. Raises SdprepError if that cannot be."""
    limit = min(file_limit(task.job.max_pixels), task.spool_bytes)
    read = partial(read_shard, sources=task.sources, limit=limit)
    least = BATCHES * task.batch_size
    with (
        open_spool(task.spool_bytes) as spool,
        closing(ReadAhead(spool, read, task.results.is_done, least=least, prompt=task.job.prompt)) as ahead,
        open_engine(config, note, sharers=sharers, most_deaths=MOST_DEATHS) as engine,
    ):
        yield ShardWorker(task, engine, ahead, stop, note, seen)


def _with_following(shards: Iterable[Shard]) -> Iterator[tuple[Shard, Shard | None]]:
    """Each shard with the one after it; the last one with None."""
    before = None
    for shard in shards:
        if before is not None:
            yield before, shard
        before = shard
    if before is not None:
        yield before, None


def is_of_shard(error: StoreError | WorkerError | None) -> bool:
    """Whether an error tells nothing of other shards."""
    return isinstance(error, (ChangedSource, NoSuchObject, WorkerError))
