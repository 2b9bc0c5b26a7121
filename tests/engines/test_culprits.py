"""Which image a dead worker died of, by workers that only pretend: no process is started."""

from collections import deque
from pathlib import Path
from threading import Event

import pytest

from sdprep.engines import supervisor
from sdprep.engines.base import EngineConfig
from sdprep.engines.dispatch import WorkQueue
from sdprep.engines.protocol import Answer, Decoding, DecodingDone, Flush, GroupDone, Image, Predicting
from sdprep.engines.worker_process import WorkerExit
from sdprep.errors import WorkerError
from sdprep.models.base import ModelFiles
from sdprep.models.execution import Execution
from sdprep.models.registry.registry import resolve
from sdprep.report import CancelToken
from sdprep.types import Failure, ImageItem

CONFIG = EngineConfig(
    spec=resolve("demo-tag", "tag"), files=ModelFiles(Path("/"), None, ""), execution=Execution(decode_threads=2)
)


class Pretend:
    """A worker that decodes all images of a group at once and shows them to its model together.

    It dies when it decodes an image of `deadly`, or when its model is shown one of `deadly_to_the_model`. After `once`
    deaths nothing is deadly any more.
    """

    deadly, deadly_to_the_model, once = set(), set(), None
    started, deaths = [], 0

    def __init__(self, start, _wakeup):
        self.start, self.ended, self._inbox, self._numbers, self.seen = start, False, deque(), [], []
        Pretend.started.append(self)

    def until_ready(self, _cancel, _note):
        yield
        return "cpu"

    def send(self, message):
        if isinstance(message, Image):
            self._numbers.append(message.number)
            self.seen.append(message.number)
            self._inbox.append(Decoding(message.number))
            self._die_of(self.deadly & {message.number})
        elif isinstance(message, Flush):
            self._inbox.extend(map(DecodingDone, self._numbers))
            self._inbox.append(Predicting(tuple(self._numbers)))
            self._die_of(self.deadly_to_the_model & set(self._numbers))
            self._inbox.extend(Answer(number, b"digest", b"data") for number in self._numbers)
            self._inbox.append(GroupDone())
            self._numbers = []

    def _die_of(self, images):
        if images and Pretend.deaths != self.once:
            Pretend.deaths += 1
            self._inbox.append(WorkerExit("SIGSEGV"))

    def receive(self):
        return self._inbox.popleft() if self._inbox else None

    def kill(self):
        pass

    def end(self):
        self.ended = True


@pytest.fixture(autouse=True)
def pretend(monkeypatch):
    monkeypatch.setattr(supervisor, "WorkerProcess", Pretend)
    for name, value in {
        "deadly": set(),
        "deadly_to_the_model": set(),
        "once": None,
        "started": [],
        "deaths": 0,
    }.items():
        monkeypatch.setattr(Pretend, name, value)


def run(images, max_deaths=5, cancel=None):
    """The outcomes of so many images by name, and the queue; a failure counts by its message."""
    items = [ImageItem.at(Path(f"/nowhere/{number}.png")) for number in range(images)]
    queue, notes, found = WorkQueue(deque(enumerate(items)), max_deaths), [], {}
    device = supervisor.DeviceSupervisor(CONFIG, Event(), notes.append)
    for outcome in device.run(queue, CancelToken() if cancel is None else cancel):
        if outcome is not None:
            assert outcome.item.rel not in found
            found[outcome.item.rel] = outcome.message if isinstance(outcome, Failure) else "done"
    device.close()
    assert all(worker.ended for worker in Pretend.started)
    return found, queue


def test_an_image_that_kills_its_decoder_fails_alone():
    Pretend.deadly = {2}
    found, queue = run(5)
    crashed = "decoding it ended the process twice (SIGSEGV)"
    assert found == {"2.png": crashed, **dict.fromkeys(("0.png", "1.png", "3.png", "4.png"), "done")}
    assert queue.deaths == 1


def test_an_image_that_kills_the_model_fails_alone():
    Pretend.deadly_to_the_model = {1}
    found, _ = run(3)
    crashed = "showing it to the model ended the process twice (SIGSEGV)"
    assert found == {"0.png": "done", "1.png": crashed, "2.png": "done"}


def test_several_deadly_images_all_fail_and_no_other():
    Pretend.deadly = {0, 3}
    found, _ = run(5)
    assert {name for name, outcome in found.items() if outcome != "done"} == {"0.png", "3.png"}
    assert len(found) == 5


def test_suspects_are_tried_in_a_worker_without_threads_and_with_a_limit_of_memory():
    Pretend.deadly = {0}
    run(1)
    [first, probe, *_] = Pretend.started
    assert (first.start.limit_memory, first.start.config) == (False, CONFIG)
    assert probe.start.limit_memory
    assert (probe.start.config.execution.batch_size, probe.start.config.execution.decode_threads) == (1, 0)


def test_a_death_that_no_image_repeats_costs_no_image():
    Pretend.deadly, Pretend.once = {1}, 1
    found, queue = run(3)
    assert found == dict.fromkeys(("0.png", "1.png", "2.png"), "done")
    assert queue.deaths == 1


def test_one_probe_tries_all_suspects_until_it_dies():
    Pretend.deadly_to_the_model, Pretend.once = {2}, 1
    run(3)
    # The worker that died, and the probe: no images are left for a third.
    assert len(Pretend.started) == 2


@pytest.mark.parametrize(("max_deaths", "ends"), [(3, False), (2, True)])
def test_a_run_ends_when_more_workers_die_than_may(max_deaths, ends):
    Pretend.deadly = {0, 1, 2}
    if not ends:
        assert len(run(3, max_deaths)[0]) == 3
        return
    with pytest.raises(WorkerError, match="died 3 times, the last time by SIGSEGV"):
        run(3, max_deaths)


def test_a_run_that_is_cancelled_when_a_worker_dies_tries_no_suspects(monkeypatch):
    Pretend.deadly, cancel, end = {0}, CancelToken(), Pretend.end

    def end_and_cancel(self):
        cancel.exit_code = 130
        end(self)

    monkeypatch.setattr(Pretend, "end", end_and_cancel)
    found, queue = run(2, max_deaths=0, cancel=cancel)
    assert (found, queue.deaths) == ({}, 1)
    assert len(Pretend.started) == 1


def test_images_in_the_model_are_not_tried_once_one_that_was_decoded_is_the_culprit(monkeypatch):
    Pretend.deadly, die = {1}, Pretend._die_of

    def die_while_the_model_has_the_first_image(self, images):
        if images and 0 in self._numbers:
            self._inbox.extend([DecodingDone(0), Predicting((0,))])
        die(self, images)

    monkeypatch.setattr(Pretend, "_die_of", die_while_the_model_has_the_first_image)
    found, _ = run(2)
    assert found["0.png"] == "done" != found["1.png"]
    assert [worker.seen for worker in Pretend.started if worker.start.limit_memory] == [[1]]


def test_a_run_that_is_cancelled_while_a_probe_starts_tries_no_suspects(monkeypatch):
    Pretend.deadly, cancel = {0}, CancelToken()

    def start_and_cancel(self, _cancel, _note):
        yield
        cancel.exit_code = 130 if self.start.limit_memory else None
        return "cpu"

    monkeypatch.setattr(Pretend, "until_ready", start_and_cancel)
    monkeypatch.setattr(Pretend, "receive", lambda self: self._inbox.popleft())
    assert run(2, cancel=cancel)[0] == {}
    assert [len(worker.seen) for worker in Pretend.started if worker.start.limit_memory] == [0]


def test_a_probe_that_dies_before_it_begins_an_image_blames_none(monkeypatch):
    Pretend.deadly, Pretend.once, send = {1}, 1, Pretend.send

    def end_at_once_in_a_probe(self, message):
        if self.start.limit_memory:
            self._inbox.append(WorkerExit("exit code 1"))
        else:
            send(self, message)

    monkeypatch.setattr(Pretend, "send", end_at_once_in_a_probe)
    assert run(2)[0] == {"0.png": "done", "1.png": "done"}
