"""A decoder that does harm: an image called `segfault.png` or `segfault-2.png` is a bad one, all others are decoded.

A worker is told to use it by its name. In the process of the tests it must see no image that kills.
"""

import ctypes
import os
import signal
import threading

import numpy as np

from sdprep.engines.memory import DECODING_BYTES
from sdprep.images import decode as image

DECODER = "tests.engines.faults:decode"


def fail(error):
    raise error


def hang():
    """Never end. A signal that comes as a wait begins does not end it, and is seen before the next one."""
    while True:
        threading.Event().wait(1.0)


FAULTS = {
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "exit": lambda: os._exit(3),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hang": hang,
    "raises": lambda: fail(ZeroDivisionError("division by zero")),
    "recursion": lambda: fail(RecursionError("too deep")),
    "panic": lambda: fail(type("PanicException", (BaseException,), {})("a bug in a library written in Rust")),
    "memory": lambda: fail(MemoryError),
    # More than the largest image takes, but no more than a machine has addresses.
    "hungry": lambda: np.empty((DECODING_BYTES + 2**30,), np.uint8),
}


def decode(item, fit):
    """Decode an image, or do what its name says.

    `once.png` kills its process the first time only; `stall.png` hangs, and says so by the file `stall.mark`.
    An image beside which there is a pipe is not decoded before that has been written.
    """
    name = item.path.stem.partition("-")[0]
    if name in FAULTS:
        FAULTS[name]()
    if name == "defect":
        return None
    mark = item.path.with_suffix(".mark")
    if name == "stall":
        mark.touch()
        FAULTS["hang"]()
    if name == "once" and not mark.exists():
        mark.touch()
        os._exit(9)
    gate = item.path.with_suffix(".gate")
    if gate.exists():
        gate.read_bytes()
    return image.decode(item, fit)
