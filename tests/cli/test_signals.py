"""Ctrl-C and SIGTERM during a real run: the batch in hand is finished, the rest is for the next run."""

import json
import os
import signal
import sys
import time

import pytest

from sdprep.tasks.demo import PICTURES

COUNT = 1500
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
    (folder / "p0.jpg").write_bytes((PICTURES / "black-hair-greyscale.jpg").read_bytes())
    for index in range(1, COUNT):
        os.link(folder / "p0.jpg", folder / f"p{index}.jpg")
    process = start("tag", ".", "--batch-size", "1", *place, "--json", cwd=folder)
    deadline = time.monotonic() + PATIENCE
    while not (folder / "p0.txt").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"no sidecar appeared: {process.communicate()}")
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


SIGNALS = [pytest.param(signal.SIGINT, 130, id="Ctrl-C"), pytest.param(signal.SIGTERM, 143, id="SIGTERM")]


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_ends_the_run_with_its_code(number, code, stopped):
    assert stopped(number)[0] == code


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_is_answered_with_what_happens_now(number, code, stopped):
    assert stopped(number)[2].startswith("finishing the batch in hand")


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


def test_a_message_of_an_end_is_no_traceback(stopped):
    assert "Traceback" not in stopped(signal.SIGINT)[2]
