"""Draws the images that the demo models learn from and are measured on."""

import io
import random
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from scripts.demo_training.draw import draw, draw_cutout
from scripts.demo_training.figures import Figure, is_grey, random_figure

TAGGER_SIZE = 128
CAPTIONER_SIZE = 96

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Pool:
    """Figures and their pixels as each model sees them: uint8[N, size, size, 3] RGB, padded or squashed."""

    figures: Sequence[Figure]
    padded: Pixels
    squashed: Pixels


def pad_to_square(image: Image.Image) -> Image.Image:
    """Centre an RGB image on a white square of its longer side, offsets rounded down."""
    side = max(image.size)
    canvas = Image.new("RGB", (side, side), (255, 255, 255))
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return canvas


def on_white(image: Image.Image) -> Image.Image:
    """Composite an image of any mode on white and return it as RGB."""
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, (255, 255, 255, 255)), rgba).convert("RGB")


def random_size(rng: random.Random, low: int, high: int) -> tuple[int, int]:
    """Return a width and height between `low` and `high`, no narrower or wider than 2:3 or 3:2."""
    long_side = rng.randint(low, high)
    short_side = long_side if rng.random() < 0.3 else round(long_side * rng.uniform(2 / 3, 1.0))
    return (long_side, short_side) if rng.random() < 0.5 else (short_side, long_side)


def _recompressed(image: Image.Image, rng: random.Random) -> Image.Image:
    memory = io.BytesIO()
    image.save(memory, rng.choice(("JPEG", "WEBP")), quality=rng.randint(40, 95), method=0)
    return Image.open(memory).convert("RGB")


def draw_example(seed: str, low: int, high: int) -> tuple[Figure, Image.Image]:
    """Draw one random figure as images arrive in practice: cut out, greyed, rescaled or recompressed."""
    rng = random.Random(seed)
    figure = random_figure(rng)
    size = random_size(rng, low, high)
    if figure.background == "white" and rng.random() < 0.4:
        image = on_white(draw_cutout(figure, rng, size))
    else:
        image = draw(figure, rng, size)
    if is_grey(figure) and rng.random() < 0.5:
        image = image.convert("L").convert("RGB")
    if rng.random() < 0.3:
        factor = rng.uniform(0.6, 1.5)
        shape = (round(size[0] * factor), round(size[1] * factor))
        image = image.resize(shape, rng.choice((Image.Resampling.BILINEAR, Image.Resampling.LANCZOS)))
    return figure, _recompressed(image, rng) if rng.random() < 0.4 else image


def _example_pixels(index: int, seed: str, low: int, high: int) -> tuple[Figure, Pixels, Pixels]:
    figure, image = draw_example(f"{seed}-{index}", low, high)
    padded = pad_to_square(image).resize((TAGGER_SIZE, TAGGER_SIZE), Image.Resampling.BICUBIC)
    squashed = image.resize((CAPTIONER_SIZE, CAPTIONER_SIZE), Image.Resampling.BICUBIC)
    return figure, np.asarray(padded), np.asarray(squashed)


def draw_pool(count: int, seed: str, low: int = 150, high: int = 260) -> Pool:
    """Draw `count` examples on two processes; example i depends on `seed` and i alone."""
    make = partial(_example_pixels, seed=seed, low=low, high=high)
    padded = np.empty((count, TAGGER_SIZE, TAGGER_SIZE, 3), np.uint8)
    squashed = np.empty((count, CAPTIONER_SIZE, CAPTIONER_SIZE, 3), np.uint8)
    figures: list[Figure] = []
    with ProcessPoolExecutor(2) as processes:
        examples = processes.map(make, range(count), chunksize=64)
        for index, (figure, wide, narrow) in enumerate(examples):
            padded[index], squashed[index] = wide, narrow
            figures.append(figure)
    return Pool(figures, padded, squashed)


def jittered(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Shift, scale and relight a batch a little: float32[N, 3, H, W] in 0..255, in and out."""

    def spread(amount: float) -> torch.Tensor:
        return (torch.rand(len(pixels), generator=generator) * 2 - 1) * amount

    zero = torch.zeros(len(pixels))
    rows = [
        torch.stack([1 + spread(0.06), zero, spread(0.06)], 1),
        torch.stack([zero, 1 + spread(0.06), spread(0.06)], 1),
    ]
    grid = functional.affine_grid(torch.stack(rows, 1), list(pixels.shape), align_corners=False)
    moved = functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    light = (1 + spread(0.05)).view(-1, 1, 1, 1)
    return (moved * light + spread(6).view(-1, 1, 1, 1)).clamp_(0, 255)


def as_batch(pixels: Pixels) -> torch.Tensor:
    """Return uint8[N, H, W, 3] pixels as float32[N, 3, H, W] in 0..255."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
