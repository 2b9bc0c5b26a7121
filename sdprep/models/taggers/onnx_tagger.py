"""Waifu-Diffusion-style taggers through ONNX Runtime."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from sdprep.models.base import ModelFiles, ModelSpec
from sdprep.models.execution import Execution
from sdprep.models.taggers.graph import GraphInput, scored
from sdprep.models.taggers.label_file import read_columns
from sdprep.models.taggers.onnx_check import check_graph
from sdprep.models.taggers.onnx_session import OnnxSession
from sdprep.models.taggers.providers import FIXED_SHAPES, precision_warning
from sdprep.types import Batch, Prediction

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sdprep.types import Pixels


class OnnxTagger:
    """A tagger whose input is read from its graph, as far as its description leaves it open.

    Raises what OnnxSession raises, and ModelError if graph, description and label file do not belong together.
    """

    def __init__(self, spec: ModelSpec, files: ModelFiles, execution: Execution = Execution()) -> None:
        self._path, self._answers = files.folder / spec.files[0], spec.answers
        beside = self._path.parent.relative_to(files.folder).as_posix()
        named = [PurePosixPath(name).name for name in spec.files if PurePosixPath(name).parent.as_posix() == beside]
        # In the Hub's cache, where each file is a link into one folder of the repository.
        blobs = files.folder.parent.parent / "blobs" if spec.source.repo is not None else None
        check_graph(self._path, named, blobs=blobs)
        self._session = OnnxSession(self._path, execution, spec.output)
        self.provider, self.input_name = self._session.provider, self._session.input_name
        advice = precision_warning(spec.precision, self.provider)
        self.notes = self._session.notes if advice is None else (*self._session.notes, advice)
        self._graph = GraphInput.of(self._session.input_shape, spec, files)
        if self._graph.batch is None and self.provider in FIXED_SHAPES:
            # Short batches are then padded, too.
            self._graph = replace(self._graph, batch=execution.batch_size)
        self.fit = self._graph.fit
        self.labels, self._columns = read_columns(spec, files)
        self._columns.check(self._session.output_shape, self._path)

    def predict(self, batches: Iterable[Batch]) -> Iterator[tuple[Hashable, Prediction]]:
        """The probabilities of every image."""
        return scored(batches, self._graph, self._columns, self._session.run, self._answers, self._path)

    def close(self) -> None:
        """Free the session."""
        del self._session

    def feed(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """The input of the graph for uint8[n, H, W, 3]."""
        return self._graph.feed(pixels)
