"""Waifu-Diffusion-style taggers through ONNX Runtime; the only file that imports it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sdprep.errors import MissingExtra, ModelError
from sdprep.models.base import ModelFiles, ModelSpec
from sdprep.models.graph import GraphInput
from sdprep.models.labels import check_label_count, read_labels
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
        node, answer = self._session.get_inputs()[0], self._session.get_outputs()[0]
        self._input, self._output = node.name, answer.name
        if node.type != "tensor(float)":
            raise ModelError(f"{path} takes {node.type}, not float32")
        self._graph = GraphInput.of(node.shape, path)
        self._channels = spec.image.channels
        self.fit = Fit(self._graph.size, spec.image.fit, spec.image.pad_color, spec.image.preprocess)
        self.labels = read_labels(spec, files)
        check_label_count(self.labels, answer.shape[-1], path)

    def predict(self, batches: Iterable[Batch]) -> Iterator[tuple[Hashable, Prediction]]:
        """The probabilities of every picture; a graph with a fixed batch gets a batch in several pieces."""
        for batch in batches:
            step = self._graph.batch or len(batch.keys)
            for start in range(0, len(batch.keys), step):
                scores = self._run(batch.pixels[start : start + step])
                yield from zip(batch.keys[start : start + step], map(TagScores, scores), strict=True)

    def close(self) -> None:
        """Free the session."""
        del self._session

    def _run(self, pixels: Pixels) -> Scores:
        """Scores, float32[n, n_labels], of uint8[n, H, W, 3]."""
        feed = {self._input: self._graph.feed(pixels, self._channels)}
        scores: Scores = self._session.run([self._output], feed)[0]
        return scores[: len(pixels)]


def _open_session(path: Path) -> InferenceSession:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("onnxruntime", "tag") from error
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers() and hasattr(onnxruntime, "preload_dlls"):
        # CUDA that pip installed lies where the system does not look for it.
        onnxruntime.preload_dlls()
    providers = [name for name in PROVIDERS if name in onnxruntime.get_available_providers()]
    try:
        return onnxruntime.InferenceSession(str(path), providers=providers)
    except Exception as error:  # onnxruntime raises a dozen classes of its own
        message = f"{path} is not a model that onnxruntime {onnxruntime.__version__} can run: {error}"
        raise ModelError(message) from error
