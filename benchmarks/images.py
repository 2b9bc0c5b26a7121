"""Draws the images of the measurements, always the same ones: 80 % JPEG, 10 % PNG, 10 % WebP.

    python -m benchmarks.images FOLDER --count 300 --megapixels 0.5-12

Blurred noise of many scales, shapes with sharp edges and a little grain: files as large as those of photographs and
drawings. What is in the folder already is kept, if it was drawn with the same options.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

SEED = 20
KINDS = (*["jpg"] * 8, "png", "webp")
QUALITY = {"jpg": 92, "webp": 85}
SHAPES = ((3, 2), (2, 3), (1, 1), (4, 3), (3, 4), (16, 9), (9, 16))
STAMP = ".drawn.json"


@dataclass(frozen=True)
class Album:
    """What to draw: so many images, of `least` to `most` megapixels, small ones more often than large ones."""

    count: int
    least: float = 0.5
    most: float = 12.0


def fill(folder: Path, album: Album) -> list[Path]:
    """The images of an album; drawn by all processors where the folder does not have them yet.

    Raises ValueError if the folder holds those of another album.
    """
    stamp, wanted = folder / STAMP, json.dumps(asdict(album))
    if not stamp.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(partial(draw_file, folder, album), range(album.count)))
        stamp.write_text(wanted, "utf-8")
    elif stamp.read_text("utf-8") != wanted:
        raise ValueError(f"{folder} holds {stamp.read_text('utf-8')}, not {wanted}: give another folder")
    return sorted(path for path in folder.iterdir() if path.name != STAMP and path.suffix[1:] in KINDS)


def draw_file(folder: Path, album: Album, number: int) -> None:
    """Draw one image of an album, whose size and kind follow from its number."""
    rng = random.Random(f"{SEED} {number}")
    pixels = 1e6 * math.exp(rng.uniform(math.log(album.least), math.log(album.most)))
    shape = rng.choice(SHAPES)
    scale = math.sqrt(pixels / (shape[0] * shape[1]))
    size = (round(shape[0] * scale), round(shape[1] * scale))
    kind = KINDS[number % len(KINDS)]
    draw(size, rng).save(folder / f"{number:06}.{kind}", quality=QUALITY.get(kind, 0))


def draw(size: tuple[int, int], rng: random.Random) -> Image.Image:
    """One image of this width and height."""
    noise = np.random.default_rng(rng.getrandbits(32))
    image = Image.fromarray(_blurred_noise(size, noise))
    pen = ImageDraw.Draw(image)
    for _ in range(rng.randint(8, 30)):
        radius = rng.uniform(0.01, 0.2) * max(size)
        middle = (rng.uniform(0, size[0]), rng.uniform(0, size[1]))
        box = (middle[0] - radius, middle[1] - radius, middle[0] + radius, middle[1] + radius * rng.uniform(0.1, 1))
        color = (rng.randrange(256), rng.randrange(256), rng.randrange(256))
        rng.choice([pen.ellipse, pen.rectangle])(box, fill=color, outline=rng.choice([None, (20, 20, 30)]), width=4)
    grain = noise.integers(-4, 5, (size[1], size[0], 1), dtype=np.int8)
    return Image.fromarray((np.asarray(image).astype(np.int16) + grain).clip(0, 255).astype(np.uint8))


def _blurred_noise(size: tuple[int, int], noise: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Colours that vary on every scale, the less the finer it is, as in photographs: uint8[height, width, 3]."""
    total = np.full((size[1], size[0], 3), 128, dtype=np.float32)
    for octave in range(2, 10):
        cells = 2**octave
        width, height = (max(2, round(cells * edge / max(size))) for edge in size)
        coarse = noise.integers(0, 256, (height, width, 3), dtype=np.uint8)
        fine = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        total += (np.asarray(fine, dtype=np.float32) - 128) * 0.6 ** (octave - 2)
    return total.clip(0, 255).astype(np.uint8)


def megapixels(text: str) -> tuple[float, float]:
    """The two numbers of `1-3`."""
    least, _, most = text.partition("-")
    return float(least), float(most or least)


def main() -> None:
    """Fill a folder and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--megapixels", type=megapixels, default=(0.5, 12.0), metavar="A-B")
    given = parser.parse_args()
    files = fill(given.folder, Album(given.count, *given.megapixels))
    for kind in dict.fromkeys(KINDS):
        sizes = [path.stat().st_size for path in files if path.suffix == f".{kind}"]
        print(f"{kind}: {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
