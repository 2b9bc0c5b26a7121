"""Whether a run over shards reads images while the model is at work, from a store that takes its time.

`python -m benchmarks.slow_store` tags images in tars on this machine, and behind an S3 server that waits before each
answer and then sends it slowly. A run that reads and predicts in turns takes the time of both.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any
from unittest import mock

from moto.moto_server.werkzeug_app import DomainDispatcherApplication

from benchmarks.measure import ROOT, Taken, machine, run, spread, table, take_turns
from benchmarks.shards import s3_server, tagged, write_tars
from benchmarks.tag import BATCH, SDPREP, WORKERS, Plan
from sdprep.shards.store import open_store

# Seconds until an answer begins, and bytes per second of it.
LATENCY, RATE = 0.05, 8e6
PART = 64 << 10
# What the server of moto makes its answers with, where it looks for it.
SERVER = "moto.moto_server.threaded_moto_server.DomainDispatcherApplication"
# Images that are there for other measurements too.
ALBUM = 3000
Server = Callable[[dict[str, Any], Any], Iterable[bytes]]


def slowly(server: Server) -> Server:
    """A server that answers the same, as if it were far away."""

    def answer(request: dict[str, Any], start: Any) -> Iterator[bytes]:
        time.sleep(LATENCY)
        for part in server(request, start):
            for begin in range(0, len(part), PART):
                time.sleep(PART / RATE)
                yield part[begin : begin + PART]

    return answer


def slow_store(work: Path, count: int, repeats: int, code: Path) -> str:
    """The times of reading alone, of tars on this machine, and of tars on the slow store."""
    plan = Plan(work=work)
    images = sorted(path for path in plan.album(ALBUM, 0.15, 0.35).iterdir() if path.suffix != "")[:count]
    tars = write_tars(images, work / f"slow-tars-{count}")
    common = ("--model", str(plan.model("tiny")), "--batch-size", str(BATCH), "--workers", str(WORKERS))
    far_away = mock.patch(SERVER, lambda app: slowly(DomainDispatcherApplication(app)))
    with far_away, s3_server() as bucket:
        store = open_store(f"{bucket}/tars")
        for path in tars.iterdir():
            store.put(path.name, path.read_bytes())

        def read() -> Taken:
            began = time.perf_counter()
            for path in tars.iterdir():
                store.get(path.name)
            return Taken(time.perf_counter() - began, 0.0, "")

        taken = take_turns({
            "reading alone": read,
            "tars on this machine": lambda: tagged(work, [str(tars)], common, "--results"),
            "tars on the slow store": lambda: run(
                [*SDPREP, "tag", store.url, *common, "--results", f"{bucket}/out-{token_hex(4)}"], cwd=code
            ),
        }, repeats)  # fmt: skip
    rows = [(name, spread([each.clock for each in some], ".1f")) for name, some in taken.items()]
    head = (f"{count} images, {LATENCY:g} s and {RATE / 1e6:g} MB per second", "seconds")
    return table(head, rows)


def main() -> None:
    """Measure and print."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--work", type=Path, default=ROOT / ".bench", help="folder of images and models, kept")
    given.add_argument("--images", type=int, default=750)
    given.add_argument("--code", type=Path, default=ROOT, help="checkout whose run is measured on the slow store")
    given.add_argument("--repeats", type=int, default=3)
    options = given.parse_args()
    print(machine() + "\n", flush=True)
    print(slow_store(options.work.resolve(), options.images, options.repeats, options.code), flush=True)


if __name__ == "__main__":
    main()
