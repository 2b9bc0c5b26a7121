"""Captions 500 drawings that the demo captioner has not seen, in every decoder, precision, search and some batch sizes.

    OMP_NUM_THREADS=1 python -m benchmarks.drawings                 every case, one row each
    OMP_NUM_THREADS=1 python -m benchmarks.drawings --count 50      fewer drawings

A caption is right if it is word for word what was drawn. "as float32" counts the captions that are those of sdprep's
decoder in float32 with the same search, batch 8.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

import sdprep.demo
from scripts.demo_training.draw import draw
from scripts.demo_training.figures import caption_of, random_figure
from sdprep.config import CaptionSettings, RunOptions
from sdprep.images.decode import decode
from sdprep.models.base import ModelFiles
from sdprep.models.captioners.blip.captioner import BlipCaptioner
from sdprep.models.registry.registry import resolve
from sdprep.tasks.annotation.engine_config import caption_options, execution_for
from sdprep.types import Batch, Decoded, Fit, ImageItem

WEIGHTS = Path(sdprep.demo.__file__).parent / "models" / "demo-caption"
SEARCHES: dict[str, dict[str, Any]] = {
    "greedy": {"num_beams": 1},
    "3 beams": {"num_beams": 3},
    "sample, top-p 0.9": {"sample": True},
}
# Decoder, precision, searches, batch sizes. The first is what the others are compared with.
CASES = [
    ("fast", "float32", list(SEARCHES), [8, 1, 32]),
    ("fast", "int8", list(SEARCHES), [8, 32]),
    ("fast", "bfloat16", list(SEARCHES), [8, 32]),
    ("fast", "float16", list(SEARCHES), [8, 32]),
    ("reference", "float32", ["greedy", "3 beams"], [8, 32]),
    ("reference", "bfloat16", ["greedy", "3 beams"], [32]),
    ("reference", "float16", ["greedy", "3 beams"], [32]),
]


def drawings(count: int, fit: Fit) -> tuple[list[str], list[Decoded]]:
    """What was drawn, and the images as the captioner is shown them."""
    chance, truth, decoded = random.Random("drawings"), [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            figure, path = random_figure(chance), Path(folder) / f"{number}.png"
            draw(figure, chance, (chance.randint(200, 400), chance.randint(200, 400))).save(path)
            image = decode(ImageItem(path, path.name, path), fit)
            assert isinstance(image, Decoded), image
            truth.append(caption_of(figure))
            decoded.append(image)
    return truth, decoded


def batches(pictures: list[Decoded], size: int) -> Iterator[Batch]:
    """The images in batches, keyed by their number."""
    for start in range(0, len(pictures), size):
        some = pictures[start : start + size]
        keys = tuple(range(start, start + len(some)))
        yield Batch(keys, tuple(each.digest for each in some), np.stack([each.pixels for each in some]))


def captioner(batch_size: int, **settings: Any) -> BlipCaptioner:
    """The demo captioner."""
    chosen = CaptionSettings(device="cpu", run=RunOptions(batch_size=batch_size), **settings)
    spec, files = resolve("demo-caption", "caption"), ModelFiles(WEIGHTS, None, "weights")
    return BlipCaptioner(spec, files, execution_for(chosen, spec), caption_options(chosen, spec))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500)
    count = parser.parse_args().count
    truth, pictures = drawings(count, captioner(1).fit)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {count} drawings")
    print("| decoder | dtype | search | batch | right | as float32 | CPU s |\n|---|---|---|---|---|---|---|")
    exact: dict[str, list[str]] = {}
    for decoder, dtype, searches, sizes in CASES:
        for search in searches:
            for size in sizes:
                model = captioner(size, decoder=decoder, dtype=dtype, **SEARCHES[search])
                started = time.process_time()
                found: dict[Any, Any] = dict(model.predict(batches(pictures, size)))
                seconds = time.process_time() - started
                texts = [found[number].text for number in range(count)]
                exact.setdefault(search, texts)
                right, same = (sum(map(str.__eq__, texts, others)) for others in (truth, exact[search]))
                print(f"| {decoder} | {dtype} | {search} | {size} | {right} | {same} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
