"""What the benchmarks against transformers' `generate` share: whole processes that take turns, and their table."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import ROOT, Taken, machine, ratios, run, spread, table, take_turns

# From the folder of a model to a function that captions the images of a batch.
Load = Callable[[Path], Callable[[list[Path]], list[str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A benchmark: how its model is written and described for sdprep, and how a script of one's own would use it.

    `module` is that of the benchmark, `usage` its help, `images` how many there are if nothing else is stated;
    `write_model` returns the number of weights.
    """

    module: str
    usage: str
    images: int
    write_model: Callable[[Path], int]
    describe: Callable[[Path], str]
    load: Load

    def main(self) -> None:
        """Measure, and print a table."""
        parser = argparse.ArgumentParser(description=self.usage, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--images", type=int, default=self.images)
        parser.add_argument("--batch", type=int, default=4)
        parser.add_argument("--repeats", type=int, default=3)
        parser.add_argument("--generate", nargs=2, type=Path, metavar=("MODEL", "IMAGES"), help="be the contestant")
        given = parser.parse_args()
        if given.generate:
            model, images = given.generate
            generate(self.load(model), images, given.batch)
            return
        with tempfile.TemporaryDirectory() as name:
            model, images = Path(name, "model"), Path(name, "images")
            weights = self.write_model(model)
            write_images(images, given.images)
            taken, same = self._measure(model, images, given.batch, given.repeats)
        print(f"{machine()}\n\n{weights / 1e6:.0f} million weights, {given.images} images, batch {given.batch}")
        print(f"{same} of {given.images} captions are the same\n")
        print(against_generate(taken))

    def _measure(self, model: Path, images: Path, batch: int, repeats: int) -> tuple[dict[str, list[Taken]], int]:
        """What each contestant took in turns, and how many of their captions are the same."""
        description = model / "description.toml"
        description.write_text(self.describe(model), encoding="utf-8")
        ours = ["sdprep", "caption", images, "--model", description, "--device", "cpu", "--batch-size", batch]
        theirs = [self.module, "--generate", model, images, "--batch", batch]
        texts: dict[str, dict[str, str]] = {}

        def contestant(name: str, words: list[object]) -> Callable[[], Taken]:
            def work() -> Taken:
                taken = run([sys.executable, "-m", *map(str, words)], cwd=ROOT)
                texts[name] = {path.name: path.read_text(encoding="utf-8") for path in images.glob("*.caption")}
                for path in images.glob("*.caption"):
                    path.unlink()
                shutil.rmtree(images / ".sdprep", ignore_errors=True)
                return taken

            return work

        contestants = {name: contestant(name, words) for name, words in (("generate", theirs), ("sdprep", ours))}
        taken = take_turns(contestants, repeats)
        return taken, sum(text == texts["generate"].get(name) for name, text in texts["sdprep"].items())


def generate(caption: Callable[[list[Path]], list[str]], images: Path, batch: int) -> None:
    """Caption a folder as a script without sdprep would."""
    paths = sorted(images.glob("*.jpg"))
    for start in range(0, len(paths), batch):
        some = paths[start : start + batch]
        for path, text in zip(some, caption(some), strict=True):
            path.with_suffix(".caption").write_text(f"{text}\n", encoding="utf-8")


def write_images(folder: Path, count: int) -> None:
    """Write textured JPEG files of about one megapixel."""
    import numpy as np
    from PIL import Image

    folder.mkdir()
    for number in range(count):
        small = np.random.default_rng(number).integers(0, 256, (77, 102, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((1224, 924), Image.Resampling.BICUBIC)
        image.save(folder / f"{number:03}.jpg", quality=90)


def against_generate(taken: dict[str, list[Taken]]) -> str:
    """A table of what contestants took, each run in turn against that of `generate`."""
    rows = []
    for who, times in taken.items():
        clock, cpu = ratios(taken["generate"], times)
        seconds = [spread([each.clock for each in times]), spread([each.cpu for each in times])]
        rows.append([who, *seconds, spread(clock), spread(cpu)])
    return table(["contestant", "seconds, clock", "seconds, CPU", "ratio, clock", "ratio, CPU"], rows)
