"""Waifu-Diffusion-style taggers through ONNX Runtime."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from sdprep.errors import ModelError
from sdprep.models.base import ModelFiles, ModelSpec
from sdprep.models.graph import GraphInput
from sdprep.models.labels import check_label_count, read_labels
from sdprep.models.onnx_session import OnnxSession
from sdprep.models.providers import FIXED_SHAPES, Execution, misfit
from sdprep.types import Batch, Fit, Prediction, TagScores

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sdprep.types import Pixels, Scores


class OnnxTagger:
    """A tagger whose input name, layout, size and batch are read from its graph.

    The graph takes float32 pixels from 0 to 255 and answers with probabilities, one a label.
    Raises what OnnxSession raises, and ModelError if graph and label file do not belong together.
    """

    def __init__(self, spec: ModelSpec, files: ModelFiles, execution: Execution = Execution()) -> None:
        path = files.folder / spec.files[0]
        self._session = OnnxSession(path, execution)
        if self._session.input_type != "tensor(float)":
            raise ModelError(f"{path} takes {self._session.input_type}, not float32")
        self._graph = GraphInput.of(self._session.input_shape, path)
        self.provider, self.input_name = self._session.provider, self._session.input_name
        advice = misfit(spec.precision, self.provider)
        self.notes = self._session.notes if advice is None else (*self._session.notes, advice)
        if self._graph.batch is None and self.provider in FIXED_SHAPES:
            # Short batches are filled up then, too.
            self._graph = replace(self._graph, batch=execution.batch_size)
        self._channels = spec.image.channels
        self.fit = Fit(self._graph.size, spec.image.fit, spec.image.pad_color)
        self.labels = read_labels(spec, files)
        check_label_count(self.labels, self._session.output_shape[-1], path)

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

    def feed(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """What the graph is given for uint8[n, H, W, 3]."""
        return self._graph.feed(pixels, self._channels)

    def _run(self, pixels: Pixels) -> Scores:
        """Scores, float32[n, n_labels], of uint8[n, H, W, 3]."""
        return self._session.run(self.feed(pixels))[: len(pixels)]
