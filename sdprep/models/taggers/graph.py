"""The input and output of a tagger's graph: shapes, pixels as it needs them, and probabilities from its scores."""

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

# By rounding, a probability may be this far out of its range.
SLACK = 1e-3
# The largest input, in numbers; 512 images of 512 x 512 are fewer.
MOST_NUMBERS = 2**29


@dataclass(frozen=True, slots=True)
class GraphInput:
    """The input of a graph: a fixed batch size (None: any), whether channels come first, and image preparation."""

    batch: int | None
    channels_first: bool
    fit: Fit
    image: ImageSpec

    @classmethod
    def of(cls, shape: Sequence[Any], spec: ModelSpec, files: ModelFiles) -> GraphInput:
        """Read a shape of four dimensions; the description fills in what the graph leaves open.

        Raises ModelError if it is not a batch of square RGB images, or if the two contradict each other.
        """
        path = files.folder / spec.files[0]
        image, fit = prepared(spec.image, files)
        channels_first = _channels_first(shape, image.layout, path)
        size = _side(shape[2:] if channels_first else shape[1:3], image.size, list(shape), path)
        batch = shape[0] if isinstance(shape[0], int) else None
        if batch is not None and not 1 <= batch <= MOST_NUMBERS // (3 * size * size):
            raise ModelError(f"{path} takes an input of shape {list(shape)}; sdprep cannot use a batch size of {batch}")
        return cls(batch, channels_first, fit or image.fit_to(size), image)

    def feed(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """Pixels, uint8[n, H, W, 3] in RGB, as float32 in the order, scale and layout of the graph.

        If the graph fixes the batch size, a short batch is padded with its last image.
        """
        image = self.image
        if self.batch and len(pixels) < self.batch:
            pixels = np.concatenate([pixels, np.repeat(pixels[-1:], self.batch - len(pixels), axis=0)])
        if image.channels == "bgr":
            values = np.empty(pixels.shape, dtype=np.float32)
            # Channel by channel, since numpy is three times as slow when it reads memory backwards.
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
    told = {"nhwc": False, "nchw": True}.get(layout or "")
    if len(shape) == 4:
        possible = {first for first, place in ((False, 3), (True, 1)) if shape[place] == 3}
        if not possible:
            possible = {first for first, place in ((False, 3), (True, 1)) if not isinstance(shape[place], int)}
            possible &= {told}
        if told in possible or (told is None and len(possible) == 1):
            return possible.pop() if told is None else told
        if told is None and len(possible) == 2:
            raise ModelError(f"{path} takes an input of shape {list(shape)}\nSet layout in [image] to nhwc or nchw")
    asked = f" in the layout {layout}" if layout else ""
    raise ModelError(
        f"{path} takes an input of shape {list(shape)}, which is not a batch of square RGB images{asked}"
        + ("" if layout else "; if it is, set layout in [image] to nhwc or nchw")
    )


def _side(sides: Sequence[Any], explicit: int | None, shape: list[Any], path: object) -> int:
    fixed = {side for side in sides if isinstance(side, int)}
    if len(fixed) > 1 or not all(1 <= side <= LARGEST_SIDE for side in fixed):
        raise ModelError(f"{path} takes an input of shape {shape}, which is not a batch of square RGB images")
    size = fixed.pop() if fixed else explicit
    if size is None:
        raise ModelError(f"{path} takes an input of shape {shape}: a batch of square RGB images of any size\n"
                         "Set size in [image]")  # fmt: skip
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
    """The probabilities of every image; if the graph fixes the batch size, batches are split to fit it."""
    for batch in batches:
        step = graph.batch or len(batch.keys)
        for start in range(0, len(batch.keys), step):
            pixels = batch.pixels[start : start + step]
            values = graph.feed(np.asarray(pixels))
            scores = columns.of(run(values), len(values), path)[: len(pixels)]
            yield from zip(
                batch.keys[start : start + step], map(TagScores, probabilities(scores, answers, path)), strict=True
            )


def chosen_output(names: Sequence[str], wanted: str | int, path: object) -> int:
    """The index of the output that a description names. Raises ModelError if there is no such output."""
    if isinstance(wanted, str) and wanted in names:
        return names.index(wanted)
    if isinstance(wanted, int) and 0 <= wanted < len(names):
        return wanted
    raise ModelError(f"{path} has no output {wanted!r}; it has: {', '.join(names)}")


def failed_run(path: object, framework: str, error: Exception, batch: Any, images: int) -> ModelError:
    """The error of a loaded graph that fails on some images; `batch` is a number if its shape fixes the batch size."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    nodes = [place for place, line in enumerate(lines) if line.startswith("[[{{node")]
    # The reason comes first, in TensorFlow right above the first line that names a node.
    reason = lines[max(nodes[0] - 1, 0)] if nodes else lines[0]
    smaller = images > 1 and not isinstance(batch, int)
    advice = "\nTry one image at a time: sdprep tag --batch-size 1" if smaller else ""
    many = f"{images} images" if images > 1 else "one image"
    return ModelError(f"{path} fails in {framework} on {many}: {reason}{advice}")


def probabilities(output: npt.NDArray[Any], answers: str, path: object) -> Scores:
    """Probabilities, float32[n, m], from the output of a graph. Raises ModelError if they are out of range."""
    values: Scores = output.astype(np.float32, copy=False)
    if answers == "logits":
        # The logistic function, by tanh, which cannot overflow.
        values = np.tanh(values * np.float32(0.5))
        return (values + np.float32(1)) * np.float32(0.5)
    finite = values[np.isfinite(values)]
    if finite.size and (finite.min() < -SLACK or finite.max() > 1 + SLACK):
        raise ModelError(
            f"{path} outputs values from {finite.min():.3g} to {finite.max():.3g}, which are not probabilities\n"
            'If they are logits, describe the model in a .toml file with answers = "logits"'
        )
    return values
