"""A decoder that does harm: a picture called `segfault.png` or `segfault-2.png` is a bad one, all others are decoded.

A worker is told to use it by its name. In the process of the tests it must see no picture that kills.
"""

import ctypes
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np

from sdprep.data import image
from sdprep.engines.memory import DECODING_BYTES
from sdprep.types import ImageItem

DECODER = "tests.engines.faults:decode"


class EnormousFile(type(Path())):
    """A file that does not fit into memory."""

    def read_bytes(self):
        raise MemoryError


class HungryFile(type(Path())):
    """A file whose bytes need more memory than the largest picture takes, but no more than a machine has addresses."""

    def read_bytes(self):
        np.empty((DECODING_BYTES + 2**30,), np.uint8)
        return super().read_bytes()


class Enormous(ImageItem):
    """A picture in a file that does not fit into memory."""

    @property
    def path(self):
        return EnormousFile(super().path)


class Hungry(ImageItem):
    """A picture in a file that needs much memory."""

    @property
    def path(self):
        return HungryFile(super().path)


def fail():
    raise ZeroDivisionError("a defect of the decoder")


FAULTS = {
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "exit": lambda: os._exit(3),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hang": lambda: threading.Event().wait(),
    "defect": fail,
}


def decode(item, fit):
    """Decode a picture, or do what its name says.

    `once.png` kills its process the first time only; `stall.png` hangs, and says so by the file `stall.mark`.
    A picture beside which there is a pipe is not decoded before that has been written.
    """
    name = item.path.stem.partition("-")[0]
    if name in FAULTS:
        FAULTS[name]()
    if name in ("memory", "hungry"):
        kind = Enormous if name == "memory" else Hungry
        return replace(image.decode(kind.at(item.path), fit), item=item)
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
