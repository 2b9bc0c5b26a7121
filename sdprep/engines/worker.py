"""The worker: a process that opens one model, decodes and predicts what it is told to, and says what it is about to do.

Started as `python -c "...; from sdprep.engines.worker import main; main()"`, so that no program of the user's is
imported anew. It ends when its pipe does, whatever has become of the process at the other end.
"""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import IO

from sdprep.engines.memory import keep_one_heap, limited
from sdprep.engines.protocol import (
    Answer,
    Decoding,
    DecodingDone,
    Failed,
    FromWorker,
    GroupDone,
    Image,
    KnownError,
    Predicting,
    Ready,
    Resumed,
    Start,
    StopNow,
    Timings,
    ToWorker,
    UnexpectedError,
    Waiting,
    WorkerNote,
    read,
    write,
)
from sdprep.engines.runner import StageRunner
from sdprep.engines.stages import Decode
from sdprep.engines.worker_process import OUT_OF_MEMORY_CODE
from sdprep.errors import SdprepError, starting_threads
from sdprep.report import CancelToken
from sdprep.sanitize import redact
from sdprep.types import MAX_PIXELS, Batch, Decoded, Failure, ImageItem, Result

LONGEST_TRACEBACK = 20_000


def main() -> None:
    """Serve until the pipe ends. Signals that all processes of a run get are the parent's to hear."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    keep_one_heap()
    incoming, outgoing = _private_pipes()
    worker = Worker(incoming, outgoing)
    try:
        worker.serve()
    except SdprepError as error:
        worker.send(KnownError(type(error).__name__, str(error)))
    except MemoryError:
        # The parent then tries what was in hand one by one.
        os._exit(OUT_OF_MEMORY_CODE)
    except Exception:  # noqa: BLE001 - it reaches a person through the parent
        worker.send(UnexpectedError(redact(traceback.format_exc())[-LONGEST_TRACEBACK:]))


def _private_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """The pipes of the messages, out of the reach of anything that prints or asks."""
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return incoming, outgoing


class Worker:
    """One model at work for the process at the other end of two pipes."""

    def __init__(self, incoming: IO[bytes], outgoing: IO[bytes]) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._write_lock = threading.Lock()
        self._inbox: SimpleQueue[ToWorker] = SimpleQueue()
        self._numbers: dict[ImageItem, int] = {}
        self._stop = CancelToken()
        self._limit_memory = self._in_group = False
        self._max_pixels = MAX_PIXELS

    def send(self, message: FromWorker) -> None:
        """Send a message; it has left this process when this returns."""
        try:
            with self._write_lock:
                write(self._outgoing, message)
        except OSError:
            os._exit(1)

    def serve(self) -> None:
        """Load the model, then process one group of images after the other.

        Until told to stop, or until the model wants no more images of a group.
        """
        start = read(self._incoming, Start)
        if start is None:
            return
        self._limit_memory = start.limit_memory
        with starting_threads():
            threading.Thread(target=self._listen, daemon=True).start()
        self._max_pixels = start.config.decode.max_pixels
        runner = StageRunner(start.config, lambda text: self.send(WorkerNote(text)), self)
        self.send(Ready(runner.provider))
        while not self._stop and not self._in_group:
            for outcome in runner.run(self._group(), self._stop):
                self._send_outcome(outcome)
            if runner.timings:
                self.send(Timings(runner.timings))
            self.send(GroupDone())

    def _listen(self) -> None:
        while (message := read(self._incoming, ToWorker)) is not None:  # type: ignore[arg-type]
            if isinstance(message, StopNow):
                self._stop.exit_code = 0
            self._inbox.put(message)
        # Nobody waits for what is in hand, and a thread that decodes could not be ended in another way.
        os._exit(0)

    def _group(self) -> Iterator[ImageItem]:
        self._in_group = True
        while isinstance(message := self._inbox.get(), Image) and not self._stop:
            rel = message.within.as_posix()
            item = ImageItem(message.folder, rel, message.folder, is_link=message.is_link, prompt=message.prompt)
            self._numbers[item] = message.number
            yield item
        self._in_group = False

    def _send_outcome(self, outcome: Result | Failure) -> None:
        number = self._numbers.pop(outcome.item)
        if isinstance(outcome, Result):
            self.send(Answer(number, outcome.digest, outcome.data, outcome.warnings, outcome.size))
        else:
            self.send(Failed(number, outcome.code, outcome.message, outcome.digest))

    # What the stages are about to do

    def watched(self, decode: Decode) -> Decode:
        """The same decoding, announced before it begins."""
        decode = limited(decode, self._max_pixels) if self._limit_memory else decode

        def announced(item: ImageItem) -> Decoded | Failure:
            self.send(Decoding(self._numbers[item]))
            outcome = decode(item)
            self.send(DecodingDone(self._numbers[item]))
            return outcome

        return announced

    @contextmanager
    def held(self, item: ImageItem) -> Iterator[None]:
        """Announce that an image waits for memory, and when it resumes."""
        self.send(Waiting(self._numbers[item]))
        yield
        self.send(Resumed(self._numbers[item]))

    def shown(self, batch: Batch) -> Batch:
        """Announce a batch before the model sees it."""
        self.send(Predicting(tuple(self._numbers[key] for key in batch.keys if isinstance(key, ImageItem))))
        return batch
