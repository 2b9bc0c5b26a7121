"""The memory that pictures of a run may take while they are decoded, and while they wait for the model."""

from __future__ import annotations

import mmap
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace

from sdprep.config import Work
from sdprep.data.decoder import OUT_OF_MEMORY
from sdprep.data.opening import decoding_bytes, stored_bytes
from sdprep.pipeline import Decode
from sdprep.types import Decoded, Failure, FailureCode, Fit, ImageItem

# The part of the whole for fitted pictures that wait; the rest is for those being decoded.
FOR_WAITING = 1 / 4

Held = Callable[[ImageItem], AbstractContextManager[None]]


class Budget:
    """So many bytes, given out in the order in which they are asked for; who wants more than all of them gets all.

    A share is given back when its picture is fitted, whatever becomes of it then, and nobody who has one asks for
    another: so everybody's turn comes.
    """

    def __init__(self, total: int) -> None:
        self.total, self.free = total, total
        self._waiting: deque[tuple[int, threading.Event]] = deque()
        self._lock = threading.Lock()

    @contextmanager
    def share(self, wanted: int, held: Callable[[], AbstractContextManager[None]] = nullcontext) -> Iterator[None]:
        """So many bytes, to be had inside; `held` is entered while they have to be waited for."""
        wanted, given = min(wanted, self.total), threading.Event()
        with self._lock:
            self._waiting.append((wanted, given))
            self._give()
        if not given.is_set():
            with held():
                given.wait()
        try:
            yield
        finally:
            with self._lock:
                self.free += wanted
                self._give()

    def _give(self) -> None:
        while self._waiting and self._waiting[0][0] <= self.free:
            wanted, given = self._waiting.popleft()
            self.free -= wanted
            given.set()


def divided(work: Work, sharers: int, size: int) -> tuple[Budget, int]:
    """What one of the devices that share a run has: bytes for decoding, and how many squares of `size` may wait.

    Enough of them for two batches will do.
    """
    total = work.memory * 1_000_000 // sharers
    waiting = int(total * FOR_WAITING)
    ahead = max(1, min(2 * max(work.workers, work.batch_size), waiting // (3 * size**2)))
    return Budget(total - waiting), ahead


def bounded(decode: Decode, budget: Budget, fit: Fit, held: Held) -> Decode:
    """The same decoding, begun only when there is memory for the picture, by what its header says.

    One for which the memory does not suffice, since others take some too, is tried once more while no other is decoded.
    """

    def within(item: ImageItem) -> Decoded | Failure:
        wanted = 0
        with suppress(MemoryError):
            # Some headers are as large as their files. The share is given back before another is asked for.
            with budget.share(stored_bytes(item, fit), lambda: held(item)):
                wanted = decoding_bytes(item, fit)
            with budget.share(wanted, lambda: held(item)):
                outcome = _told_from_memory(decode(item), wanted)
            if not isinstance(outcome, Failure) or outcome.code is not FailureCode.OUT_OF_MEMORY:
                return outcome
        with budget.share(budget.total, lambda: held(item)):
            return _told_from_memory(decode(item), wanted)

    return within


def _told_from_memory(outcome: Decoded | Failure, wanted: int) -> Decoded | Failure:
    """Return an outcome, as `out_of_memory` where there is too little of it: some decoders call that damage."""
    if isinstance(outcome, Failure) and outcome.code in (FailureCode.CORRUPT, FailureCode.TRUNCATED) and wanted:
        try:
            mmap.mmap(-1, wanted).close()
        except (OSError, MemoryError):
            return replace(outcome, code=FailureCode.OUT_OF_MEMORY, message=OUT_OF_MEMORY)
    return outcome
