"""Compares fast decoding with `--exact-decode`: milliseconds, pixels, probabilities and tags.

One section of `python -m benchmarks`. The demo tagger gets drawings with hard edges and generated images with grain, of
0.5 to 12 megapixels; a ViT with random weights gets the largest, the demo captioner the drawings.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Hashable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.drawings import batches, captioner
from benchmarks.images import KINDS
from benchmarks.measure import table
from benchmarks.tag import Plan
from scripts.demo_training.draw import draw
from scripts.demo_training.figures import random_figure
from sdprep.images.decode import decode
from sdprep.images.fit import max_jpeg_shrink
from sdprep.models.files.hub import ensure_downloaded
from sdprep.models.registry.registry import resolve
from sdprep.models.taggers.onnx_tagger import OnnxTagger
from sdprep.report import NullListener
from sdprep.types import Decoded, Fit, ImageItem

if TYPE_CHECKING:
    from sdprep.types import Pixels

THRESHOLD, BATCH = 0.35, 8


@dataclass(frozen=True, slots=True)
class Measured:
    """Images decoded in one way, the CPU milliseconds per image, and a tagger's probabilities for them."""

    milliseconds: float
    pixels: list[Pixels]
    scores: npt.NDArray[np.float32]


def decoding(plan: Plan) -> str:
    """The table of every tagger and group of images, decoded in both ways."""
    drawings = draw_all(plan.work / f"drawings-{plan.images}", plan.images)
    generated = [path for path in sorted(plan.album(plan.slow_images, 0.5, 12).iterdir()) if path.suffix[1:] in KINDS]
    shrunk = [
        path
        for path in generated
        if path.suffix == ".jpg" and max_jpeg_shrink(Image.open(path).size, Fit(448, "pad")) > 1
    ]
    cases = [
        ("demo tagger", "demo-tag", "drawings", drawings),
        ("demo tagger", "demo-tag", "generated", generated),
        ("ViT stand-in", str(plan.model("vit")), "generated, JPEG files that are shrunk", shrunk[:16]),
    ]
    rows = []
    for name, model, what, files in cases:
        spec = resolve(model, "tag")
        tagger = OnnxTagger(spec, ensure_downloaded(spec, NullListener()))
        ways = [measure(tagger, replace(tagger.fit, exact=exact), files) for exact in (True, False)]
        rows.append([name, f"{len(files)} {what}", *compared(*ways)])
    head = ("tagger", "images", "CPU ms, exact", "CPU ms", "mean change of a value", "of a probability, mean",
            "at most", "images above 0.01", f"tags at {THRESHOLD} that change")  # fmt: skip
    return table(head, rows) + "\n" + captions(drawings)


def measure(tagger: OnnxTagger, fit: Fit, files: Sequence[Path]) -> Measured:
    """Decode images one by one, and tag them."""
    began = time.process_time()
    decoded = all_decoded(files, fit)
    milliseconds = (time.process_time() - began) / len(files) * 1e3
    found = dict(tagger.predict(batches(decoded, BATCH)))
    scores = [found[number].scores for number in range(len(files))]  # type: ignore[union-attr]
    return Measured(milliseconds, [each.pixels for each in decoded], np.stack(scores))


def all_decoded(files: Sequence[Path], fit: Fit) -> list[Decoded]:
    """The files decoded for a model. Raises RuntimeError if one cannot be decoded."""
    decoded = [decode(ImageItem.at(path), fit) for path in files]
    good = [each for each in decoded if isinstance(each, Decoded)]
    if len(good) < len(decoded):
        raise RuntimeError(f"{len(decoded) - len(good)} images could not be decoded")
    return good


def captions(files: Sequence[Path]) -> str:
    """Count the captions of the demo captioner that are the same with exact decoding."""
    texts = []
    for exact in (True, False):
        model = captioner(BATCH)
        found: dict[Hashable, Any] = dict(
            model.predict(batches(all_decoded(files, replace(model.fit, exact=exact)), BATCH))
        )
        texts.append([found[number].text for number in range(len(files))])
    same = sum(map(str.__eq__, *texts))
    changed = [f"{one!r} to {other!r}" for one, other in zip(*texts, strict=True) if one != other]
    return (
        "; ".join([f"Captions of the demo captioner: {same} of {len(files)} drawings have the same", *changed]) + ".\n"
    )


def compared(exact: Measured, fast: Measured) -> list[str]:
    """The columns of a row."""
    values = [np.abs(one.astype(int) - other).mean() for one, other in zip(exact.pixels, fast.pixels, strict=True)]
    change, tags = np.abs(exact.scores - fast.scores), exact.scores >= THRESHOLD
    changed = tags != (fast.scores >= THRESHOLD)
    pairs = zip(exact.scores[changed], fast.scores[changed], strict=True)
    listed = "".join(f"; {one:.4f} to {other:.4f}" for one, other in pairs)
    milliseconds = [f"{each.milliseconds:.1f}" for each in (exact, fast)]
    probabilities = [f"{change.mean():.1e}", f"{change.max():.4f}", str((change.max(axis=1) > 0.01).sum())]
    return [*milliseconds, f"{np.mean(values):.4f}", *probabilities, f"{changed.sum()} of {tags.sum()}{listed}"]


def draw_all(folder: Path, count: int) -> list[Path]:
    """Draw figures of the demo as JPEG files, always the same ones; existing files are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(partial(draw_one, folder), range(count)))


def draw_one(folder: Path, number: int) -> Path:
    """Draw one of them, of 0.5 to 12 megapixels."""
    path, rng = folder / f"{number:04}.jpg", random.Random(f"large {number}")
    pixels, aspect = 1e6 * math.exp(rng.uniform(math.log(0.5), math.log(12))), math.exp(rng.uniform(-0.6, 0.6))
    size = (round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect)))
    if not path.exists():
        draw(random_figure(rng), rng, size).save(path, quality=92)
    return path
