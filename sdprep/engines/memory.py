"""Memory limits: how the process limits itself, and how many bytes the images in flight may take together."""

from __future__ import annotations

import ctypes
import mmap
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

from sdprep.engines.stages import Decode
from sdprep.images.decoder import OUT_OF_MEMORY
from sdprep.images.opening import estimate_memory, stored_bytes
from sdprep.models.execution import Execution
from sdprep.types import MAX_PIXELS, Decoded, Failure, FailureCode, Fit, ImageItem

# Three times what the worst image that is let in takes: 100 megapixels with transparency as WebP, 2.6 GiB.
DECODING_BYTES = 8 * 2**30
PROCESS = Path("/proc/self")
# CUDA reserves addresses by the terabyte, which a bound on addresses would forbid.
CUDA = "libcuda.so"

# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
# What an image of 8 megapixels takes; larger blocks come from the system and go back to it.
LARGE_BLOCK = 32 * 2**20
# What the heap may keep for the next image.
KEPT = 64 * 2**20


def keep_one_heap() -> None:
    """Have the threads of this process, before there are any, take memory from one heap; glibc alone needs that.

    It would give each a heap of its own, and keep what one has freed from the others: eight threads that decode then
    hold on to twice what `--memory` allows. And it would give back the memory of one image before the next asks for
    it, which costs a tenth of the time: the system clears every page that it hands out.
    """
    # Other C libraries have no such function.
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(M_ARENA_MAX, 1)
        mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)
        mallopt(M_TRIM_THRESHOLD, KEPT)


def limited(decode: Decode, max_pixels: int = MAX_PIXELS) -> Decode:
    """The same decoding with a bound on the addresses of this process, above those in use when it begins.

    A decoder that wants more gets a MemoryError. A raised `max_pixels` raises the bound in proportion. The bound holds
    for the whole process, so nothing else may be at work there: a model that predicts meanwhile takes more the larger
    its batch is (a BLIP base with three beams 0.2 GiB for one image, 4.5 GiB for 32), and would be refused. It has
    no effect outside Linux, nor where CUDA is in use.
    """
    if sys.platform != "linux" or CUDA in (PROCESS / "maps").read_text(encoding="utf-8", errors="replace"):
        return decode
    import resource

    page = resource.getpagesize()
    # No more than the system can count, with what is in use.
    allowed = min(DECODING_BYTES * max(MAX_PIXELS, max_pixels) // MAX_PIXELS, sys.maxsize // 2)

    def within(item: ImageItem) -> Decoded | Failure:
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        used = int((PROCESS / "statm").read_text(encoding="ascii").split()[0]) * page
        bounds = [bound for bound in (used + allowed, soft, hard) if bound != resource.RLIM_INFINITY]
        resource.setrlimit(resource.RLIMIT_AS, (min(bounds), hard))
        try:
            return decode(item)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

    return within


# The part of the whole for fitted images that wait; the rest is for those being decoded.
FOR_WAITING = 1 / 4

Held = Callable[[ImageItem], AbstractContextManager[None]]


class ByteSemaphore:
    """So many bytes, given out in the order in which they are asked for; who wants more than all of them gets all.

    A share is given back when its image is fitted, whatever becomes of it then, and nobody who has one asks for
    another: so everybody's turn comes.
    """

    def __init__(self, total: int) -> None:
        self.total, self.free = total, total
        self._waiting: deque[tuple[int, threading.Event]] = deque()
        self._lock = threading.Lock()

    @contextmanager
    def share(self, wanted: int, held: Callable[[], AbstractContextManager[None]] = nullcontext) -> Iterator[None]:
        """Hold this many bytes inside the block; `held` is entered while waiting for them."""
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


def split_budget(execution: Execution, memory: int, size: int) -> tuple[ByteSemaphore, int]:
    """What one of the devices that share a run has: bytes for decoding, and how many squares of `size` may wait.

    Enough of them for two batches will do.
    """
    total = memory * 1_000_000 // execution.num_processes
    waiting = int(total * FOR_WAITING)
    wanted = max(execution.decode_threads, execution.batch_size, execution.in_flight)
    ahead = max(1, min(2 * wanted, waiting // (3 * size**2)))
    return ByteSemaphore(total - waiting), ahead


def limit_memory(decode: Decode, budget: ByteSemaphore, fit: Fit, held: Held) -> Decode:
    """The same decoding, begun only when there is memory for the image, by what its header says.

    One for which the memory does not suffice, since others take some too, is tried once more while no other is decoded.
    """

    def within(item: ImageItem) -> Decoded | Failure:
        wanted = 0
        with suppress(MemoryError):
            # Some headers are as large as their files. The share is given back before another is asked for.
            with budget.share(stored_bytes(item, fit), lambda: held(item)):
                wanted = estimate_memory(item, fit)
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
