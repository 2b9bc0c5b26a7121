"""What the tests of signals share: hearing a message of a process, waiting for it, and stopping at a first outcome."""

import time

import pytest

from sdprep.report import NullListener


def said(stream, beginning):
    """Whether a line of a process begins so; the notes of the run before it are not waited for in any order."""
    return any(line.startswith(beginning) for line in stream)


def wait_for(condition, process, patience=120.0):
    """Wait until something is true of what a process does, and leave it the processor."""
    deadline = time.monotonic() + patience
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"it never came to that: {process.communicate()}")
        time.sleep(0.01)


class Impatient(NullListener):
    """A listener that asks for an end when the first image that the model has seen has its outcome."""

    def __init__(self, stop):
        self._stop, self._stage = stop, ""

    def stage(self, name, *_):
        self._stage = name

    def advance(self, *_):
        if self._stage == "tagging":
            self._stop.exit_code = 130
