"""The spool holds the images in hand as files, and what killed processes have left goes."""

import os
import shutil
import subprocess
import sys

import pytest

from sdprep.errors import SdprepError
from sdprep.shards.spool import open_spool

HELD = """
import sys, time
from pathlib import Path
from sdprep.shards.spool import open_spool
with open_spool(1, (Path(sys.argv[1]),)) as spool:
    spool.add(b"left", ".png")
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_members_are_files_until_they_are_removed(tmp_path):
    with open_spool(1, (tmp_path,)) as spool:
        first, second = spool.add(b"one", ".png"), spool.add(b"two", ".jpg", "what is it?")
        assert (first.path.read_bytes(), second.path.suffix, second.prompt) == (b"one", ".jpg", "what is it?")
        spool.remove(first)
        assert (first.path.exists(), second.path.exists(), spool.size) == (False, True, 1)
        assert spool.add(b"three", ".png") not in (first, second)
    assert list(tmp_path.iterdir()) == []


def test_a_place_without_room_is_left_alone(tmp_path):
    (small := tmp_path / "small").mkdir()
    with open_spool(10**18, (small,)) as spool:
        assert not spool.add(b"one", ".png").path.is_relative_to(small)


def test_a_full_place_is_named_with_what_helps(tmp_path):
    with open_spool(1, (tmp_path,)) as spool:
        shutil.rmtree(spool.add(b"one", ".png").folder)
        with pytest.raises(SdprepError, match=r"cannot hold .*: No such file.* Lower --spool"):
            spool.add(b"two", ".png")


def test_what_a_killed_process_has_left_goes_and_what_is_in_use_stays(tmp_path):
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", HELD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ
        )
        for _ in range(2)
    ]
    try:
        for each in programs:
            assert each.stdout.readline() == b"ready\n"
        programs[0].kill()
        programs[0].wait()
        with open_spool(1, (tmp_path,)):
            assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 2
    finally:
        for each in programs:
            each.communicate()
