"""A decoder that does harm: a picture called `segfault.png` or `segfault-2.png` is a bad one, all others are decoded.

A worker is told to use it by its name. In the process of the tests it must see no picture that kills.
"""

import ctypes
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

from sdprep.data import image
from sdprep.types import ImageItem

DECODER = "tests.engines.faults:decode"


class EnormousFile(type(Path())):
    """A file that does not fit into memory."""

    def read_bytes(self):
        raise MemoryError


class Enormous(ImageItem):
    """A picture in such a file."""

    @property
    def path(self):
        return EnormousFile(super().path)


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
    if name == "memory":
        return replace(image.decode(Enormous.at(item.path), fit), item=item)
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
