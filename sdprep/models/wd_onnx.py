"""Waifu-Diffusion-style taggers through ONNX Runtime; the only file that imports it."""

from __future__ import annotations

import csv
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sdprep.errors import MissingExtra, ModelError
from sdprep.models.base import LabelSpec, ModelFiles, ModelSpec
from sdprep.rules.tags import LabelTable
from sdprep.types import Batch, Fit, Prediction, TagScores

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from sdprep.types import Pixels, Scores

# In this order, as far as the installed onnxruntime has them.
PROVIDERS = ("CUDAExecutionProvider", "DmlExecutionProvider", "CPUExecutionProvider")


class OnnxTagger:
    """A tagger whose input name, layout, size and batch are read from its graph.

    The graph takes float32 pixels from 0 to 255 and answers with probabilities, one a label.
    Raises MissingExtra without onnxruntime, ModelError if graph and label file do not belong together.
    """

    def __init__(self, spec: ModelSpec, files: ModelFiles) -> None:
        path = files.folder / spec.files[0]
        self._session = _open_session(path)
        node = self._session.get_inputs()[0]
        self._input = node.name
        self._batch, self._channels_first, size = _read_shape(path, node.shape)
        self._bgr = spec.image.channels == "bgr"
        self.fit = Fit(size, spec.image.fit, spec.image.pad_color)
        self.labels = read_labels(spec, files)
        outputs = self._session.get_outputs()[0]
        self._output = outputs.name
        if outputs.shape[-1] != len(self.labels.names):
            raise ModelError(
                f"{path} answers with {outputs.shape[-1]} scores but its label file has {len(self.labels.names)} rows"
            )

    def predict(self, batches: Iterable[Batch]) -> Iterator[tuple[Hashable, Prediction]]:
        """The probabilities of every picture."""
        for batch in batches:
            for start in range(0, len(batch.keys), self._batch or len(batch.keys)):
                stop = start + (self._batch or len(batch.keys))
                keys = batch.keys[start:stop]
                scores = self._run(batch.pixels[start:stop])
                yield from zip(keys, map(TagScores, scores), strict=True)

    def close(self) -> None:
        """Free the session."""
        del self._session

    def _run(self, pixels: Pixels) -> Scores:
        """Scores, float32[n, n_labels], of uint8[n, H, W, 3]."""
        count = len(pixels)
        if self._batch and count < self._batch:
            pixels = np.concatenate([pixels, np.repeat(pixels[-1:], self._batch - count, axis=0)])
        if self._bgr:
            pixels = pixels[..., ::-1]
        if self._channels_first:
            pixels = pixels.transpose(0, 3, 1, 2)
        feed = {self._input: np.ascontiguousarray(pixels, dtype=np.float32)}
        scores: Scores = self._session.run([self._output], feed)[0]
        return scores[:count]


def _open_session(path: Path) -> InferenceSession:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("onnxruntime", "tag") from error
    providers = [name for name in PROVIDERS if name in onnxruntime.get_available_providers()]
    try:
        return onnxruntime.InferenceSession(str(path), providers=providers)
    except Exception as error:  # onnxruntime raises a dozen classes of its own
        raise ModelError(
            f"{path} is not a model that onnxruntime {onnxruntime.__version__} can run: {error}"
        ) from error


def _read_shape(path: Path, shape: list[Any]) -> tuple[int | None, bool, int]:
    """The fixed batch (None: any), whether channels come first, and the side of the square."""
    if len(shape) == 4:
        batch = shape[0] if isinstance(shape[0], int) else None
        if shape[3] == 3 and shape[1] == shape[2] and isinstance(shape[1], int):
            return batch, False, shape[1]
        if shape[1] == 3 and shape[2] == shape[3] and isinstance(shape[2], int):
            return batch, True, shape[2]
    raise ModelError(f"{path} takes an input of shape {shape}, which is no batch of square RGB pictures")


def read_labels(spec: ModelSpec, files: ModelFiles) -> LabelTable:
    """The label table of a model, categories by their codes. Raises ModelError naming the file and the row."""
    labels = _label_spec(spec)
    path = files.folder / labels.file
    words = {str(code): word for word, code in labels.categories.items()}
    names, categories = [], []
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            for number, row in enumerate(csv.DictReader(stream), start=2):
                code = row["category"]
                if code not in words:
                    raise ModelError(f"{path}, line {number}: category {code} is none of {', '.join(words)}")
                names.append(row["name"])
                categories.append(words[code])
    except (OSError, UnicodeDecodeError, KeyError, csv.Error) as error:
        raise ModelError(f"{path} is not a label file with columns 'name' and 'category': {error!r}") from error
    return LabelTable(tuple(names), tuple(categories))


def _label_spec(spec: ModelSpec) -> LabelSpec:
    if spec.labels is None:
        raise ModelError(f"the description of {spec.name} names no label file")
    return spec.labels
