"""Shards on a cluster: what an actor is sent, and how it finds the same model and RESULTS on its own machine."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import msgspec
from PIL import __version__ as pillow_version

from sdprep.config import CaptionSettings, TagSettings
from sdprep.devices import split_device
from sdprep.engines.actors import ActorDeath, ActorNeeds, RayOptions
from sdprep.engines.base import EngineConfig
from sdprep.engines.ray import ATTEMPTS, ActorPool, open_actors
from sdprep.errors import ModelError, StoreError, UsageError, WorkerError
from sdprep.models.base import ModelFiles, ModelSpec
from sdprep.models.files.hub import ensure_downloaded
from sdprep.report import CancelToken, NullListener
from sdprep.shards.results import FailedShard, Results, RunRecord, Shard, differences
from sdprep.tasks.annotation.job import Job
from sdprep.tasks.shards.work import Ending, ShardOutcome, ShardTask, ShardWorker, open_worker
from sdprep.tasks.tag import ScoreReader

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class RemoteShards:
    """What each actor is sent, pickled: lists of tags by their content, the model by the checksum of its weights."""

    task: ShardTask
    config: EngineConfig
    record: RunRecord

    @classmethod
    def of(cls, task: ShardTask, config: EngineConfig, record: RunRecord) -> RemoteShards:
        """What to send. Options that match nothing are noted here, once, and not by every actor."""
        reader = task.job.reader
        if isinstance(reader, ScoreReader):
            _ = reader.selector
        return cls(replace(task, job=_read_with(task.job, config.files)), config, record)

    @contextmanager
    def open(self, sharers: int, stop: CancelToken, note: Note) -> Iterator[ShardWorker]:
        """A worker on this machine. Raises SdprepError if it would not make what the others make."""
        self._check_results()
        files = self._files()
        task = replace(self.task, job=_read_with(self.task.job, files))
        with open_worker(task, replace(self.config, files=files), stop, note, sharers=sharers) as worker:
            yield worker

    def _check_results(self) -> None:
        """Raise StoreError where RESULTS is another folder, UsageError where other packages make other pixels."""
        try:
            found = self.task.results.record()
        except StoreError as error:
            raise StoreError(
                f"on {platform.node()}: {error}\n"
                "RESULTS has to be in a bucket, or in a folder that all machines of the cluster share"
            ) from error
        here = replace(self.record, versions={**self.record.versions, "pillow": pillow_version})
        if lines := differences(found, here):
            raise UsageError(f"{platform.node()} cannot take part in {self.task.results}\n" + "\n".join(lines))

    def _files(self) -> ModelFiles:
        """The files of the model on this machine. Raises ModelError if they are others."""
        spec, wanted = self.config.spec, self.config.files
        if spec.source.repo is not None and wanted.revision is not None:
            # Its branch may have moved on.
            pinned = msgspec.structs.replace(spec.source, revision=wanted.revision)
            spec = msgspec.structs.replace(spec, source=pinned)
        found = ensure_downloaded(spec, NullListener())
        if found.weights != wanted.weights:
            raise ModelError(
                f"{platform.node()} has other files of {spec.name} than the machine where the run was begun: checksum "
                f"{found.weights[:12]} and not {wanted.weights[:12]}"
            )
        return found


def needs_of(settings: TagSettings | CaptionSettings, spec: ModelSpec) -> ActorNeeds:
    """What an actor reserves for these settings. Raises UsageError for those that are about a single machine."""
    kind, number = split_device(settings.device)
    if number:
        raise UsageError(f"--device {settings.device}: Ray gives each actor a GPU; use --device {kind}")
    if isinstance(settings, CaptionSettings) and (settings.max_requests is not None or settings.max_cost is not None):
        raise UsageError("--max-requests and --max-cost hold for one process; several actors cannot keep to them")
    cpus = max(1, settings.run.workers)
    if kind == "cpu" or spec.server is not None or (isinstance(settings, TagSettings) and settings.provider == "cpu"):
        return ActorNeeds(cpus, 0)
    return ActorNeeds(cpus, None if kind == "auto" else 1)


class RemoteWorkers:
    """Actors that do shards; like a single worker, to which they are opened."""

    def __init__(self, pool: ActorPool[Shard, ShardOutcome], results: Results, stop: CancelToken) -> None:
        self._pool, self._results, self._stop = pool, results, stop

    @property
    def provider(self) -> str:
        """What runs the model."""
        return self._pool.provider

    def outcomes(self, shards: Iterator[Shard]) -> Iterator[tuple[Shard, ShardOutcome]]:
        """What becomes of each shard. Raises SdprepError for what ends every run with this model."""
        for shard, found in self._pool.run(shards, self._stop):
            yield shard, self._given_up(shard, found) if isinstance(found, ActorDeath) else found

    def _given_up(self, shard: Shard, death: ActorDeath) -> ShardOutcome:
        # The last one may have committed it before.
        if self._results.is_done(shard.id):
            return ShardOutcome(Ending.DONE_BY_OTHERS)
        error = WorkerError(f"{ATTEMPTS} actors died while at work on it, the last one so: {death.reason}")
        before = self._results.failure(shard.id) or FailedShard(0, "")
        self._results.set_failure(shard.id, replace(before, attempts=before.attempts + 1, error=str(error), host=""))
        return ShardOutcome(Ending.GIVEN_UP, error=error)


@contextmanager
def open_remote(
    sent: RemoteShards, options: RayOptions, needs: ActorNeeds, count: int, stop: CancelToken, note: Note
) -> Iterator[RemoteWorkers]:
    """Actors for so many shards. Raises SdprepError if there can be none."""
    with open_actors(sent, options, needs, count, note) as pool:
        yield RemoteWorkers(pool, sent.task.results, stop)


def _read_with(job: Job, files: ModelFiles) -> Job:
    """The job with the files of this machine, and without notes, which the process that sends it has made."""
    if not isinstance(job.reader, ScoreReader):
        return job
    return replace(job, reader=replace(job.reader, files=files, note=NullListener().note))
