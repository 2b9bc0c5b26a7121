"""`sdprep results status`: how far a run over shards is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sdprep.report import Listener, NullListener
from sdprep.shards.results import FailedShard, Results, Shard
from sdprep.shards.table import ShardFacts

# Footers that are read at the same time: a bucket takes its time for each.
READERS = 16
# The rate is that of the last hour in which shards ended.
WINDOW = 3600.0


@dataclass(frozen=True, slots=True)
class ShardCounts:
    """The shards of a plan: `failed` ones were given up, `damaged` ones are done, as far as they could be read."""

    found: int
    done: int
    failed: int
    remaining: int
    damaged: int = 0


@dataclass(frozen=True, slots=True)
class HostStatus:
    """What one machine has done; `rate` is in images per second of each of its processes."""

    host: str
    shards: int
    images: int
    rate: float


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A shard that was given up, and why."""

    id: str
    url: str
    error: str


@dataclass(frozen=True, slots=True)
class ResultsStatus:
    """How far a run is: its shards, its images by outcome, and its rate in images per second by the clock.

    `seconds_left` is None where no rate is known, or nothing is left.
    """

    results: str
    task: str
    model: str
    shards: ShardCounts
    images: dict[str, int]
    rate: float
    seconds_left: float | None
    hosts: list[HostStatus]
    failed: list[GivenUp]


def status(results: Results, *, listener: Listener | None = None) -> ResultsStatus:
    """How far the run of these results is. Raises StoreError, also if there are none."""
    record, plan = results.record(), results.plan()
    done, given_up = results.done(), _given_up(plan, results.failed())
    (listener or NullListener()).stage("reading results", len(done), "shards")
    with ThreadPoolExecutor(READERS) as pool:
        facts = list(pool.map(results.facts, done.values()))
    open_shards = [shard for shard in plan if shard.id not in done]
    failed = [each for each in given_up if each.id not in done]
    rate = _rate(facts)
    remaining = len(open_shards) - len(failed)
    images = sum(map(_images, facts))
    left = None if not (rate and images and remaining) else remaining * (images / len(facts)) / rate
    return ResultsStatus(
        results=str(results),
        task=record.task,
        model=record.model,
        shards=ShardCounts(
            len(plan), len(plan) - len(open_shards), len(failed), remaining, sum(each.damage != "" for each in facts)
        ),
        images=dict(sum((Counter(each.counts) for each in facts), Counter[str]()).most_common()),
        rate=rate,
        seconds_left=left,
        hosts=_hosts(facts),
        failed=failed,
    )


def _given_up(plan: Sequence[Shard], failures: dict[str, FailedShard]) -> list[GivenUp]:
    found = ((shard, failures.get(shard.id)) for shard in plan)
    return [GivenUp(shard.id, shard.url, each.error) for shard, each in found if each and each.is_given_up]


def _images(facts: ShardFacts) -> int:
    return sum(facts.counts.values())


def _rate(facts: Sequence[ShardFacts]) -> float:
    """Images per second by the clock, of the shards that ended last."""
    newest = max((each.ended for each in facts), default=0.0)
    last = [each for each in facts if each.ended > newest - WINDOW]
    seconds = newest - min((each.ended - each.seconds for each in last), default=newest)
    return sum(map(_images, last)) / seconds if seconds > 0 else 0.0


def _hosts(facts: Sequence[ShardFacts]) -> list[HostStatus]:
    by_host: dict[str, list[ShardFacts]] = {}
    for each in facts:
        by_host.setdefault(each.host, []).append(each)
    found = []
    for host, some in sorted(by_host.items()):
        images, seconds = sum(map(_images, some)), sum(each.seconds for each in some)
        found.append(HostStatus(host, len(some), images, images / seconds if seconds > 0 else 0.0))
    return found
