"""Waifu-Diffusion-style taggers through ONNX Runtime; the only file that imports it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sdprep.errors import MissingExtra, ModelError
from sdprep.models.base import ModelFiles, ModelSpec
from sdprep.models.graph import GraphInput, chosen_output, probabilities
from sdprep.models.labels import read_columns
from sdprep.models.onnx_check import check_self_contained
from sdprep.types import Batch, Prediction, TagScores

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from sdprep.types import Pixels, Scores

# In this order, as far as the installed onnxruntime has them.
PROVIDERS = ("CUDAExecutionProvider", "DmlExecutionProvider", "CPUExecutionProvider")


class OnnxTagger:
    """A tagger whose input, and what its description leaves open of it, are read from its graph.

    Raises MissingExtra without onnxruntime, ModelError if graph, description and label file do not belong together.
    """

    def __init__(self, spec: ModelSpec, files: ModelFiles) -> None:
        self._path, self._answers = files.folder / spec.files[0], spec.answers
        check_self_contained(self._path)
        self._session = _open_session(self._path)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)":
            raise ModelError(f"{self._path} takes {', '.join(node.type for node in inputs)}, not one tensor of float32")
        answer = outputs[chosen_output([node.name for node in outputs], spec.output, self._path)]
        self._input, self._output = inputs[0].name, answer.name
        self._graph = GraphInput.of(inputs[0].shape, spec, files)
        self.fit = self._graph.fit
        self.labels, self._columns = read_columns(spec, files)
        self._columns.check(answer.shape, self._path)

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
        answer = self._session.run([self._output], {self._input: self._graph.feed(pixels)})[0]
        self._columns.check(answer.shape, self._path)
        return probabilities(self._columns.of(answer[: len(pixels)]), self._answers, self._path)


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
