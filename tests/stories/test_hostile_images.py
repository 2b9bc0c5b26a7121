"""Images made to harm: each costs itself alone, in a run, in the next one and in merge, also where memory is short."""

import json
import os
import subprocess
import sys

import pytest

from tests.images import bombs
from tests.stories.telling import PYTHON, ROOT, texts

GOOD = 20
# What Python, onnxruntime and their threads take of addresses, and half a gigabyte.
ADDRESSES = 3 * 2**30
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv.pop(1)),) * 2)
from sdprep.cli.main import main
main()
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds the addresses of a process")


def limited(*words):
    """The report of a command that may take so many addresses, as may each of its processes."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    command = [PYTHON, "-c", LIMITED, str(ADDRESSES), *map(str, words), "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode, "Traceback" in done.stderr) == (3, False), done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def folder(tmp_path):
    """A folder of good images and of such as would take all memory."""
    folder = tmp_path / "imgs"
    folder.mkdir()
    bombs.write(folder)
    bombs.good(folder, GOOD)
    return folder


def failures(report):
    return {failure["path"]: failure["code"] for failure in report["failures"]}


def test_under_a_limit_of_memory_every_run_names_what_is_too_large_and_does_the_rest(folder):
    options = ("--model", "demo-tag", "--memory", "64", "--workers", "2")
    every = {**bombs.BOMBS, **bombs.SPARSE}
    bad = {name: decoded for name, (_, decoded, _) in every.items() if decoded != "decoded"}
    sized = {name: size for name, (_, _, size) in every.items() if "x" not in size}
    # Two images with one stem have one sidecar.
    options += ("--sidecar-name", "full")

    first = limited("tag", folder, *options)
    again = limited("tag", folder, *options)
    merged = limited("merge", folder, "--sidecar-name", "full", "-o", folder.parent / "meta.json")

    assert failures(first) == failures(again) == bad
    assert first["written"] == again["current"] == len(texts(folder)) == GOOD + len(every) - len(bad)
    assert failures(merged) == sized
    # Those without a text are left out of the JSON.
    assert merged["written"] + merged["kept"] == GOOD + len(every) - len(sized)
