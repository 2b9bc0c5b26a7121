"""One worker and the images that it is given, until all have an outcome or the worker is dead."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
    Waiting,
    WorkerNote,
)
from sdprep.engines.worker_process import TICK, WorkerExit, WorkerProcess
from sdprep.report import CancelToken
from sdprep.types import Failure, ImageItem, Result

# Images that a worker has been sent and has not begun: enough to have work while this process writes, and few
# enough to fit into a pipe that nobody reads.
WAITING = 16


@dataclass(slots=True)
class WorkQueue:
    """What the workers of a run share: images that none was given yet, by numbers, and how many of them may die."""

    images: deque[tuple[int, ImageItem]]
    most_deaths: int = 0
    deaths: int = 0


class Dispatcher:
    """A worker's time at work, until there are no more images for it, or it is dead.

    It begins with the images in `left`, which belongs to the caller. Those that it takes from the supply join them,
    and those that get an outcome leave.
    `death` is how the worker died, if it did; `decoding` and `predicting` are then the images to suspect, and
    `overdue` is the one for whose sake it was killed.
    """

    def __init__(
        self,
        worker: WorkerProcess,
        left: dict[int, ImageItem],
        supply: WorkQueue,
        stop: CancelToken,
        image_timeout: float,
        say: Callable[[str], None],
    ) -> None:
        self.left, self._say = left, say
        self.death: WorkerExit | None = None
        self.overdue: int | None = None
        self.predicting: set[int] = set()
        self._worker, self._stop, self._image_timeout = worker, stop, image_timeout
        self._again, self._supply = deque(left), supply
        self._waiting, self._all_sent = 0, False
        # When each began, by a clock that stands still while this process does (Ctrl-Z, a suspended machine).
        self._began: dict[int, float] = {}
        self._clock, self._looked = 0.0, time.monotonic()

    @property
    def decoding(self) -> list[int]:
        """The images that are being decoded, the one that was begun first coming first."""
        return list(self._began)

    def outcomes(self) -> Iterator[Result | Failure | None]:
        """The outcomes, as they come, and None whenever there is nothing to hear.

        After a wish to stop, the batch in hand is the last, if its time suffices.
        """
        asked = False
        while True:
            if self._stop and not asked:
                self._worker.send(StopNow())
                asked = True
            self._send()
            message = self._worker.receive()
            if time.monotonic() > self._stop.deadline:
                self._worker.kill()
                return
            self._let_time_pass()
            if isinstance(message, GroupDone):
                return
            if isinstance(message, WorkerExit):
                self.death = message
                return
            if isinstance(message, Answer | Failed):
                yield self._outcome(message)
            elif message is None:
                self._look_at_the_time()
                yield None
            else:
                self._note(message)

    def _send(self) -> None:
        """Give a worker that has room one more image: one, so that the workers of a run take turns."""
        if self._all_sent or self._stop or self._waiting >= WAITING:
            return
        if not self._again and not self._supply.images:
            self._worker.send(Flush())
            self._all_sent = True
            return
        if self._again:
            number = self._again.popleft()
        else:
            number, self.left[number] = self._supply.images.popleft()
        self._waiting += 1
        self._worker.send(Image(number, self.left[number].folder, Path(self.left[number].rel)))

    def _note(self, message: FromWorker) -> None:
        if isinstance(message, Decoding):
            self._began[message.number] = self._clock
            self._waiting -= 1
        elif isinstance(message, Resumed):
            self._began[message.number] = self._clock
        elif isinstance(message, DecodingDone | Waiting):
            del self._began[message.number]
        elif isinstance(message, WorkerNote):
            self._say(message.text)
        elif isinstance(message, Predicting):
            self.predicting.update(message.numbers)

    def _outcome(self, message: Answer | Failed) -> Result | Failure:
        self.predicting.discard(message.number)
        item = self.left.pop(message.number)
        if isinstance(message, Answer):
            return Result(item, message.digest, message.data, message.remarks)
        return Failure(item, message.code, message.message, message.digest)

    def _let_time_pass(self) -> None:
        now = time.monotonic()
        self._clock += min(now - self._looked, 2 * TICK)
        self._looked = now

    def _look_at_the_time(self) -> None:
        """Kill the worker if an image takes too long: a thread that decodes cannot be interrupted otherwise."""
        for number, began in self._began.items():
            if self._clock - began > self._image_timeout and self.overdue is None:
                self.overdue = number
                self._worker.kill()
