"""Choosing among 100,000 images with `--where`, and merging them, beside kohya's two merge scripts.

`python -m benchmarks.texts` makes a folder of hard links to one image, each with a tag file and a caption file. Each
step is a process of its own. kohya's scripts are written anew from their description: list, read the sidecar of each
image, put it into the JSON, write the JSON; once for captions and once for tags.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import in_own_process
from sdprep.catalog.session import AccessMode, CatalogAccess
from sdprep.config import MergeSettings
from sdprep.report import CancelToken, NullListener
from sdprep.rules.where.parse import parse
from sdprep.tasks.merge import merge
from sdprep.tasks.settings import Layers
from sdprep.tasks.texts.records import Records, open_records

A_FOLDER = 1000
TAGS, NAMES = 22, 8000
KINDS = ("long hair", "short hair", "red hat", "blue eyes", "white dress", "night sky")
PLAIN_FIELDS = ("tags", "caption", "missing", "width", "source")
EXPRESSIONS = (
    "tag:hat",
    'tag:hat AND NOT tag:"1girl"',
    "tag:*hair*",
    "tag:*hair* AND NOT tag:*hat*",
    "caption:flowers",
    "caption:fl*ers*view",
    "path:000*/*7.jpg",
    "name:*7.jpg",
    "width>=64 AND ratio>1",
    "source:user",
    'tag:hat AND NOT tag:"1girl" AND path:00* AND width>30 AND NOT missing:caption AND source:user',
    "tag:*zz* OR tag:*yy* OR caption:zebra OR caption:ze*a OR path:*x* OR width>4000",
)


def make_images(folder: Path, count: int) -> None:
    """Links to one image, a thousand in a folder, with texts of their own."""
    from PIL import Image

    draw = random.Random(1)
    names = [f"{draw.choice(KINDS)} {number}" for number in range(NAMES)]
    first = folder / "0000" / "0.jpg"
    first.parent.mkdir()
    Image.new("RGB", (64, 48), (200, 100, 50)).save(first)
    for number in range(count):
        place = folder / f"{number // A_FOLDER:04d}"
        place.mkdir(exist_ok=True)
        if number:
            os.link(first, place / f"{number}.jpg")
        tags = draw.choices([*names, *["hat", "1girl"] * 50], k=TAGS)
        (place / f"{number}.txt").write_text(", ".join(tags) + "\n")
        (place / f"{number}.caption").write_text(f"a girl in a field of flowers, looking at the viewer, {tags[0]}\n")


def kohya(folder: Path, extension: str, field: str) -> None:
    """One of kohya's two scripts."""
    out = folder.with_suffix(".json")
    endings = [end for each in (".png", ".jpg", ".jpeg", ".webp", ".bmp") for end in (each, each.upper())]
    images = sorted(path for end in endings for path in folder.rglob(f"*{end}"))
    entries: dict[str, dict[str, str]] = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    for image in images:
        entries.setdefault(str(image), {})[field] = image.with_suffix(extension).read_text(encoding="utf-8").strip()
    out.write_text(json.dumps(entries, indent=2), encoding="utf-8")


def merge_texts(folder: Path) -> None:
    """What both scripts give, by sdprep."""
    merge(folder, MergeSettings(fields=("caption", "tags"), output=folder.with_suffix(".sdprep.json")))


def read(folder: Path, *fields: str) -> list[Any]:
    """All images with what these fields ask for."""
    access = CatalogAccess("log", AccessMode.DRY_RUN, print)
    with open_records(folder, MergeSettings(), Layers(), access, NullListener(), CancelToken(), fields=fields) as found:
        return _all(found)


def _all(records: Records) -> list[Any]:
    return [each.record for each in records]


STEPS: dict[str, Callable[[Path], object]] = {
    "kohya: captions": lambda folder: kohya(folder, ".caption", "caption"),
    "kohya: tags": lambda folder: kohya(folder, ".txt", "tags"),
    "kohya again: captions": lambda folder: kohya(folder, ".caption", "caption"),
    "kohya again: tags": lambda folder: kohya(folder, ".txt", "tags"),
    "sdprep merge --fields caption,tags": merge_texts,
    "sdprep merge again": merge_texts,
    "sdprep merge (sizes too)": lambda folder: merge(folder, MergeSettings()),
    "sdprep merge again (sizes too)": lambda folder: merge(folder, MergeSettings()),
    "read names alone": lambda folder: read(folder, "rel"),
    "read tags and captions": lambda folder: read(folder, "tags", "caption"),
}


def do(step: str, folder: Path) -> None:
    """Do one step and print what it took: seconds, CPU seconds from the start of Python, megabytes at most."""
    began = time.monotonic()
    STEPS[step](folder)
    seconds, kilobytes = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "cpu": time.process_time(), "mb": kilobytes / 1024}))


def choose(folder: Path) -> None:
    """Print what each expression takes, once everything was read."""
    records = read(folder, *PLAIN_FIELDS)
    vocabulary = {tag for record in records for tag in record.tags}
    print("\n| expression | CPU ms | images |\n|---|---|---|")
    for text in EXPRESSIONS:
        took = []
        for _ in range(3):
            began = time.process_time()
            matcher = parse(text).matcher(vocabulary)
            count = sum(map(matcher, records))
            took.append(1000 * (time.process_time() - began))
        print(f"| `{text}` | {min(took):.0f} | {count:,} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where the images are made; a temporary folder otherwise")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--do", choices=STEPS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.do:
        do(given.do, given.folder)
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as above:
        folder = Path(above) / "images"
        folder.mkdir()
        make_images(folder, given.images)
        print("| step | CPU s | s | MB |\n|---|---|---|---|")
        for step in STEPS:
            took = in_own_process("benchmarks.texts", step, folder)
            print(f"| {step} | {took['cpu']:.1f} | {took['seconds']:.1f} | {took['mb']:.0f} |", flush=True)
        choose(folder)


if __name__ == "__main__":
    main()
