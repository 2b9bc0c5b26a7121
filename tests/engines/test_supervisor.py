"""Images that kill or stall the process that decodes them: they alone fail, and all others are done."""

import os
import signal
import sys
from hashlib import sha256

import pytest

from sdprep.engines.protocol import Decoding, Image, Start
from sdprep.engines.worker_process import WorkerProcess
from sdprep.errors import WorkerError
from sdprep.report import CancelToken
from sdprep.types import FailureCode, Result
from tests.engines.engine import images, opened, outcomes

NAMES = ("a", "b", "c", "d")
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
DEADLY = [
    ("tag", "segfault"),
    ("tag", "abort"),
    ("tag", "exit"),
    pytest.param("tag", "killed", marks=POSIX),
    ("caption", "segfault"),
]


def failures(items, **work):
    with opened(**work) as engine:
        return [outcome for outcome in engine.run(items, CancelToken()) if not isinstance(outcome, Result)]


@pytest.mark.parametrize(("task", "fault"), DEADLY)
def test_an_image_that_kills_the_process_fails_and_the_others_are_done(tmp_path, task, fault):
    found = outcomes(images(tmp_path, *NAMES, fault, "e", "f"), task)

    assert found == {**{f"{name}.png": "done" for name in (*NAMES, "e", "f")}, f"{fault}.png": "crashed"}


@pytest.mark.parametrize("task", ["tag", "caption"])
def test_an_image_that_never_ends_fails_and_the_others_are_done(tmp_path, task):
    found = outcomes(images(tmp_path, *NAMES, "hang", "e", "f"), task, image_timeout=2)

    assert found == {**{f"{name}.png": "done" for name in (*NAMES, "e", "f")}, "hang.png": "timed_out"}


def test_images_that_never_end_side_by_side_are_told_apart_from_their_neighbours(tmp_path):
    found = outcomes(images(tmp_path, "hang-1", "hang-2", "a"), image_timeout=2)

    assert found == {"hang-1.png": "timed_out", "hang-2.png": "timed_out", "a.png": "done"}


@POSIX
def test_an_image_whose_process_was_stopped_beyond_its_time_is_tried_again_and_done(tmp_path, monkeypatch, started):
    receive, stopped = WorkerProcess.receive, []

    def stop_at_the_first_image(self):
        message = receive(self)
        if isinstance(message, Decoding) and not stopped:
            stopped.append(self)
            os.kill(self._process.pid, signal.SIGSTOP)
        return message

    monkeypatch.setattr(WorkerProcess, "receive", stop_at_the_first_image)
    items = images(tmp_path, *NAMES)
    # Waits for the test, so that its process is stopped while it is decoded.
    os.mkfifo(items[0].path.with_suffix(".gate"))
    monkeypatch.setattr(WorkerProcess, "kill", killed_with_open_gates(tmp_path))

    assert outcomes(items, workers=1, image_timeout=1) == {f"{name}.png": "done" for name in NAMES}
    assert stopped == started[:1]


def killed_with_open_gates(folder):
    """Killing a worker, after which no image has to wait."""
    kill = WorkerProcess.kill

    def killed(self):
        for gate in folder.glob("*.gate"):
            gate.unlink()
        kill(self)

    return killed


def test_an_image_that_is_too_slow_is_tried_once_more_before_it_fails(tmp_path, started):
    assert outcomes(images(tmp_path, "hang", "a"), workers=1, image_timeout=1) == {
        "hang.png": "timed_out",
        "a.png": "done",
    }
    # The one that was too slow, the one that tried again, and the one that did the rest.
    assert [each.is_trial for each in started] == [False, True, False]


def test_faults_of_several_kinds_are_told_apart(tmp_path):
    found = outcomes(images(tmp_path, "segfault", "a", "hang", "memory", "exit", "b"), image_timeout=2)

    assert found == {
        "segfault.png": "crashed",
        "a.png": "done",
        "hang.png": "timed_out",
        "memory.png": "out_of_memory",
        "exit.png": "crashed",
        "b.png": "done",
    }


@POSIX
def test_the_failure_says_what_killed_the_process(tmp_path):
    [failure] = failures(images(tmp_path, "a", "segfault"))

    assert failure.message == "decoding it ended the process twice (SIGSEGV)"


def test_the_failure_says_the_limit_of_time_and_its_option(tmp_path):
    [failure] = failures(images(tmp_path, "a", "hang"), image_timeout=1.5)

    assert failure.message == "it is not decoded within 1.5 s; --image-timeout sets this limit"


@pytest.mark.parametrize("fault", ["exit", "hang"])
def test_the_failure_has_the_checksum_by_which_it_is_remembered(tmp_path, fault):
    [failure] = failures(images(tmp_path, "a", fault), image_timeout=2)

    assert failure.digest == sha256((tmp_path / f"{fault}.png").read_bytes()).digest()


def test_a_death_that_no_image_repeats_makes_no_image_fail(tmp_path):
    assert outcomes(images(tmp_path, *NAMES, "once")) == {f"{name}.png": "done" for name in (*NAMES, "once")}


def test_innocent_suspects_are_tried_by_one_process(tmp_path, started):
    outcomes(images(tmp_path, "a", "once", "c"), workers=2)

    # The one that died, one for all suspects, and if they left anything to do, its successor.
    assert 2 <= len(started) <= 3


def test_a_trial_that_ends_before_it_has_begun_is_no_proof(tmp_path, monkeypatch):
    send = WorkerProcess.send

    def tell_or_kill(self, message):
        if isinstance(message, Start):
            self.is_trial = message.limit_memory
        if self.is_trial and isinstance(message, Image):
            self.kill()
        send(self, message)

    monkeypatch.setattr(WorkerProcess, "send", tell_or_kill)

    assert set(outcomes(images(tmp_path, *NAMES, "once")).values()) == {"done"}


def test_an_image_that_kills_the_model_is_found_too(tmp_path, monkeypatch):
    monkeypatch.setattr("sdprep.engines.base.DECODE", "tests.engines.fragile_model:decode")

    with opened(batch_size=4) as engine:
        found = {outcome.item.rel: outcome for outcome in engine.run(images(tmp_path, *NAMES, "poison"), CancelToken())}

    assert {name for name, outcome in found.items() if isinstance(outcome, Result)} == {f"{name}.png" for name in NAMES}
    assert found["poison.png"].code is FailureCode.CRASHED
    assert found["poison.png"].message.startswith("showing it to the model ended the process twice")


def test_a_batch_that_a_model_was_preparing_is_not_suspected_if_the_one_in_it_has_the_culprit(tmp_path, monkeypatch):
    monkeypatch.setattr("sdprep.engines.base.DECODE", "tests.engines.fragile_model_ahead:decode")
    send, sent = WorkerProcess.send, []

    def recorded(self, message):
        sent.append((self, message))
        send(self, message)

    monkeypatch.setattr(WorkerProcess, "send", recorded)
    found = outcomes(images(tmp_path, "a", "poison", "b", "c"), batch_size=2, workers=1)

    assert found == {**{f"{name}.png": "done" for name in "abc"}, "poison.png": "crashed"}
    alone = {worker for worker, message in sent if isinstance(message, Start) and message.limit_memory}
    tried = [message.within.stem for worker, message in sent if worker in alone and isinstance(message, Image)]
    assert tried == ["a", "poison"]


def test_too_many_deaths_end_the_run_with_what_to_do(tmp_path):
    items = images(tmp_path, *[f"exit-{number}" for number in range(12)])

    with pytest.raises(WorkerError, match=r"died 6 times, the last time by exit code 3.*run the command again"):
        outcomes(items)


def test_too_much_waiting_ends_the_run_too(tmp_path):
    items = images(tmp_path, *[f"hang-{number}" for number in range(6)])

    with pytest.raises(WorkerError, match=r"died 6 times, the last time by an image that is not decoded in time"):
        outcomes(items, workers=1, image_timeout=0.5)


def test_five_deaths_are_survived(tmp_path):
    found = outcomes(images(tmp_path, *[f"exit-{number}" for number in range(5)], "a"), workers=1)

    assert sorted(found.values()) == ["crashed"] * 5 + ["done"]


def test_a_worker_that_dies_before_its_model_is_loaded_ends_the_run(monkeypatch):
    monkeypatch.setattr("sdprep.engines.base.DECODE", "tests.engines.dies_when_imported:decode")

    with pytest.raises(WorkerError, match=r"ended before its model was loaded \(exit code 7\): my last words"):
        opened().__enter__()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends no process by SIGINT")
def test_a_worker_that_ends_for_lack_of_memory_says_so_and_not_how(monkeypatch):
    monkeypatch.setattr("sdprep.engines.base.DECODE", "tests.engines.dies_without_memory:decode")

    with pytest.raises(WorkerError, match=r"before its model was loaded, since memory is short.*pthread_create failed"):
        opened().__enter__()


def test_no_process_is_left_behind(tmp_path, started):
    outcomes(images(tmp_path, "a", "exit", "hang"), image_timeout=2)

    assert len(started) > 2
    assert [each for each in started if each._process.returncode is None] == []


def test_after_a_wish_to_stop_no_suspect_is_tried(tmp_path, started):
    stop = CancelToken()
    with opened(workers=1, batch_size=1) as engine:
        for _ in engine.run(images(tmp_path, "a", "b", "exit"), stop):
            stop.exit_code = 130

    assert len(started) == 1
