"""Reading many small files: in one thread while they are in memory, in several where a disk is waited for."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain, islice
from typing import TypeVar

from sdprep.errors import starting_threads
from sdprep.report import CancelToken

S = TypeVar("S")
T = TypeVar("T")
# A thread takes a group: handing over one image takes as long as reading it.
THREADS, GROUP = 8, 64
# Where less of the time than this is spent computing, threads wait for files together. Where more is, they wait for
# each other: Python runs one at a time, and reading takes half as long again.
BUSY = 0.5


def read_groups(read: Callable[[S], Sequence[T]], groups: Iterable[S], stop: CancelToken) -> Iterator[Iterator[T]]:
    """What is read of these groups, some groups at a time and in their order, or fewer after a stop."""
    queue, waits = iter(groups), False
    with ThreadPoolExecutor(THREADS) as pool:
        while not stop and (some := list(islice(queue, 2 * THREADS))):
            if waits:
                with starting_threads():
                    found = list(pool.map(read, some))
            else:
                began, computed = time.monotonic(), time.thread_time()
                found = list(map(read, some))
                waits = time.thread_time() - computed < BUSY * (time.monotonic() - began)
            yield chain.from_iterable(found)


@contextmanager
def without_collector() -> Iterator[None]:
    """Inside, Python does not look for reference cycles: what is held of a million images has none, only the cost."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
