"""The worker process of one device, and what happens when an image kills it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import chain

from sdprep.engines.base import EngineConfig
from sdprep.engines.dispatch import Dispatcher, WorkQueue
from sdprep.engines.protocol import Start
from sdprep.engines.worker_process import WorkerProcess
from sdprep.errors import ImageError, WorkerError, starting_threads
from sdprep.images.decoder import file_digest
from sdprep.report import CancelToken
from sdprep.types import Failure, FailureCode, ImageItem, Result


class DeviceSupervisor:
    """The worker of one device, replaced whenever it dies.

    `wakeup` is set whenever the worker has sent a message; `note` gets what the user should know. `provider` is what
    runs the model once it is open. The generators yield None while they wait for the worker, so that others can go on.
    """

    provider: str = ""

    def __init__(self, config: EngineConfig, wakeup: threading.Event, note: Callable[[str], None]) -> None:
        self.device = config.execution.device
        self._config, self._wakeup, self._note = config, wakeup, note
        self._timeout = config.decode.image_timeout
        self._worker: WorkerProcess | None = None
        self._probe: WorkerProcess | None = None

    def open(self, cancel: CancelToken) -> Iterator[None]:
        """Start a worker and wait until its model is loaded, or `cancel` is set.

        Raises SdprepError if it cannot open the model.
        """
        self._worker = WorkerProcess(Start(self._config, limit_memory=False), self._wakeup)
        self.provider = yield from self._worker.until_ready(cancel, self._note)

    def run(self, queue: WorkQueue, cancel: CancelToken) -> Iterator[Result | Failure | None]:
        """The outcomes of the images it takes from the queue; once cancelled, the current batch is the last.

        Raises WorkerError if workers die too often.
        """
        left: dict[int, ImageItem] = {}
        while left or queue.images:
            if self._worker is None and not cancel:
                yield from self.open(cancel)
            if self._worker is None or cancel:
                return
            dispatcher = Dispatcher(self._worker, left, queue, cancel, self._timeout, self._note)
            yield from dispatcher.outcomes()
            if dispatcher.death is None:
                return
            self._worker = self._ended(self._worker)
            queue.deaths += 1
            if queue.deaths > queue.max_deaths and not cancel:
                raise WorkerError(_too_many_deaths(queue.deaths, dispatcher))
            yield from self._find_culprits(dispatcher, queue, cancel)

    def kill(self) -> None:
        """Kill every process that was started, without waiting for its end."""
        for worker in (self._worker, self._probe):
            if worker is not None:
                worker.kill()

    def close(self) -> None:
        """Kill every process that was started, and wait until it is gone."""
        self._worker, self._probe = self._ended(self._worker), self._ended(self._probe)

    @staticmethod
    def _ended(worker: WorkerProcess | None) -> None:
        if worker is not None:
            worker.end()

    def _find_culprits(
        self, dispatcher: Dispatcher, queue: WorkQueue, cancel: CancelToken
    ) -> Iterator[Result | Failure | None]:
        """Try the images that may have killed the worker one by one; images that are not tried stay in `left`.

        An image whose time ran out is tried too, since the process may have been stopped, or a disk asleep. Images in
        the model's batch are only tried if none of those being decoded kills the probe, and those of a batch that it
        was preparing if none of that batch does.
        """
        for suspects in (dispatcher.decoding, *map(sorted, dispatcher.predicting)):
            found = False
            for number in suspects:
                if self._probe is None:
                    yield from self._open_probe(cancel)
                if self._probe is None or cancel:
                    return
                suspect = {number: dispatcher.left[number]}
                nothing_else = WorkQueue(deque(), timings=queue.timings)
                trial = Dispatcher(self._probe, suspect, nothing_else, cancel, self._timeout, self._note)
                outcomes: list[Result | Failure] = []
                for outcome in trial.outcomes():
                    if outcome is None:
                        yield None
                    else:
                        outcomes.append(outcome)
                if trial.death is not None:
                    self._probe = self._ended(self._probe)
                    if trial.decoding or trial.predicting:
                        outcomes, found = [self._failure(dispatcher.left[number], trial)], True
                if outcomes:
                    del dispatcher.left[number]
                yield from outcomes
            if found:
                break
        self._probe = self._ended(self._probe)

    def _open_probe(self, cancel: CancelToken) -> Iterator[None]:
        """Start a worker without decode threads, for one image at a time."""
        if cancel:
            return
        execution = replace(self._config.execution, batch_size=1, decode_threads=0)
        self._probe = WorkerProcess(Start(replace(self._config, execution=execution), limit_memory=True), self._wakeup)
        yield from self._probe.until_ready(cancel, self._note)

    def _failure(self, item: ImageItem, dispatcher: Dispatcher) -> Failure:
        """The failure of an image on which a probe died."""
        digest = _digest_within(item, self._config.decode.max_pixels, self._timeout)
        if dispatcher.overdue is not None:
            message = f"it is not decoded within {self._timeout:g} s; --image-timeout sets this limit"
            return Failure(item, FailureCode.TIMED_OUT, message, digest)
        what = "showing it to the model" if dispatcher.predicting else "decoding it"
        reason = dispatcher.death.reason if dispatcher.death else ""
        return Failure(item, FailureCode.CRASHED, f"{what} ended the process twice ({reason})", digest)


def _too_many_deaths(deaths: int, dispatcher: Dispatcher) -> str:
    reason = (
        dispatcher.death.reason
        if dispatcher.death and dispatcher.overdue is None
        else "an image that is not decoded in time"
    )
    suspects = chain(dispatcher.decoding, *map(sorted, dispatcher.predicting))
    names = [dispatcher.left[number].rel for number in suspects]
    at = f" It was last at work on {', '.join(names[:3])}." if names else ""
    return (
        f"the process that decodes and predicts died {deaths} times, the last time by {reason}.{at} "
        "What was written is kept; run the command again to go on, with a smaller --batch-size if memory is short"
    )


def _digest_within(item: ImageItem, max_pixels: int, seconds: float) -> bytes | None:
    """The SHA-256 of a file; None if it cannot be read in this time, for example on a disk that hangs."""
    found: list[bytes] = []

    def read() -> None:
        with suppress(ImageError):
            found.append(file_digest(item, max_pixels))

    reader = threading.Thread(target=read, daemon=True)
    with starting_threads():
        reader.start()
    reader.join(seconds)
    return found[0] if found else None
