"""What grows with a dataset: runs that need no model, and what is around the model in a run that needs one.

`python -m benchmarks.growth` makes folders of tiny images and has each step done by a process of its own. The model
is a stand-in that reads each file, as a decoder does, and answers at once: what is left is sdprep.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import random
import resource
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import in_own_process
from sdprep.config import MergeSettings, TagSettings
from sdprep.images.source import ImageSource
from sdprep.models.files.hub import find_local
from sdprep.models.registry.registry import resolve
from sdprep.models.taggers.label_file import read_labels
from sdprep.report import CancelToken, RunReport
from sdprep.rules.labels import TagRules
from sdprep.tasks.annotation import run
from sdprep.tasks.merge import merge
from sdprep.tasks.settings import stating
from sdprep.tasks.tag import tag
from sdprep.types import ImageItem, Result

SIZES = (1_000, 10_000, 100_000)
A_FOLDER = 1000
LABELS = 40


def make_images(folder: Path, count: int) -> None:
    """Images of 8 x 8 pixels, no two with the same bytes, a thousand in a folder."""
    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 100, 50)).save(stream, "JPEG")
    for number in range(count):
        place = folder / f"{number // A_FOLDER:04d}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.jpg").write_bytes(stream.getvalue() + number.to_bytes(8, "little"))


class Answers:
    """An engine that answers at once, with scores that depend on the image's bytes."""

    provider = "none"
    notes: tuple[str, ...] = ()

    def __init__(self, labels: int) -> None:
        self._labels = labels

    def run(self, items: Sequence[ImageItem], stop: CancelToken) -> Iterator[Result]:
        """A result for every item."""
        for item in items:
            if stop:
                return
            digest = hashlib.sha256(item.path.read_bytes()).digest()
            draw = random.Random(digest)
            chosen = sorted(draw.sample(range(self._labels), min(LABELS, self._labels)))
            values = [draw.random() for _ in chosen]
            yield Result(item, digest, struct.pack(f"<{len(chosen)}I{len(chosen)}e", *chosen, *values))


def first_run(folder: Path) -> RunReport:
    """A first run, in which the model costs nothing."""
    spec = resolve("demo-tag", "tag")
    files = find_local(spec)
    if files is None:
        raise AssertionError("the demo model is a part of the package")
    labels = len(read_labels(spec, files).names)

    @contextmanager
    def opened(*_: Any) -> Iterator[Answers]:
        yield Answers(labels)

    setattr(run, "open_engine", opened)  # noqa: B010 - it is not exported
    return tag(folder, TagSettings(model="demo-tag"))


def list_folder(folder: Path) -> RunReport:
    """The listing alone."""
    return RunReport("list", found=len(ImageSource(folder).items()))


def another_threshold(folder: Path) -> RunReport:
    """Every text is written anew, from stored scores."""
    settings = TagSettings(model="demo-tag", rules=TagRules(threshold=0.5))
    return tag(folder, settings, layers=stating(settings, {"threshold"}))


STEPS: dict[str, Callable[[Path], RunReport]] = {
    "listing": list_folder,
    "first run": first_run,
    "second run": lambda folder: tag(folder, TagSettings(model="demo-tag")),
    "another threshold": another_threshold,
    "merge": lambda folder: merge(folder, MergeSettings()),
    "merge again": lambda folder: merge(folder, MergeSettings()),
}


def do(step: str, folder: Path) -> None:
    """Do one step and print what it took: seconds, processor seconds from the start of Python, megabytes at most."""
    began = time.monotonic()
    report = STEPS[step](folder)
    seconds = time.monotonic() - began
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures = {"seconds": seconds, "cpu": time.process_time(), "mb": kilobytes / 1024}
    print(json.dumps({**figures, "found": report.found, "written": report.written, "current": report.current}))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where the images are made; a temporary folder otherwise")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--do", choices=STEPS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.do:
        do(given.do, given.folder)
        return
    print("| step | images | CPU s | s | images/CPU s | MB | written | current |\n|---|---|---|---|---|---|---|---|")
    for count in given.sizes:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            make_images(Path(folder), count)
            for step in STEPS:
                took = in_own_process("benchmarks.growth", step, Path(folder))
                if took["found"] != count:
                    raise AssertionError(f"{step}: {took['found']} of {count} images were found")
                speed = f"{count / took['cpu']:,.0f}"
                row = [step, f"{count:,}", f"{took['cpu']:.1f}", f"{took['seconds']:.1f}", speed, f"{took['mb']:.0f}"]
                print(f"| {' | '.join([*row, str(took['written']), str(took['current'])])} |", flush=True)


if __name__ == "__main__":
    main()
