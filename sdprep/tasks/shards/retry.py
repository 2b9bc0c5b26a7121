"""`sdprep results retry`: shards that the next run tries again."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sdprep.report import Listener, NullListener
from sdprep.shards.results import FailedShard, Results
from sdprep.tasks.shards.status import READERS
from sdprep.types import FailureCode


@dataclass(frozen=True, slots=True)
class RetriedShard:
    """A shard that the next run tries again; `images` of it, or all where that is not known, led to this."""

    id: str
    reason: str
    images: int | None = None


def retry(
    results: Results, outcomes: Collection[FailureCode] = (), *, dry_run: bool = False, listener: Listener | None = None
) -> list[RetriedShard]:
    """Have the next run try again the shards that were given up, and those with images of these outcomes.

    What a shard has had is kept beside the results until the next run is through with it.

    Raises StoreError, also if there are no results.
    """
    results.record()
    codes = {code.value for code in outcomes}
    found = []
    for shard, failure in results.failed().items():
        # Images that end a worker are not shown to another one, unless that is asked for.
        kept = {name: known for name, known in failure.poison.items() if known[0] not in codes}
        if failure.error or kept != failure.poison:
            found.append(RetriedShard(shard, failure.error or f"{len(failure.poison) - len(kept)} of its images"))
            if not dry_run:
                results.set_failure(shard, FailedShard(0, "", failure.host, kept) if kept else None)
    return found + [_reopen(results, shard, dry_run) for shard in _with(results, outcomes, listener or NullListener())]


def _reopen(results: Results, shard: RetriedShard, dry_run: bool) -> RetriedShard:
    if not dry_run:
        results.reopen(shard.id)
    return shard


def _with(results: Results, outcomes: Collection[FailureCode], listener: Listener) -> list[RetriedShard]:
    """The shards that are done and have images of these outcomes."""
    done = results.done() if outcomes else {}
    listener.stage("reading results", len(done), "shards")
    with ThreadPoolExecutor(READERS) as pool:
        facts = dict(zip(done, pool.map(results.facts, done.values()), strict=True))
    found = []
    for shard, each in facts.items():
        counts = {code.value: each.counts.get(code.value, 0) for code in outcomes}
        reasons = [f"{count} {code}" for code, count in counts.items() if count]
        if each.damage in counts:
            reasons.append(f"the shard itself is {each.damage}")
        if reasons:
            found.append(RetriedShard(shard, ", ".join(reasons), sum(counts.values())))
    return found
