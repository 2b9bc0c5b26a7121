"""Measures how the rest of a run scales with the number of devices: each has a worker, and there is one writer.

    python -m benchmarks.devices [--images 300] [--seconds 0.01] [--batch 8] [--repeats 3]

The model sleeps so many seconds for each image, as a card that computes while the processors are free. Images are
drawings of 64 pixels, so that decoding costs little, as many for each device. What is measured begins when
all models are loaded and ends when all texts are written: images per second, their ratio to what so many cards could do
at most, and the processor time of the process that hears, journals and writes, which bounds what any number can do.
"""

import argparse
import os
import random
import statistics
import tempfile
import time
from pathlib import Path

from scripts.demo_training.draw import draw
from scripts.demo_training.figures import random_figure
from sdprep.config import RunOptions, TagSettings
from sdprep.engines import base
from sdprep.report import NullListener
from sdprep.tasks.tag import tag

DEVICES = (1, 2, 4, 8)


class Stopwatch(NullListener):
    """A listener that notes when the models are loaded."""

    def start(self, total: int) -> None:  # noqa: ARG002
        """Begin to measure the clock and the processor time of this process."""
        self.clock, self.cpu = time.perf_counter(), time.process_time()


def pictures(folder: Path, count: int) -> None:
    """Drawings, of which the first few lie there again and again under other names."""
    folder.mkdir()
    for number in range(count):
        if number < 16:
            rng = random.Random(number)
            draw(random_figure(rng), rng, (64, 64)).save(folder / f"{number}.png")
        else:
            os.link(folder / f"{number % 16}.png", folder / f"{number}.png")


def measure(folder: Path, devices: int, batch: int) -> tuple[float, float]:
    """Images per second, and processor milliseconds of an image in this process."""
    watch = Stopwatch()
    work = RunOptions(workers=max(2, devices), batch_size=batch)
    settings = TagSettings(model="demo-tag", device=",".join(["cpu"] * devices), run=work)
    report = tag(folder, settings, listener=watch)
    seconds, cpu = time.perf_counter() - watch.clock, time.process_time() - watch.cpu
    if not report.written == report.predicted == report.found:
        raise AssertionError(f"{report.found - report.written} texts were not written")
    return report.found / seconds, 1000 * cpu / report.found


def spread(values: list[float], form: str) -> str:
    """A median with its least and greatest value."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300, help="for each device")
    parser.add_argument("--seconds", type=float, default=0.01)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    base.DECODE = "benchmarks.sleeping_model:decode"
    found: dict[int, list[tuple[float, float]]] = {devices: [] for devices in DEVICES}
    for _ in range(given.repeats):
        for devices in DEVICES:
            with tempfile.TemporaryDirectory() as home:
                folder = Path(home) / f"sleep-{given.seconds}"
                pictures(folder, given.images * devices)
                found[devices].append(measure(folder, devices, given.batch))
    print("| devices | images/s | of what so many cards could do | CPU ms/image of the writer |")
    print("|---|---|---|---|")
    for devices, rows in found.items():
        rates, costs = (list(column) for column in zip(*rows, strict=True))
        shares = [rate * given.seconds / devices for rate in rates]
        print(f"| {devices} | {spread(rates, '.0f')} | {spread(shares, '.2f')} | {spread(costs, '.2f')} |")


if __name__ == "__main__":
    main()
