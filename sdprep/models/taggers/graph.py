"""What a tagger's graph says of its input and output, pixels as it wants them, and probabilities of its answers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sdprep.errors import ModelError
from sdprep.models.base import LARGEST_SIDE
from sdprep.models.taggers.preprocess_json import prepared
from sdprep.types import Batch, TagScores

if TYPE_CHECKING:
    import numpy.typing as npt

    from sdprep.models.base import ImageSpec, ModelFiles, ModelSpec
    from sdprep.models.taggers.label_file import Columns
    from sdprep.types import Fit, Pixels, Scores

# Rounding may carry a probability this far out of its range.
SLACK = 1e-3
# The most numbers that a graph is given at once; 512 images of 512 x 512 are fewer.
MOST_NUMBERS = 2**29


@dataclass(frozen=True, slots=True)
class GraphInput:
    """The input of a graph: a fixed batch (None: any), whether channels come first, and what an image goes through."""

    batch: int | None
    channels_first: bool
    fit: Fit
    image: ImageSpec

    @classmethod
    def of(cls, shape: Sequence[Any], spec: ModelSpec, files: ModelFiles) -> GraphInput:
        """Read a shape of four dimensions; the description says what the graph leaves open.

        Raises ModelError if it is no batch of square RGB images, or if the two contradict each other.
        """
        path = files.folder / spec.files[0]
        image, fit = prepared(spec.image, files)
        channels_first = _channels_first(shape, image.layout, path)
        size = _side(shape[2:] if channels_first else shape[1:3], image.size, list(shape), path)
        batch = shape[0] if isinstance(shape[0], int) else None
        if batch is not None and not 1 <= batch <= MOST_NUMBERS // (3 * size * size):
            raise ModelError(f"{path} takes an input of shape {list(shape)}, and sdprep feeds no batch of {batch}")
        return cls(batch, channels_first, fit or image.fit_to(size), image)

    def feed(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """Pixels, uint8[n, H, W, 3] in RGB, as float32 in the order, scale and layout of the graph.

        A short batch is filled up with its last image where the graph fixes the batch.
        """
        image = self.image
        if self.batch and len(pixels) < self.batch:
            pixels = np.concatenate([pixels, np.repeat(pixels[-1:], self.batch - len(pixels), axis=0)])
        if image.channels == "bgr":
            values = np.empty(pixels.shape, dtype=np.float32)
            # Channel by channel: numpy is three times as slow where it goes backwards through memory.
            for place in range(3):
                values[..., place] = pixels[..., 2 - place]
        else:
            values = pixels.astype(np.float32)
        if image.scale == "0..1":
            values /= 255
        if any(image.mean):
            values -= np.array(image.mean, dtype=np.float32)
        if image.std != (1.0, 1.0, 1.0):
            values /= np.array(image.std, dtype=np.float32)
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2) if self.channels_first else values)


def _channels_first(shape: Sequence[Any], layout: str | None, path: object) -> bool:
    """Where the channels are: 3 of them, last or second."""
    told = {"nhwc": False, "nchw": True}.get(layout or "")
    if len(shape) == 4:
        possible = {first for first, place in ((False, 3), (True, 1)) if shape[place] == 3}
        if not possible:
            possible = {first for first, place in ((False, 3), (True, 1)) if not isinstance(shape[place], int)}
            possible &= {told}
        if told in possible or (told is None and len(possible) == 1):
            return possible.pop() if told is None else told
        if told is None and len(possible) == 2:
            raise ModelError(f"{path} takes an input of shape {list(shape)}\nSay layout in [image]: nhwc or nchw")
    asked = f" in the layout {layout}" if layout else ""
    raise ModelError(
        f"{path} takes an input of shape {list(shape)}, which is no batch of square RGB images{asked}"
        + ("" if layout else "; if it is, say layout in [image]: nhwc or nchw")
    )


def _side(sides: Sequence[Any], explicit: int | None, shape: list[Any], path: object) -> int:
    fixed = {side for side in sides if isinstance(side, int)}
    if len(fixed) > 1 or not all(1 <= side <= LARGEST_SIDE for side in fixed):
        raise ModelError(f"{path} takes an input of shape {shape}, which is no batch of square RGB images")
    size = fixed.pop() if fixed else explicit
    if size is None:
        raise ModelError(f"{path} takes an input of shape {shape}: a batch of square RGB images of any size\n"
                         "Say size in [image]")  # fmt: skip
    if explicit not in (None, size):
        raise ModelError(f"{path} takes images of {size} x {size}, but its description says {explicit}")
    return size


def scored(
    batches: Iterable[Batch],
    graph: GraphInput,
    columns: Columns,
    run: Callable[[npt.NDArray[np.float32]], Any],
    answers: str,
    path: object,
) -> Iterator[tuple[Hashable, TagScores]]:
    """The probabilities of every image by `run`; a graph with a fixed batch gets a batch in several pieces."""
    for batch in batches:
        step = graph.batch or len(batch.keys)
        for start in range(0, len(batch.keys), step):
            pixels = batch.pixels[start : start + step]
            values = graph.feed(pixels)
            scores = columns.of(run(values), len(values), path)[: len(pixels)]
            yield from zip(
                batch.keys[start : start + step], map(TagScores, probabilities(scores, answers, path)), strict=True
            )


def chosen_output(names: Sequence[str], wanted: str | int, path: object) -> int:
    """The place of the output that a description names. Raises ModelError with the names that there are."""
    if isinstance(wanted, str) and wanted in names:
        return names.index(wanted)
    if isinstance(wanted, int) and 0 <= wanted < len(names):
        return wanted
    raise ModelError(f"{path} has no output {wanted!r}; it has: {', '.join(names)}")


def failed_run(path: object, framework: str, error: Exception, batch: Any, images: int) -> ModelError:
    """The error of a graph that was loaded and fails at work; `batch` is that of its shape, a number where it is fixed.

    TensorFlow's reason is the line above the first that names a node; other messages begin with it.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    nodes = [place for place, line in enumerate(lines) if line.startswith("[[{{node")]
    said = lines[max(nodes[0] - 1, 0)] if nodes else lines[0]
    smaller = images > 1 and not isinstance(batch, int)
    advice = "\nIt may bear one image at a time: sdprep tag --batch-size 1" if smaller else ""
    many = f"{images} images" if images > 1 else "one image"
    return ModelError(f"{path} fails in {framework} on {many}: {said}{advice}")


def probabilities(answer: npt.NDArray[Any], answers: str, path: object) -> Scores:
    """Probabilities, float32[n, m], of what a graph answered; of logits by the logistic function.

    Raises ModelError if what should be probabilities is none.
    """
    values: Scores = answer.astype(np.float32, copy=False)
    if answers == "logits":
        # The logistic function by way of one that cannot overflow.
        values = np.tanh(values * np.float32(0.5))
        return (values + np.float32(1)) * np.float32(0.5)
    finite = values[np.isfinite(values)]
    if finite.size and (finite.min() < -SLACK or finite.max() > 1 + SLACK):
        raise ModelError(
            f"{path} answers with values from {finite.min():.3g} to {finite.max():.3g}, which are no probabilities\n"
            'If they are logits, describe the model in a .toml file with answers = "logits"'
        )
    return values
