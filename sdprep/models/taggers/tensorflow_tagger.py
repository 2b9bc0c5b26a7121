"""Waifu-Diffusion-style taggers through TensorFlow; the only file that imports it.

The SavedModel is called through its signature `serving_default`, which works in TensorFlow 2.10 and in the current
version; Keras 3 refuses to load the same folder as a Keras model.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdprep.errors import ModelError
from sdprep.models.backends import importing
from sdprep.models.base import ModelFiles, ModelSpec
from sdprep.models.execution import Execution
from sdprep.models.parse import cause
from sdprep.models.taggers.graph import GraphInput, chosen_output, failed_run, scored
from sdprep.models.taggers.label_file import read_columns
from sdprep.models.taggers.providers import CPU
from sdprep.types import Batch, Prediction

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sdprep.types import Scores

SIGNATURE = "serving_default"
# TensorFlow's own log level. It takes effect only after the first messages are printed.
LOG_LEVEL, QUIET = "TF_CPP_MIN_LOG_LEVEL", "2"
# Lines that are not errors, as version 2.10 and the current one write them.
INFO = re.compile(rb"WARNING: All log messages before absl|To enable th|I\d{4} |[\d:. -]+ I ")


class TensorflowTagger:
    """A tagger whose input is read from the signature of its SavedModel, as far as its description leaves it open.

    Raises MissingExtra without TensorFlow, ModelError if graph, description and label file do not belong together.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, spec: ModelSpec, files: ModelFiles, execution: Execution = Execution()) -> None:
        self._folder, self._answers = files.folder, spec.answers
        with _less_talk():
            self._tensorflow = _import_tensorflow()
            self.provider = _choose_device(self._tensorflow, execution.provider)
            # The signature alone does not keep the model alive.
            self._model, self._signature = _load(self._tensorflow, files.folder)
        inputs, outputs = self._signature.structured_input_signature[1], self._signature.structured_outputs
        taken = [tensor.dtype.name for tensor in inputs.values()]
        if taken != ["float32"]:
            raise ModelError(f"{files.folder} takes {', '.join(taken)}, not one tensor of float32")
        ((self._input, tensor),) = inputs.items()
        self._output = list(outputs)[chosen_output(list(outputs), spec.output, files.folder)]
        self._graph = GraphInput.of(_sides(tensor) or [], spec, files)
        self.fit = self._graph.fit
        self.labels, self._columns = read_columns(spec, files)
        if (shape := _sides(outputs[self._output])) is not None:
            self._columns.check(shape, files.folder)

    def predict(self, batches: Iterable[Batch]) -> Iterator[tuple[Hashable, Prediction]]:
        """The probabilities of every image."""
        return scored(batches, self._graph, self._columns, self._run, self._answers, self._folder)

    def close(self) -> None:
        """Free the graph."""
        del self._signature, self._model

    def _run(self, values: npt.NDArray[np.float32]) -> Scores:
        try:
            scores: Scores = self._signature(**{self._input: self._tensorflow.constant(values)})[self._output].numpy()
        except Exception as error:  # TensorFlow raises a dozen classes of its own
            raise failed_run(self._folder, "TensorFlow", error, self._graph.batch, len(values)) from error
        return scores


@contextmanager
def _less_talk() -> Iterator[None]:
    """Hide what TensorFlow's native code writes to stderr; if the block fails, print the errors among it.

    If you set TF_CPP_MIN_LOG_LEVEL to another level, you see everything.
    """
    if os.environ.setdefault(LOG_LEVEL, QUIET) != QUIET:
        yield
        return
    if sys.stderr is not None:
        sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        except BaseException:
            said.seek(0)
            os.write(stderr, b"".join([line for line in said if not INFO.match(line)][-5:]))
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _import_tensorflow() -> Any:
    with importing("tensorflow", "tensorflow"):
        import tensorflow
    return tensorflow


def _choose_device(tensorflow: Any, wanted: str) -> str:
    """The provider that will run the model, "cuda" or "cpu". Raises ModelError if `wanted` is not available."""
    gpus = tensorflow.config.list_physical_devices("GPU")
    if wanted == "cuda" and not gpus:
        raise ModelError(
            f"--provider asked for cuda, but TensorFlow {tensorflow.__version__} finds no GPU\n"
            "Ask `sdprep doctor` why; --provider cpu runs the model on the CPU"
        )
    if wanted == CPU or not gpus:
        tensorflow.config.set_visible_devices([], "GPU")
        return CPU
    for gpu in gpus:
        # By default the first model takes all memory of the GPU.
        tensorflow.config.experimental.set_memory_growth(gpu, True)
    return "cuda"


def _sides(tensor: Any) -> list[int | None] | None:
    """The shape that a signature states; None if even the number of dimensions is open."""
    return None if tensor.shape.rank is None else list(tensor.shape.as_list())


def _load(tensorflow: Any, folder: Path) -> tuple[Any, Any]:
    try:
        model = tensorflow.saved_model.load(str(folder))
    except Exception as error:  # TensorFlow raises a dozen classes of its own
        message = f"{folder} is not a SavedModel that TensorFlow {tensorflow.__version__} can run: {cause(error)}"
        raise ModelError(message) from error
    if SIGNATURE not in model.signatures:
        raise ModelError(f"the SavedModel in {folder} has no signature '{SIGNATURE}'")
    return model, model.signatures[SIGNATURE]
