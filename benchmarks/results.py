"""Results of shards: how long `results status` of a large run takes, and new text of stored scores per image.

`python -m benchmarks.results` writes a run of 1,000 shards whose footers tell of 10,000 images each, and one shard with
the scores of a tagger of 10,861 labels, 1,087 of them per image.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.measure import machine, run
from sdprep.catalog.results import decode_scores
from sdprep.rules.labels import LabelTable, TagRules
from sdprep.rules.policy import TextRequest
from sdprep.rules.tags import TagSelector
from sdprep.shards.results import Results, RunRecord, Shard
from sdprep.shards.store import FolderStore
from sdprep.shards.table import COMMON, FACTS, Row, ShardFacts, decode_rows, encode_rows
from sdprep.tasks.annotation.job import Job
from sdprep.tasks.shards.text import with_text
from sdprep.texts.exchange.parquet import parquet_bytes
from sdprep.types import ImageWarning

LABELS, STORED, PER_SHARD = 10_861, 1_087, 10_000


class Reader:
    """Makes tags of scores by the default rules, as a tagger's reader does."""

    def __init__(self) -> None:
        categories = ("rating",) * 4 + ("general",) * 8_000 + ("character",) * (LABELS - 8_004)
        self._selector = TagSelector(
            LabelTable(tuple(f"tag_{place}" for place in range(LABELS)), categories), TagRules()
        )

    def render(self, result: bytes) -> list[str]:
        """The tags that the rules keep."""
        return self._selector.select(decode_scores(result))

    def warning(self, _: bytes) -> ImageWarning | None:
        """None: the threshold is a number."""
        return None

    def is_sound(self, _: bytes) -> bool:
        """Yes."""
        return True


def text_anew(images: int) -> float:
    """CPU milliseconds per image to read rows, make their text and encode them again."""
    rng = np.random.default_rng(1)
    rows = []
    for number in range(images):
        labels = np.sort(rng.choice(LABELS, STORED, replace=False)).astype("<u4")
        values = rng.beta(0.3, 6, STORED).clip(0.01, 1).astype("<f2")
        name = f"{number:09}"
        rows.append(Row(name, f"{name}.jpg", digest=bytes(32), result=labels.tobytes() + values.tobytes()))
    data, facts = encode_rows(rows, ShardFacts("tag")), ShardFacts("tag")
    job = Job(TextRequest("tag", {}), ".txt", "stem", ", ", Reader(), {}, "")
    began = time.process_time()
    encode_rows([with_text(row, job) for row in decode_rows(data, "tag", "a shard")], facts)
    return (time.process_time() - began) / images * 1000


def write_run(folder: Path, shards: int) -> None:
    """A run that is done, with footers that tell of many images and tables that hold none of them."""
    results = Results(FolderStore(folder))
    results.begin(RunRecord("tag", "a tagger", {}, {}, {}))
    for number, shard in enumerate(results.plan(lambda: _plan(shards))):
        counts = {"ok": PER_SHARD - 10, "corrupt": 10}
        facts = ShardFacts("tag", "etag", "CUDA", f"node{number % 8}", 1e9 + 20.0 * number, 160.0, counts)
        text = msgspec.json.encode(facts).decode("utf-8")
        results.store.put(
            f"data/{shard.id}.parquet", parquet_bytes({name: [] for name in COMMON}, COMMON, {FACTS: text})
        )


def _plan(shards: int) -> list[Shard]:
    lasts = ["", *(f"{number:05}/9999.jpg" for number in range(shards))]
    return [
        Shard(f"{number:05}", "s3://bucket/images", "0" * 64, after=after, last=last, count=PER_SHARD)
        for number, (after, last) in enumerate(pairwise(lasts))
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shards", type=int, default=1000)
    parser.add_argument("--images", type=int, default=2000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_run(Path(folder), given.shards)
        taken = run([sys.executable, "-m", "sdprep", "results", "status", folder])
    print(machine())
    print("| what | taken |\n|---|---|")
    images = given.shards * PER_SHARD
    print(
        f"| `results status`, {images:,} images in {given.shards:,} shards "
        f"| {taken.clock:.1f} s, {taken.cpu:.1f} CPU s |"
    )
    print(f"| text anew, {STORED:,} scores per image | {text_anew(given.images):.2f} CPU ms per image |")


if __name__ == "__main__":
    main()
