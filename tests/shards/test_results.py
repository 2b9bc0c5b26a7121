"""The contract of RESULTS: made once, joined only by the same run, and each shard done once and whole."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from obstore.store import MemoryStore

from sdprep.errors import StoreError, UsageError
from sdprep.shards.results import FAILED, PLAN, RUN, FailedShard, Results, Shard
from sdprep.shards.store import BucketStore, Store
from sdprep.shards.table import Row, ShardFacts
from tests.shards.rows import record, rows_of, shards

FACTS = ShardFacts("tag", etag="etag", host="node1", seconds=2.0)


@pytest.fixture
def results(store: Store) -> Results:
    return Results(store)


@pytest.fixture
def memory() -> Results:
    return Results(BucketStore("memory://results", MemoryStore()))


def test_a_run_is_recorded_once_and_the_same_run_joins_it(results: Results) -> None:
    first = results.begin(record())
    assert (
        results.begin(record(versions={"pillow": "13.4.1"}, decoder="sdprep-2/pillow-13.4.1"))
        == first
        == results.record()
        == record()
    )
    assert not results.store.overwrites


def test_a_run_deletes_what_a_process_has_left_that_was_killed_at_a_commit(tmp_path: Path) -> None:
    results = Results.at(str(tmp_path))
    results.commit("0", [], FACTS)
    (tmp_path / "data" / ".0.parquet.0123456789abcdef.tmp").write_bytes(b"")

    results.begin(record())

    assert [path.name for path in (tmp_path / "data").iterdir()] == ["0.parquet"]


def test_a_run_joins_itself_whatever_json_makes_of_its_values(memory: Results) -> None:
    own = record(recipe={"mean": (0.0, 1.0)})
    memory.begin(own)
    memory.begin(own)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"settings": {"threshold": 0.5, "model": "demo-tag"}}, "threshold: 0.35 there, 0.5 here"),
        ({"settings": {"model": "demo-tag"}}, "threshold: 0.35 there, null here"),
        ({"recipe": {"weights": "cd34", "fit": {"size": 64}}}, 'weights: "ab12" there, "cd34" here'),
        ({"recipe": {"weights": "ab12", "fit": {"size": 32}}}, "size: 64 there, 32 here"),
        ({"decoder": "sdprep-2/pillow-13 max-pixels 9"}, "--max-pixels: 100000000 there, 9 here"),
        ({"decoder": "sdprep-2/pillow-13 allow-truncated"}, "--allow-truncated: false there, true here"),
        ({"task": "caption"}, 'task: "tag" there, "caption" here'),
        ({"task": "caption", "settings": {"prompt": "a"}}, 'task: "tag" there, "caption" here'),
        (
            {
                "settings": {"threshold": 0.35, "model": "demo-tag", "exact_decode": True},
                "recipe": {"exact_decode": True},
            },
            'exact_decode: null there, true here\nweights: "ab12" there, null here\nfit: .* there, null here',
        ),
        ({"source": {"inputs": ["b.tar"]}}, r'inputs: \["a.tar"\] there, \["b.tar"\] here'),
        ({"versions": {"pillow": "12.3.0"}}, 'pillow: "version 13" there, "version 12" here'),
    ],
)
def test_another_run_is_refused_with_the_difference(
    memory: Results, changes: dict[str, object], difference: str
) -> None:
    memory.begin(record())
    with pytest.raises(UsageError, match=rf"made with other settings; take another --results\n{difference}$"):
        memory.begin(record(**changes))
    assert memory.record() == record()


class OverwritingStore(BucketStore):
    """A store that ignores the condition of a create-only request, as some S3 servers do."""

    def put(self, name: str, data: bytes, *, replace: bool = False) -> bool:  # noqa: ARG002
        return super().put(name, data, replace=True)


def test_a_store_that_overwrites_is_noticed_and_changes_nothing() -> None:
    results = Results(OverwritingStore("memory://results", MemoryStore()))
    results.begin(record())
    with pytest.raises(UsageError, match="made with other settings"):
        results.begin(record(task="caption"))
    assert results.store.overwrites
    assert results.record() == record()


def test_a_plan_is_made_once(results: Results) -> None:
    made = results.plan(lambda: shards(3))
    assert results.plan(lambda: shards(5)) == made == shards(3) == results.plan()


def test_a_shard_keeps_its_range_and_its_row_group(memory: Results) -> None:
    plan = [
        Shard("a", "s3://b/x/", after="", last="b.jpg", count=9),
        Shard("b-rg3", "s3://b/y.parquet", row_group=3),
    ]
    assert memory.plan(lambda: plan) == plan


@pytest.mark.parametrize("name", ["", ".hidden", "../up", "a/b", "a b", "a\n", "x" * 300])
def test_a_shard_has_the_name_of_a_file(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of a shard"):
        Shard(name, "a.tar")


def test_a_committed_shard_is_done_and_has_its_rows(results: Results) -> None:
    first, second = shards(2)
    assert results.commit(first.id, rows_of(first), FACTS)
    assert [results.is_done(first.id), results.is_done(second.id)] == [True, False]
    assert results.rows(first.id, "tag") == rows_of(first)
    assert [*results.done()] == [first.id]


def test_the_facts_of_a_shard_are_read_without_its_rows(results: Results) -> None:
    (shard,) = shards(1)
    results.commit(shard.id, rows_of(shard), FACTS)
    (found,) = results.done().values()
    assert results.facts(found) == replace(FACTS, counts={"ok": 1, "truncated": 1})


def test_the_first_of_several_processes_commits_a_shard(results: Results) -> None:
    def commit(number: int) -> bool:
        return results.commit("a", [Row("a", f"{number}.jpg")], FACTS)

    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(commit, range(6)))
    assert won.count(True) == 1
    assert [row.member for row in results.rows("a", "tag")] == [f"{won.index(True)}.jpg"]


class RefusingStore(BucketStore):
    """A store that refuses the first requests to create an object, as S3 does while two are in flight."""

    refusals = 1

    def put(self, name: str, data: bytes, *, replace: bool = False) -> bool:
        self.refusals -= 1
        return False if self.refusals >= 0 else super().put(name, data, replace=replace)


def test_a_commit_that_is_refused_although_nothing_is_there_is_tried_again() -> None:
    results = Results(RefusingStore("memory://results", MemoryStore()))
    assert results.commit("a", [], FACTS)
    assert results.is_done("a")


def test_a_commit_that_is_always_refused_ends() -> None:
    store = RefusingStore("memory://results", MemoryStore())
    store.refusals = 99
    with pytest.raises(StoreError, match="refused 5 times"):
        Results(store).commit("a", [], FACTS)


def test_a_shard_that_was_given_up_says_why_until_that_is_forgotten(results: Results) -> None:
    failure = FailedShard(3, "the source is truncated", "node1", {"a.jpg": ("crashed", "twice (SIGSEGV)")})
    results.set_failure("a", FailedShard(1, "first"))
    results.set_failure("a", failure)
    assert (results.failure("a"), results.failure("b"), results.failed()) == (failure, None, {"a": failure})
    results.set_failure("a", None)
    assert results.failed() == {}


def test_a_place_without_results_is_named(results: Results) -> None:
    with pytest.raises(StoreError, match="has no results of sdprep"):
        results.record()
    results.begin(record())
    with pytest.raises(StoreError, match="has no plan"):
        results.plan()


@pytest.mark.parametrize("name", [RUN, PLAN, f"{FAILED}a.json"])
@pytest.mark.parametrize("data", [b"{", b"[]", b"\xff"])
def test_what_sdprep_never_wrote_is_named(memory: Results, name: str, data: bytes) -> None:
    memory.store.put(name, data)
    read = {RUN: memory.record, PLAN: memory.plan}.get(name, memory.failed)
    with pytest.raises(StoreError, match=f"{name} is damaged"):
        read()


def test_a_record_of_another_kind_of_run_is_refused(memory: Results) -> None:
    memory.store.put(RUN, msgspec.json.encode(record(task="sort")))
    with pytest.raises(StoreError, match=r"run\.json is damaged: Invalid enum value 'sort'"):
        memory.record()


def test_a_plan_whose_shards_would_lie_elsewhere_is_refused(memory: Results) -> None:
    memory.store.put(PLAN, b'{"id": "../../x", "url": "a.tar"}\n')
    with pytest.raises(StoreError, match=r"plan\.jsonl is damaged"):
        memory.plan()


def test_an_empty_plan_is_no_run_that_is_done(memory: Results) -> None:
    memory.begin(record())
    memory.store.put(PLAN, b"")
    with pytest.raises(StoreError, match=r"plan\.jsonl is damaged: it is empty"):
        memory.plan()


def test_a_run_of_a_newer_sdprep_is_refused(memory: Results) -> None:
    memory.store.put(RUN, msgspec.json.encode(record(schema=9)))
    for read in (memory.record, lambda: memory.begin(record())):
        with pytest.raises(StoreError, match=r"written by a newer sdprep \(schema 9\)"):
            read()
