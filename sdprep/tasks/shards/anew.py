"""Text anew from the results of another run: no image is read, and no model is loaded."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace

from sdprep.errors import UsageError
from sdprep.images.formats import OF_SHARDS, has_extension
from sdprep.shards.plan import Sources
from sdprep.shards.results import RUN, Results, RunRecord, Shard, differences
from sdprep.tasks.annotation.job import Job
from sdprep.tasks.shards.text import with_text
from sdprep.tasks.shards.work import Ending, ShardOutcome


def stored_results(sources: Sources) -> Results | None:
    """The results of another run, if these are the source; None for images. Raises UsageError and StoreError."""
    if any(has_extension(url, OF_SHARDS) for url in sources.urls):
        return None
    found = [results for results in map(Results.at, sources.urls) if results.store.find(RUN) is not None]
    if found and len(sources.urls) > 1:
        raise UsageError(f"{found[0]} has results of another run; give it as the only source")
    return found[0] if found else None


def record_anew(results: Results, record: RunRecord) -> RunRecord:
    """The record of a run that makes the text of these results anew, from that of a run with images.

    Raises UsageError if the results are not what the model of this run would answer.
    """
    stored = results.record()
    if stored.task != record.task:
        raise UsageError(f"{results} was made by sdprep {stored.task}, so sdprep {record.task} cannot use it")
    # The images were decoded there.
    anew = replace(record, versions=stored.versions, decoder=stored.decoder)
    if lines := differences(stored, replace(anew, settings=stored.settings, source=stored.source)):
        raise UsageError(
            f"{results} was made with {stored.model} and other settings of the model, so no text can be made of it\n"
            + "\n".join(lines)
        )
    return anew


class TextWorker:
    """Makes the rows of a shard anew from stored ones."""

    provider = None

    def __init__(self, stored: Results, results: Results, job: Job) -> None:
        self._stored, self._results, self._job = stored, results, job
        self._done = stored.done()

    def outcomes(self, shards: Iterable[Shard]) -> Iterator[tuple[Shard, ShardOutcome]]:
        """What becomes of each shard; see `run`."""
        return ((shard, self.run(shard)) for shard in shards)

    def run(self, shard: Shard) -> ShardOutcome:
        """Do a shard. Raises StoreError."""
        if self._results.is_done(shard.id):
            return ShardOutcome(Ending.DONE_BY_OTHERS)
        began = time.time()
        rows = [with_text(row, self._job) for row in self._stored.rows(shard.id, self._job.request.task)]
        before = self._stored.facts(self._done[shard.id])
        ended = time.time()
        is_ours = self._results.commit(shard.id, rows, replace(before, ended=ended, seconds=ended - began))
        return ShardOutcome.of(rows, is_ours=is_ours)
