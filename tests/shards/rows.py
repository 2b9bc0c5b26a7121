"""Rows and records of runs for tests."""

import numpy as np

from sdprep.shards.results import Results, RunRecord, Shard
from sdprep.shards.store import Store
from sdprep.shards.table import Row, ShardFacts


def scores(*pairs: tuple[int, float]) -> bytes:
    """Scores as a catalog stores them."""
    labels, values = [label for label, _ in pairs], [value for _, value in pairs]
    return np.array(labels, "<u4").tobytes() + np.array(values, "<f2").tobytes()


def record(**changes: object) -> RunRecord:
    """The record of a run of a tagger with three labels."""
    values: dict[str, object] = {
        "task": "tag",
        "model": "demo-tag",
        "settings": {"threshold": 0.35, "model": "demo-tag"},
        "recipe": {"weights": "ab12", "fit": {"size": 64}},
        "source": {"inputs": ["a.tar"]},
        "versions": {"pillow": "13.0.0"},
        "labels": [("1girl", "general"), ("hat", "general"), ("general", "rating")],
    }
    return RunRecord(**values | changes)  # type: ignore[arg-type]


def shards(count: int) -> list[Shard]:
    """A plan of tars."""
    return [Shard(f"{number:05d}", f"data/{number:05d}.tar", "etag", 1000, count=2) for number in range(count)]


def rows_of(shard: Shard) -> list[Row]:
    """The two images of a shard: one has tags, the other one failed."""
    ok = Row(f"{shard.id}0", f"{shard.id}0.jpg", digest=bytes(32), width=64, height=48, text="1girl", tags=("1girl",),
             result=scores((0, 0.9), (1, 0.25), (2, 0.75)))  # fmt: skip
    return [ok, Row(f"{shard.id}1", f"{shard.id}1.jpg", "truncated", "12 of 30 lines")]


def finished(store: Store, count: int, *, done: int | None = None) -> Results:
    """A run with this many shards, all of which are done, or the first ones."""
    results = Results(store)
    results.begin(record())
    for number, shard in enumerate(results.plan(lambda: shards(count))[:done]):
        host = f"node{number % 2}"
        facts = ShardFacts("tag", "etag", "CPU", host=host, ended=1e9 + 2.0 * (number + 1), seconds=2.0)
        results.commit(shard.id, rows_of(shard), facts)
    return results
