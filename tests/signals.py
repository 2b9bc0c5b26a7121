"""What the tests of signals share: hearing a message of a process, and stopping a run at its first outcome."""

from sdprep.report import NullListener


def said(stream, beginning):
    """Whether a line of a process begins so; the notes of the run before it are not waited for in any order."""
    return any(line.startswith(beginning) for line in stream)


class Impatient(NullListener):
    """A listener that asks for an end when the first image that the model has seen has its outcome."""

    def __init__(self, stop):
        self._stop, self._stage = stop, ""

    def stage(self, name, *_):
        self._stage = name

    def advance(self, *_):
        if self._stage == "tagging":
            self._stop.exit_code = 130
