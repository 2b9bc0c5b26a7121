"""Ctrl-C and SIGTERM during a real run: the batch in hand is finished, the rest is for the next run."""

import json
import os
import signal
import subprocess
import sys

import pytest

from sdprep.cli import progress, signals
from sdprep.demo import IMAGES
from sdprep.tasks.history import undo as history
from tests.cli.conftest import ROOT
from tests.signals import said, wait_for
from tests.stories.telling import FAKE_CAPTION

COUNT = 1500
MODELS = {"tag": "demo-tag", "caption": FAKE_CAPTION, "real caption": "demo-caption"}
PATIENCE = 120.0

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals that a test could send")


PLACES = {
    "in this process": ["--workers", "0"],
    "in a worker": ["--workers", "2"],
    "in two workers": ["--workers", "2", "--device", "cpu,cpu"],
}


@pytest.fixture(scope="module", params=PLACES.values(), ids=PLACES)
def stopped(request, start, tmp_path_factory):
    """The outcome of a run that got a signal when its first sidecar appeared: process, report, folder."""
    outcomes = {}

    def stop(number):
        if number not in outcomes:
            folder = tmp_path_factory.mktemp("many")
            outcomes[number] = (*interrupted(start, folder, number, request.param), folder)
        return outcomes[number]

    return stop


def interrupted(start, folder, number, place):
    (folder / "p0.jpg").write_bytes((IMAGES / "black-hair-greyscale.jpg").read_bytes())
    for index in range(1, COUNT):
        os.link(folder / "p0.jpg", folder / f"p{index}.jpg")
    process = start("tag", ".", "--batch-size", "1", *place, "--json", cwd=folder)
    wait_for((folder / "p0.txt").exists, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


SIGNALS = [pytest.param(signal.SIGINT, 130, id="Ctrl-C"), pytest.param(signal.SIGTERM, 143, id="SIGTERM")]


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_ends_the_run_with_its_code(number, code, stopped):
    assert stopped(number)[0] == code


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_is_answered_with_what_happens_now(number, code, stopped):
    assert "\nfinishing the current batch" in stopped(number)[2]


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_run_that_was_stopped_reports_what_it_did(number, code, stopped):
    _, out, _, folder = stopped(number)
    report = json.loads(out or '{"written": "no report"}')
    assert report["written"] == len(list(folder.glob("*.txt")))


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_run_that_was_stopped_counts_the_rest_as_remaining(number, code, stopped):
    report = json.loads(stopped(number)[1] or '{"written": 0, "remaining": "no report"}')
    assert report["remaining"] == COUNT - report["written"] != 0


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_run_that_was_stopped_leaves_no_temporary_file(number, code, stopped):
    folder = stopped(number)[3]
    assert not [path.name for path in folder.iterdir() if path.name.endswith(".tmp")]


def test_the_next_run_does_the_rest(start, stopped):
    folder = stopped(signal.SIGTERM)[3]
    process = start("tag", ".", cwd=folder)
    process.communicate(timeout=PATIENCE)
    assert (process.returncode, len(list(folder.glob("*.txt")))) == (0, COUNT)


def test_a_message_at_the_end_is_not_a_traceback(stopped):
    assert "Traceback" not in stopped(signal.SIGINT)[2]


# A batch that does not end


STUCK = """
import sys
from sdprep.cli import signals
from sdprep.engines import base
base.DECODE = "tests.engines.faults:decode"
signals.BATCH_SECONDS, signals.LAST_SECONDS = {limits}
from sdprep.cli.main import main
main()
"""
SOON, NEVER = 0.1, 3600.0


@pytest.fixture
def stuck(tmp_path, put_image):
    """Starts a command over images of which one is never decoded, and waits until it is at that one."""
    put_image(tmp_path / "a.png")
    put_image(tmp_path / "stall.png", "happy-eyes.png")
    started = []

    def begin(command, workers, limits):
        words = [command.split()[-1], ".", "--model", MODELS[command], "--batch-size", "1", "--workers", workers]
        process = subprocess.Popen(
            [sys.executable, "-c", STUCK.format(limits=limits), *words, "--image-timeout", "3600", "--json"],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=-1, stderr=-1, text=True,
        )  # fmt: skip
        started.append(process)
        wait_for((tmp_path / "stall.mark").exists, process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def texts_in(folder):
    return {path.name for path in folder.iterdir() if path.suffix in (".txt", ".caption")}


@pytest.mark.parametrize("command", ["tag", "caption", pytest.param("real caption", marks=pytest.mark.long)])
def test_after_sigterm_a_batch_that_does_not_end_is_given_up_with_a_report(stuck, tmp_path, command):
    process = stuck(command, "1", (SOON, NEVER))
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=PATIENCE)

    found = json.loads(out)
    assert process.returncode == 143
    assert found["written"] == len(texts_in(tmp_path))
    assert found["remaining"] == 2 - found["written"] > 0


def test_after_sigterm_a_process_that_cannot_be_asked_ends_all_the_same(stuck, tmp_path):
    process = stuck("tag", "0", (SOON, SOON))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)

    assert process.returncode == 143
    assert not [path.name for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


def test_these_limits_are_within_the_ten_seconds_that_are_usual():
    assert signals.BATCH_SECONDS < signals.LAST_SECONDS < signals.LAST_SECONDS + signals.GRACE < 10


# Work that holds the interpreter

HELD = """
import re
from sdprep.cli import progress, signals
from sdprep.report import CancelToken
signals.LAST_SECONDS = 0.1
stop = CancelToken()
with signals.run_signals(stop):
    stop.interruptible = {listens}
    print("begun", flush=True)
    {work}
"""
# A regular expression lets Python look for signals, but no other thread run. A sum does neither.
WORK = {
    "a regular expression": (r're.search(r"((\w?){40}){40}!", "a" * 60)', 143),
    "a thread that waits": ("import threading; threading.Event().wait()", 143),
    "a step of Python that takes hours": ("sum(range(10**13))", -signal.SIGKILL),
}


@pytest.mark.parametrize("listens", [True, False])
@pytest.mark.parametrize(("work", "code"), WORK.values(), ids=WORK)
def test_after_sigterm_work_that_holds_the_interpreter_ends_all_the_same(work, code, listens):
    process = subprocess.Popen(
        [sys.executable, "-c", HELD.format(work=work, listens=listens)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=-1, stderr=-1, text=True,
    )  # fmt: skip
    try:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    # A signal that comes before the step begins is answered by Python.
    assert process.returncode in (code, 143)


def test_where_no_process_can_watch_a_run_goes_on(monkeypatch, sdprep_command, imgs):
    def full(*_, **__):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", full)
    assert sdprep_command("tag", imgs, "--model", "demo-tag", "--workers", "0").code == 0


def test_handlers_and_timers_are_as_before_when_a_run_has_ended(sdprep_command, imgs):
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    sdprep_command("tag", imgs, "--model", "demo-tag", "--workers", "0")
    assert [signal.getsignal(number) for number in numbers] == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize("command", ["tag", "caption"])
def test_a_second_ctrl_c_ends_the_run_at_once_and_the_next_goes_on(stuck, tmp_path, start, command, workers):
    process = stuck(command, workers, (NEVER, NEVER))
    process.send_signal(signal.SIGINT)
    assert said(process.stderr, "finishing the current batch; press Ctrl-C again to stop at once")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    written = len(texts_in(tmp_path))
    after = start(command, ".", "--model", MODELS[command], cwd=tmp_path)
    after.communicate(timeout=PATIENCE)

    assert process.returncode == 130
    assert err.strip() == f"sdprep: interrupted; {written} of 2 images written; run the same command to go on"
    assert (after.returncode, len(texts_in(tmp_path))) == (0, 2)


# merge and undo


@pytest.fixture
def tagged(imgs, sdprep_command):
    assert sdprep_command("tag", imgs, "--model", "demo-tag", "--workers", 0).code == 0
    return imgs


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_merge_that_is_stopped_writes_nothing_and_says_what_remains(
    tagged, sdprep_command, monkeypatch, number, code
):
    monkeypatch.setattr(progress.Terminal, "advance", once(number))

    found = sdprep_command("merge", tagged, "--json")

    assert found.code == code
    assert json.loads(found.out)["remaining"] == 2
    assert not (tagged / "metadata.json").exists()


def once(number):
    pending = [number]
    return lambda *_: os.kill(os.getpid(), pending.pop()) if pending else None


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_an_undo_that_is_stopped_says_what_remains_and_the_next_goes_on(
    tagged, sdprep_command, monkeypatch, number, code
):
    monkeypatch.setattr(history, "GROUP", 1)
    real, signal_once = history.apply_changes, once(number)
    monkeypatch.setattr(history, "apply_changes", lambda *given, **named: signal_once() or real(*given, **named))

    stopped = sdprep_command("undo", "--dir", tagged, "--json")
    between = len(texts_in(tagged))
    after = sdprep_command("undo", "--dir", tagged, "--json")
    again = sdprep_command("undo", "--dir", tagged)

    assert (stopped.code, json.loads(stopped.out)["remaining"], between) == (code, 1, 1)
    assert (after.code, json.loads(after.out)["written"], json.loads(after.out)["current"]) == (0, 1, 1)
    assert again.code == 0
