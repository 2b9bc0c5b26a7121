"""The stages of the pipeline with a loaded model: what a worker runs, and what `--workers 0` runs in this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Protocol, TypeVar, cast

from sdprep.catalog.results import always_stored, encode_caption, encode_scores
from sdprep.engines.base import EngineConfig
from sdprep.engines.memory import limit_memory, split_budget
from sdprep.engines.stages import Decode, contained, decode_ahead, predict
from sdprep.images.decoder import decoder_advice
from sdprep.images.resize import resizing_advice
from sdprep.models.backends import open_model
from sdprep.models.base import LabelledModel, Model, Task, WaitingModel, import_named
from sdprep.report import CancelToken, StageTime
from sdprep.types import Batch, Caption, Decoded, Failure, ImageItem, Prediction, Result, TagScores

T = TypeVar("T")


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
        self.timings: dict[str, StageTime] = {}
        self._timed, self._timings_lock = config.timings, threading.Lock()
        # Before the model, so that a decoder that cannot be imported costs no time.
        function = import_named(options.function)
        self._model = open_model(config.spec, config.files, config.execution, config.captions, note)
        self._encode = _encoder(config.spec.task, self._model)
        fit = replace(
            self._model.fit,
            max_pixels=options.max_pixels,
            allow_truncated=options.allow_truncated,
            exact=options.exact,
        )
        budget, self._ahead = split_budget(config.execution, options.memory, fit.size)
        decode: Decode = partial(function, fit=fit)
        if self._timed:
            decode = self._timed_decode(decode)
        self._decode = watcher.watched(contained(limit_memory(decode, budget, fit, watcher.held)))
        self._watcher = watcher
        self.provider = self._model.provider
        for text in (*self._model.notes, decoder_advice(), resizing_advice(fit)):
            if text is not None:
                note(text)

    def run(self, items: Iterable[ImageItem], stop: CancelToken) -> Iterator[Result | Failure]:
        """The outcome of every item that was reached; after a wish to stop, the batch in hand is the last."""
        if isinstance(self._model, WaitingModel):
            self._model.stop = stop
        decoded = decode_ahead(items, self._decode, self._execution.decode_threads, self._ahead)
        return self._timed_outcomes(decoded, stop) if self._timed else self._outcomes(decoded, stop)

    def _outcomes(self, decoded: Iterable[Decoded | Failure], stop: CancelToken) -> Iterator[Result | Failure]:
        for outcome in predict(decoded, _Shown(self._model, self._watcher), self._execution.batch_size, stop):
            if isinstance(outcome, Failure):
                yield outcome
            else:
                data = self._encode(outcome.prediction)
                yield Result(outcome.item, outcome.digest, data, outcome.warnings, outcome.size)

    def _timed_decode(self, decode: Decode) -> Decode:
        """The same decoding, measured; what an image waits for memory is not counted."""

        def measured(item: ImageItem) -> Decoded | Failure:
            taken = StageTime()
            try:
                with taken.measured():
                    outcome = decode(item)
                taken.images = int(isinstance(outcome, Decoded))
                return outcome
            finally:
                with self._timings_lock:
                    self.timings["decode"].add(taken)

        return measured

    def _timed_outcomes(self, decoded: Iterator[Decoded | Failure], stop: CancelToken) -> Iterator[Result | Failure]:
        """The same outcomes, with the model measured: by the clock, without its wait for decoded images.

        A model has threads of its own. It used the CPU time of this process, except what decoding used and what this
        thread used between two outcomes, when it is the caller's.
        """
        decoding, predicting, waiting = StageTime(), StageTime(), StageTime()
        self.timings = {"decode": decoding, "predict": predicting}
        process, thread = time.process_time(), time.thread_time()
        for outcome in _timed(self._outcomes(_timed(decoded, waiting), stop), predicting):
            predicting.images += isinstance(outcome, Result)
            yield outcome
        callers = time.thread_time() - thread - predicting.cpu_seconds
        predicting.cpu_seconds = max(0.0, time.process_time() - process - callers - decoding.cpu_seconds)
        predicting.seconds -= waiting.seconds

    def close(self) -> None:
        """Free the model."""
        self._model.close()


def _timed(values: Iterator[T], stage: StageTime) -> Iterator[T]:
    """The same values, with the time that each took."""
    while True:
        with stage.measured():
            value = next(values, None)
        if value is None:
            return
        yield value


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
