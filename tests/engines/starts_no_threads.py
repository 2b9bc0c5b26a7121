"""A decoder in whose process no thread starts once the model is loaded."""

import threading

from sdprep.images.decode import decode

__all__ = ["decode"]

_start = threading.Thread.start


def start(thread):
    """Refuse a thread that decodes, as the system does beyond its limit."""
    if thread.name.startswith("decode"):
        raise RuntimeError("can't start new thread")
    _start(thread)


threading.Thread.start = start
