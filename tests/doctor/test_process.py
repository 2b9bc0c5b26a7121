"""Programs that get a limited time."""

import sys
import time

import pytest

from sdprep.doctor.process import run_bounded

pytestmark = pytest.mark.alone


def test_what_a_program_says_is_kept():
    ended = run_bounded(
        [sys.executable, "-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)"], 30
    )
    assert (ended.code, ended.out.strip(), ended.err.strip()) == (7, "out", "err")


def test_a_program_that_runs_on_is_ended():
    start = time.monotonic()
    run_bounded([sys.executable, "-c", "import time; time.sleep(60)"], 1)
    assert time.monotonic() - start < 20


def test_a_program_that_was_ended_has_no_code():
    assert run_bounded([sys.executable, "-c", "import time; time.sleep(60)"], 1).code is None


def test_a_child_that_holds_the_streams_does_not_hold_us():
    code = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(20)'])"
    start = time.monotonic()
    run_bounded([sys.executable, "-c", code], 30)
    assert time.monotonic() - start < 15
