"""Shards whose processes are killed: whatever happens, the same command ends with each image once."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sdprep.shards.store import open_store
from tests.engines.engine import FAKES
from tests.shards.s3 import s3_server, s3_url  # noqa: F401 - fixtures
from tests.tasks.shards.sets import outcomes, png, rows, run, write_tars

ROOT = Path(__file__).parents[2]
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
# `sdprep`, killed at a step of storing an object whose name has a part.
PROGRAM = """
import os, pathlib, signal, sys
from sdprep.shards import store
step, part = sys.argv[1:3]
current = ""
def watched(before):
    def put(self, name, *given):
        global current
        current = name
        return before(self, name, *given)
    return put
def fatal(holder, name, before):
    real = getattr(holder, name)
    def call(*given, **named):
        hit = part in current
        if hit and before:
            os.kill(os.getpid(), signal.SIGKILL)
        made = real(*given, **named)
        if hit:
            os.kill(os.getpid(), signal.SIGKILL)
        return made
    setattr(holder, name, call)
store.FolderStore._put = watched(store.FolderStore._put)
if step == "written":
    fatal(store, "write_synced", False)
elif step == "synced":
    fatal(pathlib.Path, "hardlink_to", True)
elif step == "linked":
    fatal(pathlib.Path, "hardlink_to", False)
elif step == "deleted":
    fatal(store, "sync_folder", True)
from sdprep.cli.main import main
sys.argv = ["sdprep", *sys.argv[3:]]
main()
"""


def command(folder, *options):
    return ["tag", str(folder), "--results", str(folder / "out"), "--model", str(FAKES / "fake-tag.toml"),
            "--workers", "1", *options]  # fmt: skip


def start(*arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def end_of(process):
    process.communicate()
    return process.returncode


@POSIX
@pytest.mark.parametrize("step", ["written", "synced", "linked", "deleted"])
def test_a_kill_at_any_step_of_storing_an_object_is_repaired_by_the_same_command(tmp_path, step):
    names = write_tars(tmp_path, 3)

    ends = [end_of(start(step, part, *command(tmp_path))) for part in ("run.json", "plan.jsonl", "01.parquet")]
    last = end_of(start("none", "", *command(tmp_path)))

    assert ends == [-signal.SIGKILL] * 3
    assert last == 0
    assert [row.member for row in rows(tmp_path / "out")] == names


@POSIX
def test_two_processes_on_the_same_results_store_each_image_once(tmp_path):
    names = write_tars(tmp_path, 8)

    processes = [start("none", "", *command(tmp_path, "--shard", f"{part}/2")) for part in range(2)]

    assert [end_of(process) for process in processes] == [0, 0]
    assert sorted(row.member for row in rows(tmp_path / "out")) == sorted(names)


@POSIX
def test_a_process_that_is_killed_at_work_leaves_its_shards_to_the_others(tmp_path):
    names = write_tars(tmp_path, 4)

    killed = start("written", "00.parquet", *command(tmp_path, "--shard", "0/2"))
    other = start("none", "", *command(tmp_path, "--shard", "1/2"))

    assert {end_of(killed), end_of(other)} <= {0, -signal.SIGKILL}
    assert sorted(row.member for row in rows(tmp_path / "out")) == sorted(names)


def test_a_bucket_over_http_is_source_and_results(tmp_path, s3_url):  # noqa: F811

    names = write_tars(tmp_path, 2)
    source = open_store(f"{s3_url}/tars")
    for path in tmp_path.glob("*.tar"):
        source.put(path.name, path.read_bytes())

    first = run(f"{s3_url}/out", f"{s3_url}/tars/{{00..01}}.tar")
    again = run(f"{s3_url}/out", f"{s3_url}/tars/{{00..01}}.tar")

    assert [row.member for row in rows(f"{s3_url}/out")] == names
    assert (first.shards["done"], again.shards["before"], again.found) == (2, 2, 0)


def test_loose_images_of_a_folder_are_shards_too(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(png(number))

    run(tmp_path / "out", tmp_path)

    assert outcomes(tmp_path / "out") == {"0.png": "ok", "1.png": "ok", "2.png": "ok"}
