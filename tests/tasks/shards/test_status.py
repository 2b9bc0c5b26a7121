"""What `results status` tells of a run, and that a large one is told of quickly."""

import pytest

from sdprep.errors import StoreError
from sdprep.shards.results import FailedShard, Results
from sdprep.shards.store import Store
from sdprep.shards.table import ShardFacts
from sdprep.tasks.shards.status import GivenUp, HostStatus, ShardCounts, status
from tests.shards.rows import finished, record, shards


def test_shards_images_and_hosts_are_counted(memory: Store) -> None:
    found = status(finished(memory, 6, done=4))
    assert found.shards == ShardCounts(found=6, done=4, failed=0, remaining=2)
    assert found.images == {"ok": 4, "truncated": 4}
    assert found.hosts == [HostStatus("node0", 2, 4, 1.0), HostStatus("node1", 2, 4, 1.0)]


def test_the_rate_is_by_the_clock_and_tells_what_is_left(memory: Store) -> None:
    # Four shards of two images, one after the other in eight seconds.
    found = status(finished(memory, 6, done=4))
    assert (found.rate, found.seconds_left) == (1.0, 4.0)


def test_the_rate_is_that_of_the_last_hour(memory: Store) -> None:
    results = finished(memory, 2, done=1)
    late = ShardFacts("tag", ended=1e9 + 86_400, seconds=10.0)
    results.commit(shards(2)[1].id, [], late)
    assert status(results).rate == 0.0


def test_a_shard_that_was_given_up_is_named_until_it_is_done(memory: Store) -> None:
    results = finished(memory, 3, done=1)
    done, given_up, _ = shards(3)
    for shard in (done, given_up):
        results.set_failure(shard.id, FailedShard(3, "the source has changed"))
    found = status(results)
    assert found.shards == ShardCounts(found=3, done=1, failed=1, remaining=1)
    assert found.failed == [GivenUp(given_up.id, given_up.url, "the source has changed")]


def test_a_shard_that_will_be_tried_again_is_not_given_up(memory: Store) -> None:
    results = finished(memory, 2, done=1)
    results.set_failure("00001", FailedShard(2, "the server does not answer"))
    assert status(results).shards == ShardCounts(found=2, done=1, failed=0, remaining=1)


def test_images_that_end_a_worker_do_not_give_their_shard_up(memory: Store) -> None:
    results = finished(memory, 2, done=1)
    results.set_failure(shards(2)[1].id, FailedShard(1, "", poison={"a.jpg": ("crashed", "SIGSEGV")}))
    assert status(results).shards == ShardCounts(found=2, done=1, failed=0, remaining=1)


def test_a_run_that_has_just_begun_has_no_rate(memory: Store) -> None:
    found = status(finished(memory, 2, done=0))
    assert (found.shards.remaining, found.images, found.rate, found.seconds_left, found.hosts) == (2, {}, 0.0, None, [])


def test_a_place_without_results_is_named(memory: Store) -> None:
    with pytest.raises(StoreError, match="has no results of sdprep"):
        status(Results(memory))


def test_a_run_without_a_plan_is_named(memory: Store) -> None:
    results = Results(memory)
    results.begin(record())
    with pytest.raises(StoreError, match="has no plan"):
        status(results)
