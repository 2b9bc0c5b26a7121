"""Shards that the next run tries again: those that were given up, and on request those with failed images."""

import pytest
from obstore.store import MemoryStore

from sdprep.errors import StoreError
from sdprep.shards.results import FailedShard, Results
from sdprep.shards.store import BucketStore, Store
from sdprep.shards.table import Row, ShardFacts
from sdprep.tasks.shards.retry import RetriedShard, retry
from sdprep.types import FailureCode
from tests.shards.rows import finished, rows_of, shards


def test_a_shard_that_was_given_up_is_tried_again(memory: Store) -> None:
    results = finished(memory, 2, done=1)
    results.set_failure("00001", FailedShard(3, "the source has changed"))
    assert retry(results) == [RetriedShard("00001", "the source has changed")]
    assert (results.failed(), retry(results)) == ({}, [])


def test_images_that_end_a_worker_stay_known_until_their_outcome_is_named(memory: Store) -> None:
    results = finished(memory, 2, done=1)
    poison = {"a.jpg": ("crashed", "SIGSEGV"), "b.jpg": ("timed_out", "60 s")}
    results.set_failure("00001", FailedShard(3, "too many deaths", "node1", poison))
    retry(results)
    assert results.failed() == {"00001": FailedShard(0, "", "node1", poison)}
    assert retry(results) == []
    assert retry(results, [FailureCode.CRASHED]) == [RetriedShard("00001", "1 of its images")]
    assert results.failed() == {"00001": FailedShard(0, "", "node1", {"b.jpg": ("timed_out", "60 s")})}


def test_a_shard_with_images_of_an_outcome_is_tried_again_and_its_rows_are_kept(memory: Store) -> None:
    results = finished(memory, 2)
    results.commit("other", [Row("a", "a.jpg")], ShardFacts("tag"))
    assert [each.id for each in retry(results, [FailureCode.TRUNCATED])] == ["00000", "00001"]
    assert [*results.done()] == ["other"]
    assert [found.name for found in memory.list("_sdprep/before/")] == [
        "_sdprep/before/00000.parquet",
        "_sdprep/before/00001.parquet",
    ]
    assert results.commit("00000", rows_of(shards(1)[0]), ShardFacts("tag"))


def test_the_images_of_all_outcomes_are_counted(memory: Store) -> None:
    results = finished(memory, 1)
    found = retry(results, [FailureCode.TIMED_OUT, FailureCode.TRUNCATED], dry_run=True)
    assert found == [RetriedShard("00000", "1 truncated", 1)]


def test_a_dry_run_changes_nothing(memory: Store) -> None:
    results = finished(memory, 2, done=1)
    results.set_failure("00001", FailedShard(3, "the source has changed"))
    before = [found.name for found in memory.list()]
    assert len(retry(results, [FailureCode.TRUNCATED], dry_run=True)) == 2
    assert [found.name for found in memory.list()] == before


def test_a_place_without_results_is_named() -> None:
    with pytest.raises(StoreError, match="has no results of sdprep"):
        retry(Results(BucketStore("memory://results", MemoryStore())))
