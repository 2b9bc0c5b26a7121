"""Decoding and prediction on one device in a process of their own, and what happens when an image kills it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

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

    `bell` is set whenever it has said something, `say` hears what is meant for a person. `provider` is what runs the
    model, once it is open. What works here gives None whenever it waits for the worker, so that others can go on.
    """

    provider: str = ""

    def __init__(self, config: EngineConfig, wakeup: threading.Event, say: Callable[[str], None]) -> None:
        self.device = config.execution.device
        self._config, self._bell, self._say = config, wakeup, say
        self._timeout = config.decode.image_timeout
        self._worker: WorkerProcess | None = None
        self._probe: WorkerProcess | None = None

    def open(self, stop: CancelToken) -> Iterator[None]:
        """Start a worker and wait until its model is loaded, or a wish to stop comes.

        Raises SdprepError if it cannot open the model.
        """
        self._worker = WorkerProcess(Start(self._config, limit_memory=False), self._bell)
        self.provider = yield from self._worker.until_ready(stop, self._say)

    def run(self, supply: WorkQueue, stop: CancelToken) -> Iterator[Result | Failure | None]:
        """The outcomes of what it takes from the supply; after a wish to stop, the batch in hand is the last.

        Raises WorkerError if workers die too often.
        """
        left: dict[int, ImageItem] = {}
        while left or supply.images:
            if self._worker is None and not stop:
                yield from self.open(stop)
            if self._worker is None or stop:
                return
            shift = Dispatcher(self._worker, left, supply, stop, self._timeout, self._say)
            yield from shift.outcomes()
            if shift.death is None:
                return
            self._worker = self._ended(self._worker)
            supply.deaths += 1
            if supply.deaths > supply.most_deaths and not stop:
                raise WorkerError(_too_often(supply.deaths, shift))
            yield from self._find_culprits(shift, stop)

    def kill(self) -> None:
        """Let every process that was started be dead soon."""
        for worker in (self._worker, self._probe):
            if worker is not None:
                worker.kill()

    def close(self) -> None:
        """End every process that was started."""
        self._worker, self._probe = self._ended(self._worker), self._ended(self._probe)

    @staticmethod
    def _ended(worker: WorkerProcess | None) -> None:
        if worker is not None:
            worker.end()

    def _find_culprits(self, shift: Dispatcher, stop: CancelToken) -> Iterator[Result | Failure | None]:
        """The outcomes of those that the worker may have died of; the innocent who were not tried stay in `left`.

        One whose time ran out is tried too, since the process may have been stopped, or a disk asleep. Those that the
        model was looking at are only tried if none is guilty that was being decoded.
        """
        for suspects in (shift.decoding, sorted(shift.predicting)):
            guilty = False
            for number in suspects:
                if self._probe is None:
                    yield from self._open_probe(stop)
                if self._probe is None or stop:
                    return
                trial = Dispatcher(
                    self._probe, {number: shift.left[number]}, WorkQueue(deque()), stop, self._timeout, self._say
                )
                outcomes: list[Result | Failure] = []
                for outcome in trial.outcomes():
                    if outcome is None:
                        yield None
                    else:
                        outcomes.append(outcome)
                if trial.death is not None:
                    self._probe = self._ended(self._probe)
                    if trial.decoding or trial.predicting:
                        outcomes, guilty = [self._failure(shift.left[number], trial)], True
                if outcomes:
                    del shift.left[number]
                yield from outcomes
            if guilty:
                break
        self._probe = self._ended(self._probe)

    def _open_probe(self, stop: CancelToken) -> Iterator[None]:
        """Start a worker that has no threads, for one image at a time."""
        if stop:
            return
        execution = replace(self._config.execution, batch_size=1, decode_threads=0)
        self._probe = WorkerProcess(Start(replace(self._config, execution=execution), limit_memory=True), self._bell)
        yield from self._probe.until_ready(stop, self._say)

    def _failure(self, item: ImageItem, shift: Dispatcher) -> Failure:
        """The verdict on an image on which a worker died."""
        digest = _digest_within(item, self._config.decode.max_pixels, self._timeout)
        if shift.overdue is not None:
            message = f"it is not decoded within {self._timeout:g} s; --image-timeout sets this limit"
            return Failure(item, FailureCode.TIMED_OUT, message, digest)
        what = "showing it to the model" if shift.predicting else "decoding it"
        reason = shift.death.reason if shift.death else ""
        return Failure(item, FailureCode.CRASHED, f"{what} ended the process twice ({reason})", digest)


def _too_often(deaths: int, shift: Dispatcher) -> str:
    reason = shift.death.reason if shift.death and shift.overdue is None else "an image that is not decoded in time"
    names = [shift.left[number].rel for number in [*shift.decoding, *sorted(shift.predicting)]]
    at = f" It was last at work on {', '.join(names[:3])}." if names else ""
    return (
        f"the process that decodes and predicts died {deaths} times, the last time by {reason}.{at} "
        "What was written is kept; run the command again to go on, with a smaller --batch-size if memory is short"
    )


def _digest_within(item: ImageItem, max_pixels: int, seconds: float) -> bytes | None:
    """The SHA-256 of a file; None if it cannot be read in this time, as on a disk that hangs."""
    found: list[bytes] = []

    def read() -> None:
        with suppress(ImageError):
            found.append(file_digest(item, max_pixels))

    reader = threading.Thread(target=read, daemon=True)
    with starting_threads():
        reader.start()
    reader.join(seconds)
    return found[0] if found else None
