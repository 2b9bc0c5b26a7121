"""Decoding and prediction in a process of their own, and what happens when a picture kills it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from sdprep.data.decoder import read_file
from sdprep.engines.messages import Order, Ready, Start
from sdprep.engines.process import WorkerProcess
from sdprep.engines.shift import Shift
from sdprep.errors import ImageError, WorkerError
from sdprep.types import Failure, FailureCode, ImageItem, Result, Stop

# More deaths than pictures explain: this many, or one for this many images.
DEATHS = 5
IMAGES_A_DEATH = 1000


class Supervised:
    """A worker that has opened a model, replaced whenever it dies; `note` hears what it says for a person.

    Raises SdprepError if it cannot open the model.
    """

    def __init__(self, order: Order, note: Callable[[str], None]) -> None:
        self._order, self._note = order, note
        self._timeout = order.settings.work.image_timeout
        self._worker: WorkerProcess | None = WorkerProcess(Start.of(order, limit_memory=False))
        self._probe: WorkerProcess | None = None
        try:
            ready = self._worker.wait_until_ready(Stop())
        except BaseException:
            self.close()
            raise
        self.provider, self.notes = (ready.provider, ready.notes) if isinstance(ready, Ready) else ("", ())

    def run(self, items: Sequence[ImageItem], stop: Stop) -> Iterator[Result | Failure]:
        """The outcome of every item that was reached; after a wish to stop, the batch in hand is the last.

        Raises WorkerError if the worker dies too often.
        """
        left = dict(enumerate(items))
        most = max(DEATHS, len(items) // IMAGES_A_DEATH)
        deaths = 0
        while left and (worker := self._worker_at_work(stop)) is not None:
            shift = Shift(worker, left, stop, self._timeout, self._note)
            yield from shift.outcomes()
            if shift.death is None:
                return
            self._worker = self._ended(worker)
            deaths += 1
            if deaths > most and not stop:
                raise WorkerError(_too_often(deaths, shift))
            yield from self._verdicts(shift, stop)

    def close(self) -> None:
        """End every process that was started."""
        self._worker, self._probe = self._ended(self._worker), self._ended(self._probe)

    @staticmethod
    def _ended(worker: WorkerProcess | None) -> None:
        if worker is not None:
            worker.end()

    def _worker_at_work(self, stop: Stop) -> WorkerProcess | None:
        """The worker, or a new one for one that died; None after a wish to stop."""
        if self._worker is None and not stop:
            self._worker = WorkerProcess(Start.of(self._order, limit_memory=False))
            self._worker.wait_until_ready(stop)
        return None if stop else self._worker

    def _verdicts(self, shift: Shift, stop: Stop) -> Iterator[Result | Failure]:
        """The outcomes of those that the worker may have died of; the innocent who were not tried stay in `left`.

        A picture that was alone in being decoded when its time ran out needs no trial. Those that the model was
        looking at are only tried if none is guilty that was being decoded.
        """
        if shift.overdue is not None and shift.decoding == [shift.overdue]:
            yield self._failure(shift.left.pop(shift.overdue), shift)
            return
        for suspects in (shift.decoding, sorted(shift.predicting)):
            guilty = False
            for number in suspects:
                trial = self._trial(number, shift.left[number], stop)
                if trial is None:
                    return
                outcomes = list(trial.outcomes())
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

    def _trial(self, number: int, item: ImageItem, stop: Stop) -> Shift | None:
        """One picture alone with a worker that has no threads; None after a wish to stop."""
        if self._probe is None and not stop:
            work = replace(self._order.settings.work, batch_size=1, workers=0)
            order = replace(self._order, settings=replace(self._order.settings, work=work))
            self._probe = WorkerProcess(Start.of(order, limit_memory=True))
            self._probe.wait_until_ready(stop)
        return (
            None if stop or self._probe is None else Shift(self._probe, {number: item}, stop, self._timeout, self._note)
        )

    def _failure(self, item: ImageItem, shift: Shift) -> Failure:
        """The verdict on a picture on which a worker died."""
        digest = _digest_within(item.path, self._timeout)
        if shift.overdue is not None:
            message = f"it is not decoded within {self._timeout:g} s; --image-timeout sets this limit"
            return Failure(item, FailureCode.TIMED_OUT, message, digest)
        what = "showing it to the model" if shift.predicting else "decoding it"
        reason = shift.death.reason if shift.death else ""
        return Failure(item, FailureCode.CRASHED, f"{what} ended the process twice ({reason})", digest)


def _too_often(deaths: int, shift: Shift) -> str:
    reason = shift.death.reason if shift.death and shift.overdue is None else "a picture that is not decoded in time"
    names = [shift.left[number].rel for number in [*shift.decoding, *sorted(shift.predicting)]]
    at = f" It was last at work on {', '.join(names[:3])}." if names else ""
    return (
        f"the process that decodes and predicts died {deaths} times, the last time by {reason}.{at} "
        "What was written is kept; run the command again to go on, with a smaller --batch-size if memory is short"
    )


def _digest_within(path: Path, seconds: float) -> bytes | None:
    """The SHA-256 of a file; None if it cannot be read in this time, as on a disk that hangs."""
    found: list[bytes] = []

    def read() -> None:
        with suppress(ImageError):
            found.append(hashlib.sha256(read_file(path)).digest())

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(seconds)
    return found[0] if found else None
