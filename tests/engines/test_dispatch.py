"""The time of an image that is decoded, by what its worker says."""

import itertools
from collections import deque
from pathlib import Path

import pytest

from sdprep.engines import dispatch
from sdprep.engines.dispatch import Dispatcher, WorkQueue
from sdprep.engines.protocol import Decoding, FromWorker, GroupDone, Resumed, Waiting
from sdprep.report import CancelToken
from sdprep.types import ImageItem

LONG = [None] * 100


class Recorded:
    """A worker that says what it was given to say."""

    def __init__(self, messages: list[FromWorker | None]) -> None:
        self._messages, self.killed = deque(messages), False

    def receive(self) -> FromWorker | None:
        return self._messages.popleft()

    def send(self, _: object) -> None:
        pass

    def kill(self) -> None:
        self.killed = True


@pytest.mark.parametrize(
    ("messages", "overdue"),
    [
        ([Decoding(0), *LONG], 0),
        ([Decoding(0), Waiting(0), *LONG], None),
        ([Decoding(0), Waiting(0), *LONG, Resumed(0)], None),
        ([Decoding(0), Waiting(0), Resumed(0), *LONG], 0),
    ],
    ids=["it is decoded", "it waits", "it has waited", "it has waited and is decoded"],
)
def test_the_time_of_an_image_stands_still_while_it_waits_for_memory(
    monkeypatch: pytest.MonkeyPatch, messages: list[FromWorker | None], overdue: int | None
) -> None:
    clock = itertools.count(step=dispatch.TICK)
    monkeypatch.setattr(dispatch.time, "monotonic", lambda: next(clock))
    path = Path("/d/a.png")
    worker = Recorded([*messages, GroupDone()])
    found = Dispatcher(
        worker, {0: ImageItem(path, "a.png", path)}, WorkQueue(deque()), CancelToken(), 50 * dispatch.TICK, print
    )  # type: ignore[arg-type]

    assert list(found.outcomes()) == [None] * 100

    assert (found.overdue, worker.killed) == (overdue, overdue is not None)
