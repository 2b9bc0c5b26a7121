"""What a dispatcher sends and concludes, by the messages of a worker that only replays them."""

import itertools
from collections import deque
from pathlib import Path

import pytest

from sdprep.engines import dispatch
from sdprep.engines.dispatch import Dispatcher, WorkQueue
from sdprep.engines.protocol import (
    Answer,
    Decoding,
    DecodingDone,
    Failed,
    Flush,
    FromWorker,
    GroupDone,
    Image,
    Predicting,
    Resumed,
    StopNow,
    Timings,
    Waiting,
    WorkerNote,
)
from sdprep.engines.worker_process import WorkerExit
from sdprep.report import CancelToken, StageTime
from sdprep.types import Failure, FailureCode, ImageItem, Result

LONG = [None] * 100


class Recorded:
    """A worker that sends the messages it was given, and remembers those that it gets."""

    def __init__(self, messages: list[FromWorker | WorkerExit | None]) -> None:
        self._messages, self.killed, self.sent = deque(messages), False, list[object]()

    def receive(self) -> FromWorker | WorkerExit | None:
        return self._messages.popleft()

    def send(self, message: object) -> None:
        self.sent.append(message)

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


def item(number: int) -> ImageItem:
    return ImageItem.at(Path(f"/d/{number}.png"))


def dispatcher(worker: Recorded, images: int, cancel: CancelToken | None = None, notes: list[str] | None = None):  # type: ignore[no-untyped-def]
    """A dispatcher whose queue holds so many images."""
    queue = WorkQueue(deque((number, item(number)) for number in range(images)))
    note = [] if notes is None else notes
    return Dispatcher(worker, {}, queue, CancelToken() if cancel is None else cancel, 60, note.append)  # type: ignore[arg-type]


def test_results_failures_and_notes_reach_the_caller_and_only_images_without_an_outcome_are_left() -> None:
    notes: list[str] = []
    messages = [
        Decoding(0), Decoding(1), DecodingDone(0), DecodingDone(1), WorkerNote("a note"), Predicting((0,)),
        Answer(0, b"digest", b"data"), Failed(1, FailureCode.CORRUPT, "why", None), GroupDone(),
    ]  # fmt: skip
    found = dispatcher(Recorded(messages), 3, notes=notes)

    outcomes = [outcome for outcome in found.outcomes() if outcome is not None]

    assert outcomes == [Result(item(0), b"digest", b"data"), Failure(item(1), FailureCode.CORRUPT, "why")]
    assert (notes, list(found.left.values()), found.predicting, found.death) == (["a note"], [item(2)], [], None)


def test_the_times_of_all_workers_of_a_run_are_added_up() -> None:
    queue = WorkQueue(deque())
    for seconds in (1.0, 2.0):
        worker = Recorded([Timings({"decode": StageTime(3, seconds, 0.5)}), GroupDone()])
        list(Dispatcher(worker, {}, queue, CancelToken(), 60, print).outcomes())  # type: ignore[arg-type]

    assert queue.timings == {"decode": StageTime(6, 3.0, 1.0)}


def test_images_are_sent_one_at_a_time_and_then_the_end_of_the_group_once() -> None:
    worker = Recorded([None, None, None, None, GroupDone()])

    assert list(dispatcher(worker, 2).outcomes()) == [None] * 4

    assert worker.sent == [Image(0, Path("/d"), Path("0.png")), Image(1, Path("/d"), Path("1.png")), Flush()]


def test_a_worker_gets_no_more_images_than_its_pipe_holds_until_it_begins_one() -> None:
    worker = Recorded([*[None] * 30, Decoding(0), None, None, GroupDone()])

    list(dispatcher(worker, 40).outcomes())

    assert len(worker.sent) == dispatch.MAX_QUEUED + 1


def test_images_that_are_left_from_a_dead_worker_come_before_new_ones() -> None:
    worker = Recorded([None, None, GroupDone()])
    queue = WorkQueue(deque([(9, item(9))]))

    list(Dispatcher(worker, {4: item(4)}, queue, CancelToken(), 60, print).outcomes())  # type: ignore[arg-type]

    assert [message.number for message in worker.sent if isinstance(message, Image)] == [4, 9]


def test_the_suspects_of_a_death_are_the_images_being_decoded_in_order_and_the_batch_of_the_model() -> None:
    messages = [Decoding(n) for n in (0, 1, 2, 3)]
    worker = Recorded(
        [None] * 4 + [*messages, DecodingDone(0), Predicting((0,)), DecodingDone(2), WorkerExit("SIGSEGV")]
    )
    found = dispatcher(worker, 4)

    list(found.outcomes())

    assert (found.decoding, found.predicting, found.death) == ([1, 3], [{0}], WorkerExit("SIGSEGV"))


def test_the_batch_in_a_model_and_the_one_that_it_prepares_are_told_apart() -> None:
    messages = [Decoding(n) for n in range(4)] + [DecodingDone(n) for n in range(4)]
    answers = [Predicting((0, 1)), Predicting((2, 3)), Answer(1, b"digest", b"data"), WorkerExit("SIGSEGV")]
    found = dispatcher(Recorded([None] * 4 + messages + answers), 4)

    list(found.outcomes())

    assert found.predicting == [{0}, {2, 3}]


def test_once_cancelled_a_worker_is_told_so_once_and_gets_no_more_images() -> None:
    cancel = CancelToken()
    cancel.exit_code = 130
    worker = Recorded([None, None, GroupDone()])

    list(dispatcher(worker, 2, cancel).outcomes())

    assert worker.sent == [StopNow()]


def test_after_the_deadline_of_a_cancelled_run_the_worker_is_killed_and_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cancel = CancelToken()
    cancel.exit_code, cancel.deadline = 130, 5.0
    monkeypatch.setattr(dispatch.time, "monotonic", lambda: 5.1)
    worker = Recorded([None])

    assert list(dispatcher(worker, 2, cancel).outcomes()) == []
    assert worker.killed


def test_a_process_that_was_stopped_for_long_does_not_blame_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.0, 0.0, 1e6, 1e6, 1e6, 1e6, 1e6, 1e6])
    monkeypatch.setattr(dispatch.time, "monotonic", lambda: next(clock))
    worker = Recorded([Decoding(0), None, GroupDone()])

    found = dispatcher(worker, 1)
    list(found.outcomes())

    assert (found.overdue, worker.killed) == (None, False)
