"""What `sdprep edit --where` costs in a large dataset: the plan, making it, and undoing it.

`python -m benchmarks.edit --folder /dev/shm` tags tiny images with a stand-in that answers at once, and edits every
tenth of them. Each step is done by a process of its own, so the processor seconds of making include those of the plan.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.growth import first_run, make_images
from benchmarks.measure import in_own_process
from sdprep.config import MergeSettings, PathOptions
from sdprep.report import RunReport
from sdprep.rules.edits.operations import Operation
from sdprep.tasks.history.undo import undo
from sdprep.tasks.texts.edit import plan
from sdprep.tasks.texts.plan import Plan, apply

# One of ten images; that it does not have this tag is known when its tags are read.
WHERE = "name:*7.jpg AND NOT tag:absent"
OPERATIONS = [Operation("add", "my trigger@first"), Operation("remove", "*background*")]


def made(folder: Path) -> Plan:
    """The plan of the edit."""
    return plan(folder, OPERATIONS, MergeSettings(paths=PathOptions(where=WHERE)))


STEPS: dict[str, Callable[[Path], RunReport]] = {
    "plan": lambda folder: made(folder).report(dry_run=True),
    "plan and apply": lambda folder: apply(made(folder)),
    "the same again": lambda folder: apply(made(folder)),
    "undo": undo,
}


def do(step: str, folder: Path) -> None:
    """Do one step and print what it took: seconds, processor seconds, megabytes at most."""
    began, before = time.monotonic(), time.process_time()
    report = STEPS[step](folder)
    seconds, cpu = time.monotonic() - began, time.process_time() - before
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    counts = {"found": report.found, "written": report.written, "remaining": report.remaining}
    print(json.dumps({"seconds": seconds, "cpu": cpu, "mb": megabytes, **counts}))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where the images are made; a temporary folder otherwise")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--do", choices=STEPS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.do:
        do(given.do, given.folder)
        return
    print("| step | images that match | CPU s | s | MB | written |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        make_images(Path(folder), given.images)
        first_run(Path(folder))
        for step in STEPS:
            took = in_own_process("benchmarks.edit", step, Path(folder))
            row = [step, f"{took['found']:,}", f"{took['cpu']:.1f}", f"{took['seconds']:.1f}", f"{took['mb']:.0f}"]
            print(f"| {' | '.join([*row, str(took['written'])])} |", flush=True)


if __name__ == "__main__":
    main()
