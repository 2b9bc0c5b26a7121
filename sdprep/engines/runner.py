"""The stages of the pipeline with a loaded model: what a worker runs, and what `--workers 0` runs in this process."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Protocol, cast

from sdprep.catalog.results import always_stored, encode_caption, encode_scores
from sdprep.engines.base import EngineConfig
from sdprep.engines.memory import limit_memory, split_budget
from sdprep.engines.stages import Decode, contained, decode_ahead, predict
from sdprep.images.decoder import decoder_advice
from sdprep.images.resize import resizing_advice
from sdprep.models.backends import open_model
from sdprep.models.base import LabelledModel, Model, Task, import_named
from sdprep.report import CancelToken
from sdprep.types import Batch, Caption, Decoded, Failure, ImageItem, Prediction, Result, TagScores


class Watcher(Protocol):
    """Is told what is about to happen to an image before it happens."""

    def watched(self, decode: Decode) -> Decode:
        """The same decoding, watched."""

    def held(self, item: ImageItem, /) -> AbstractContextManager[None]:
        """Is inside while an image has to wait for memory before it is decoded."""

    def shown(self, batch: Batch) -> Batch:
        """A batch that the model is about to be shown."""


class NullWatcher:
    """Watches nothing."""

    def watched(self, decode: Decode) -> Decode:
        """Leave it as it is."""
        return decode

    def held(self, _: ImageItem, /) -> AbstractContextManager[None]:
        """Let it wait."""
        return nullcontext()

    def shown(self, batch: Batch) -> Batch:
        """Leave it as it is."""
        return batch


class StageRunner:
    """An opened model and the way to it; `note` is told what a person should know, then and while it works.

    Raises SdprepError where the model cannot be opened.
    """

    def __init__(self, config: EngineConfig, note: Callable[[str], None], watcher: Watcher = NullWatcher()) -> None:
        self._execution, options = config.execution, config.decode
        decode = import_named(options.function)
        self._model = open_model(config.spec, config.files, config.execution, config.captions, note)
        self._encode = _encoder(config.spec.task, self._model)
        fit = replace(
            self._model.fit,
            max_pixels=options.max_pixels,
            allow_truncated=options.allow_truncated,
            exact=options.exact,
        )
        budget, self._ahead = split_budget(config.execution, options.memory, fit.size)
        self._decode = watcher.watched(contained(limit_memory(partial(decode, fit=fit), budget, fit, watcher.held)))
        self._watcher = watcher
        self.provider = self._model.provider
        for text in (*self._model.notes, decoder_advice(), resizing_advice(fit)):
            if text is not None:
                note(text)

    def run(self, items: Iterable[ImageItem], stop: CancelToken) -> Iterator[Result | Failure]:
        """The outcome of every item that was reached; after a wish to stop, the batch in hand is the last."""
        return self.predicted(self.decoded(items), stop)

    def decoded(self, items: Iterable[ImageItem]) -> Iterator[Decoded | Failure]:
        """The images as the model is shown them, decoded ahead."""
        return decode_ahead(items, self._decode, self._execution.decode_threads, self._ahead)

    def predicted(self, pictures: Iterable[Decoded | Failure], stop: CancelToken) -> Iterator[Result | Failure]:
        """What the model makes of images; a failure stays one."""
        for outcome in predict(pictures, _Shown(self._model, self._watcher), self._execution.batch_size, stop):
            if isinstance(outcome, Failure):
                yield outcome
            else:
                yield Result(outcome.item, outcome.digest, self._encode(outcome.prediction), outcome.remarks)

    def close(self) -> None:
        """Free the model."""
        self._model.close()


class _Shown:
    """A model whose batches are announced."""

    def __init__(self, model: Model, watcher: Watcher) -> None:
        self._model, self._watcher, self.fit = model, watcher, model.fit
        self.provider, self.notes = model.provider, model.notes

    def predict(self, batches: Iterable[Batch]) -> Iterator[tuple[Hashable, Prediction]]:
        """What the model answers."""
        return self._model.predict(map(self._watcher.shown, batches))

    def close(self) -> None:
        """Free the model."""
        self._model.close()


def _encoder(task: Task, model: Model) -> Callable[[Prediction], bytes]:
    """What makes bytes of the catalog out of a prediction."""

    # Once for all images, as there may be ten thousand labels.
    always = always_stored(cast("LabelledModel", model).labels) if task == "tag" else []

    def encode(prediction: Prediction) -> bytes:
        if isinstance(prediction, Caption) and task == "caption":
            return encode_caption(prediction)
        if isinstance(prediction, TagScores) and task == "tag":
            return encode_scores(prediction, always)
        raise TypeError(f"a model for {task} answered with {type(prediction).__name__}")

    return encode
