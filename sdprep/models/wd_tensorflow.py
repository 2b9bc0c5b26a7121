"""Waifu-Diffusion-style taggers through TensorFlow; the only file that imports it.

The SavedModel is called through its signature `serving_default`, which TensorFlow 2.10 and the current one serve
alike; Keras 3 refuses to load the same folder as a Keras model.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any

from sdprep.errors import MissingExtra, ModelError
from sdprep.models.base import ModelFiles, ModelSpec
from sdprep.models.graph import GraphInput
from sdprep.models.labels import check_label_count, read_labels
from sdprep.models.providers import CPU, Execution
from sdprep.types import Batch, Fit, Prediction, TagScores

SIGNATURE = "serving_default"


class TensorflowTagger:
    """A tagger whose input name and size are read from the signature of its SavedModel.

    The graph takes float32 pixels from 0 to 255 and answers with probabilities, one a label.
    Raises MissingExtra without TensorFlow, ModelError if graph and label file do not belong together.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, spec: ModelSpec, files: ModelFiles, execution: Execution = Execution()) -> None:
        self._tensorflow = _import_tensorflow()
        self.provider = _choose_device(self._tensorflow, execution.provider)
        # The signature does not keep the model alive by itself.
        self._model, self._signature = _load(self._tensorflow, files.folder)
        ((self._input, tensor),) = self._signature.structured_input_signature[1].items()
        ((self._output, answer),) = self._signature.structured_outputs.items()
        if tensor.dtype != self._tensorflow.float32:
            raise ModelError(f"{files.folder} takes {tensor.dtype.name}, not float32")
        self._graph = GraphInput.of(tensor.shape.as_list(), files.folder)
        self._channels = spec.image.channels
        self.fit = Fit(self._graph.size, spec.image.fit, spec.image.pad_color)
        self.labels = read_labels(spec, files)
        check_label_count(self.labels, answer.shape[-1], files.folder)

    def predict(self, batches: Iterable[Batch]) -> Iterator[tuple[Hashable, Prediction]]:
        """The probabilities of every picture."""
        for batch in batches:
            pixels = self._tensorflow.constant(self._graph.feed(batch.pixels, self._channels))
            scores = self._signature(**{self._input: pixels})[self._output].numpy()
            yield from zip(batch.keys, map(TagScores, scores), strict=True)

    def close(self) -> None:
        """Free the graph."""
        del self._signature, self._model


def _import_tensorflow() -> Any:
    # TensorFlow reads this when it is imported, and would otherwise tell of every library it tries.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import tensorflow
    except ImportError as error:
        raise MissingExtra("tensorflow", "tensorflow") from error
    except Exception as error:  # a clash of versions ends the import in any way
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(f"the installed TensorFlow cannot be imported: {reason}") from error
    return tensorflow


def _choose_device(tensorflow: Any, wanted: str) -> str:
    """Hide the cards from a model for the processor; the name of what will run it.

    Raises ModelError if a card is wanted and TensorFlow sees none.
    """
    cards = tensorflow.config.list_physical_devices("GPU")
    if wanted == "cuda" and not cards:
        raise ModelError(
            f"--provider asked for cuda, but TensorFlow {tensorflow.__version__} sees no card\n"
            "Ask `sdprep doctor` why; --provider cpu runs the model on the processor"
        )
    if wanted == CPU or not cards:
        tensorflow.config.set_visible_devices([], "GPU")
        return CPU
    for card in cards:
        # Else the first model takes the whole memory of the card.
        tensorflow.config.experimental.set_memory_growth(card, True)
    return "cuda"


def _load(tensorflow: Any, folder: Path) -> tuple[Any, Any]:
    try:
        model = tensorflow.saved_model.load(str(folder))
    except Exception as error:  # TensorFlow raises a dozen classes of its own
        message = f"{folder} is not a SavedModel that TensorFlow {tensorflow.__version__} can run: {error}"
        raise ModelError(message) from error
    if SIGNATURE not in model.signatures:
        raise ModelError(f"the SavedModel in {folder} has no signature '{SIGNATURE}'")
    return model, model.signatures[SIGNATURE]
