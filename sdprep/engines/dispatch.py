"""Sends images to one worker and collects their outcomes, until all have one or the worker is dead."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sdprep.engines.protocol import (
    Answer,
    Decoding,
    DecodingDone,
    Failed,
    Flush,
    FromWorker,
    GroupDone,
    Image,
    Predicting,
    Resumed,
    StopNow,
    Timings,
    Waiting,
    WorkerNote,
)
from sdprep.engines.worker_process import TICK, WorkerExit, WorkerProcess
from sdprep.report import CancelToken, StageTime, add_stages
from sdprep.types import Failure, ImageItem, Result

# Images sent to a worker that it has not begun: enough that it has work while this process writes, few enough to fit
# into a pipe that nobody reads.
MAX_QUEUED = 16


@dataclass(slots=True)
class WorkQueue:
    """What the workers of a run share: numbered images that none was given yet, and how many workers may die.

    `timings` are those of the workers that did not die.
    """

    images: deque[tuple[int, ImageItem]]
    max_deaths: int = 0
    deaths: int = 0
    timings: dict[str, StageTime] = field(default_factory=dict)


class Dispatcher:
    """Keeps one worker busy until there are no more images for it, or it is dead.

    It starts with the images in `left`, a dict of the caller's; images taken from the queue are added to it, and
    images with an outcome are removed. `death` is how the worker died, if it did; the suspects are then `decoding` and
    the batches in `predicting`, the oldest first, as a model may prepare one while another is in it. `overdue` is the
    image whose time ran out, for which the worker was killed.
    """

    def __init__(
        self,
        worker: WorkerProcess,
        left: dict[int, ImageItem],
        queue: WorkQueue,
        cancel: CancelToken,
        image_timeout: float,
        note: Callable[[str], None],
    ) -> None:
        self.left, self._note = left, note
        self.death: WorkerExit | None = None
        self.overdue: int | None = None
        self.predicting: list[set[int]] = []
        self._worker, self._cancel, self._image_timeout = worker, cancel, image_timeout
        self._retries, self._queue = deque(left), queue
        self._queued, self._all_sent = 0, False
        # When each image began, by a clock that stops while this process is stopped (Ctrl-Z, a suspended machine).
        self._began: dict[int, float] = {}
        self._clock, self._last_tick = 0.0, time.monotonic()

    @property
    def decoding(self) -> list[int]:
        """The numbers of the images being decoded, in the order in which they began."""
        return list(self._began)

    def outcomes(self) -> Iterator[Result | Failure | None]:
        """The outcomes as they come, and None whenever the worker has sent nothing.

        Once cancelled, the current batch is the last; after the deadline it is not waited for either.
        """
        stop_sent = False
        while True:
            if self._cancel and not stop_sent:
                self._worker.send(StopNow())
                stop_sent = True
            self._send_next()
            message = self._worker.receive()
            if time.monotonic() > self._cancel.deadline:
                self._worker.kill()
                return
            self._advance_clock()
            if isinstance(message, GroupDone):
                return
            if isinstance(message, WorkerExit):
                self.death = message
                return
            if isinstance(message, Answer | Failed):
                yield self._outcome(message)
            elif message is None:
                self._kill_if_overdue()
                yield None
            else:
                self._track(message)

    def _send_next(self) -> None:
        """Send one image if the worker has room for it. Only one, so that the workers of a run take turns."""
        if self._all_sent or self._cancel or self._queued >= MAX_QUEUED:
            return
        if not self._retries and not self._queue.images:
            self._worker.send(Flush())
            self._all_sent = True
            return
        if self._retries:
            number = self._retries.popleft()
        else:
            number, self.left[number] = self._queue.images.popleft()
        self._queued += 1
        item = self.left[number]
        self._worker.send(Image(number, item.folder, Path(item.within), item.is_link, item.prompt))

    def _track(self, message: FromWorker) -> None:
        """Remember what the worker is doing, and pass its notes on."""
        if isinstance(message, Decoding):
            self._began[message.number] = self._clock
            self._queued -= 1
        elif isinstance(message, Resumed):
            self._began[message.number] = self._clock
        elif isinstance(message, DecodingDone | Waiting):
            del self._began[message.number]
        elif isinstance(message, WorkerNote):
            self._note(message.text)
        elif isinstance(message, Timings):
            add_stages(self._queue.timings, message.stages)
        elif isinstance(message, Predicting):
            self.predicting.append(set(message.numbers))

    def _outcome(self, message: Answer | Failed) -> Result | Failure:
        self.predicting = [left for batch in self.predicting if (left := batch - {message.number})]
        item = self.left.pop(message.number)
        if isinstance(message, Answer):
            return Result(item, message.digest, message.data, message.warnings, message.size)
        return Failure(item, message.code, message.message, message.digest)

    def _advance_clock(self) -> None:
        now = time.monotonic()
        self._clock += min(now - self._last_tick, 2 * TICK)
        self._last_tick = now

    def _kill_if_overdue(self) -> None:
        """Kill the worker if an image takes too long; a thread that decodes cannot be interrupted in another way."""
        for number, began in self._began.items():
            if self._clock - began > self._image_timeout and self.overdue is None:
                self.overdue = number
                self._worker.kill()
