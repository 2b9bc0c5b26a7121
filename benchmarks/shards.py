"""What shards cost: tars against a folder, a run with nothing left to do, and the plan of a long listing.

`python -m benchmarks.shards` tags generated images with a stand-in model: of a folder, of tars on this machine, and of
tars behind a local S3 server, whose own processor time does not count, without Ray and with a Ray of its own. Two
numbers of images tell what is fixed from what each image costs. A long listing is simulated.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from urllib.request import Request, urlopen

from benchmarks.measure import ROOT, Taken, machine, run, run_family, spread, table, take_turns
from benchmarks.tag import BATCH, SDPREP, WORKERS, Plan
from sdprep.shards import plan as planning
from sdprep.shards.plan import Sources, plan_shards
from sdprep.shards.results import Results, RunRecord, Shard
from sdprep.shards.store import StoredObject, open_store
from sdprep.shards.table import Row, ShardFacts
from sdprep.tasks.shards.status import status

IN_A_TAR = 250
LISTED = 10_000_000
DONE = 1_000
# As many actors as workers elsewhere.
ON_RAY = ("--engine", "ray", "--ray-address", "local", "--workers", "1", "--actors", str(WORKERS))


def write_tars(images: list[Path], folder: Path) -> Path:
    """The folder of tars of some images."""
    if not folder.exists():
        folder.mkdir(parents=True)
        for start in range(0, len(images), IN_A_TAR):
            with tarfile.open(folder / f"{start // IN_A_TAR:05}.tar", "w") as file:
                for path in images[start : start + IN_A_TAR]:
                    file.add(path, path.name)
    return folder


@contextmanager
def s3_server() -> Iterator[str]:
    """The URL of an empty bucket on this machine; the environment says how to get there."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        with urlopen(Request(f"http://{host}:{port}/bench", method="PUT")):
            os.environ |= {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1",
                           "AWS_ENDPOINT_URL": f"http://{host}:{port}", "NO_PROXY": "127.0.0.1"}  # fmt: skip
            yield "s3://bench"
    finally:
        server.stop()


def against_folder(work: Path, counts: tuple[int, int], repeats: int) -> str:
    """CPU seconds of a run over a folder, over tars, and over tars on S3: fixed, and for each image."""
    plan, taken = Plan(work=work), dict[str, dict[int, list[Taken]]]()
    model = plan.model("tiny")
    album = plan.album(max(counts), 0.15, 0.35)
    images = sorted(path for path in album.iterdir() if path.suffix != "")
    common = ("--model", str(model), "--batch-size", str(BATCH), "--workers", str(WORKERS))
    with s3_server() as bucket:
        for count in counts:
            some = work / f"shards-images-{count}"
            some.mkdir(exist_ok=True)
            for path in images[:count]:
                if not (some / path.name).exists():
                    os.link(path, some / path.name)
            tars = write_tars(images[:count], work / f"shards-tars-{count}")
            store = open_store(f"{bucket}/tars-{count}")
            for path in tars.iterdir():
                store.put(path.name, path.read_bytes())
            runs = {
                "folder": lambda some=some: tagged(work, [str(some)], common, "-o"),
                "tars": lambda tars=tars: tagged(work, [str(tars)], common, "--results"),
                "tars on S3": lambda url=store.url: run(
                    [*SDPREP, "tag", url, *common, "--results", f"{bucket}/out-{token_hex(4)}"]
                ),
                "tars on S3, Ray, 2 actors": lambda url=store.url: run_family(
                    [*SDPREP, "tag", url, *common, "--results", f"{bucket}/out-{token_hex(4)}", *ON_RAY]
                ),
            }
            for name, each in take_turns(runs, repeats).items():
                taken.setdefault(name, {})[count] = each
    return slopes(taken, counts)


def tagged(work: Path, sources: list[str], common: tuple[str, ...], option: str) -> Taken:
    """What a run takes whose output goes to a folder of its own."""
    out = work / f"out-{token_hex(4)}"
    try:
        return run([*SDPREP, "tag", *sources, *common, option, str(out)])
    finally:
        shutil.rmtree(out)


def slopes(taken: dict[str, dict[int, list[Taken]]], counts: tuple[int, int]) -> str:
    """A table of what is fixed, and of what each image costs."""
    few, many = counts
    rows = []
    folder: list[float] = []
    for name, by_count in taken.items():
        pairs = list(zip(by_count[few], by_count[many], strict=True))
        each = [(more.cpu - less.cpu) / (many - few) for less, more in pairs]
        fixed = [less.cpu - few * slope for (less, _), slope in zip(pairs, each, strict=True)]
        folder = folder or each
        times = [one / other for one, other in zip(each, folder, strict=True)]
        rows.append((name, spread([1000 * value for value in each]), spread(fixed), spread(times)))
    return table(("source", "CPU ms per image", "fixed CPU s", "times the folder's per image"), rows)


def rerun(work: Path) -> str:
    """What a run takes that finds all shards done."""
    tars, out = work / "rerun-tars", work / "rerun-out"
    shutil.rmtree(tars, ignore_errors=True)
    shutil.rmtree(out, ignore_errors=True)
    tars.mkdir(parents=True)
    for number in range(DONE):
        with tarfile.open(tars / f"{number:05}.tar", "w"):
            pass
    command = [*SDPREP, "tag", str(tars), "--model", "demo-tag", "--results", str(out)]
    first, again = run(command), run([*command, "--json"])
    if json.loads(again.out)["shards"]["before"] != DONE:
        raise RuntimeError("the second run did not find all shards done")
    rows = [("first run, empty tars", f"{first.clock:.1f}", f"{first.cpu:.1f}"),
            ("second run", f"{again.clock:.2f}", f"{again.cpu:.2f}")]  # fmt: skip
    return table((f"{DONE:,} shards", "seconds", "CPU seconds"), rows)


class LongListing:
    """A bucket with very many images."""

    url = "s3://bucket/images"

    def list(self) -> Iterator[StoredObject]:
        """The images, in the order of their names."""
        for number in range(LISTED):
            yield StoredObject(f"{number // 1000:06}/{number:012}.jpg", 300_000, f'"{number:032x}"', 0.0)


def long_plan(work: Path) -> str:
    """What it takes to plan a long listing, and to tell how far a run over it is that is done."""
    setattr(planning, "open_store", lambda _: LongListing())  # noqa: B010 - it is not exported
    began = time.process_time()
    shards = plan_shards(Sources(("s3://bucket/images",)))
    planned, peak = time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    shutil.rmtree(work / "long-out", ignore_errors=True)
    results = Results.at(str(work / "long-out"))
    results.begin(RunRecord("tag", "model", {}, {}, {}))
    results.plan(lambda: shards)
    for shard in shards:
        results.commit(shard.id, [Row("0", "0.jpg", "corrupt")], ShardFacts("tag", ended=time.time()))
    began = time.process_time()
    status(results)
    told = time.process_time() - began
    if sum(shard.count or 0 for shard in shards) != LISTED or not isinstance(shards[0], Shard):
        raise RuntimeError("the plan does not have all images")
    rows = [("plan", f"{planned:.1f}", f"{peak:.0f}"), ("results status", f"{told:.1f}", "")]
    return table((f"{LISTED:,} images in {len(shards):,} shards", "CPU seconds", "MB at most"), rows)


def main() -> None:
    """Measure and print."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--work", type=Path, default=ROOT / ".bench", help="folder of images and models, kept")
    given.add_argument("--images", type=int, nargs=2, default=(750, 3000), metavar=("FEW", "MANY"))
    given.add_argument("--repeats", type=int, default=3)
    options = given.parse_args()
    print(machine() + "\n", flush=True)
    print(long_plan(options.work), flush=True)
    print(rerun(options.work), flush=True)
    print(against_folder(options.work.resolve(), tuple(options.images), options.repeats), flush=True)


if __name__ == "__main__":
    main()
