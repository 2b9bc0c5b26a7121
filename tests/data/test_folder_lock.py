"""Who may work with a catalog: one run at a time, and the next as soon as it is known that the last has ended."""

import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from sdprep.data import folder_lock
from sdprep.data.folder_lock import STALE, FolderLock, Owner
from sdprep.errors import FolderInUse

ROOT = Path(__file__).resolve().parents[2]
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="about flock")
# Says that it has the lock, and keeps it until it dies.
HOLDER = """
import sys
from pathlib import Path
from sdprep.data.folder_lock import FolderLock
FolderLock(Path(sys.argv[1]), "tag").acquire()
print("mine", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def catalog(tmp_path):
    return tmp_path / "catalog.sqlite"


@pytest.fixture
def holder(catalog):
    """A process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(catalog)], cwd=ROOT, stdin=-1, stdout=-1, text=True, encoding="utf-8"
    )
    with process:
        assert process.stdout.readline() == "mine\n"
        yield process
        process.kill()


def lock(catalog):
    return FolderLock(catalog, "caption")


def leave(catalog, **changes):
    """The lock file as a run of another machine leaves or holds it, where the system's lock does not reach."""
    owner = Owner("tag", 1, "elsewhere", "another boot", time.time())
    path = catalog.with_name("catalog.sqlite.lock")
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(owner, **changes)))
    return path


def refused(catalog):
    with pytest.raises(FolderInUse) as caught:
        lock(catalog).acquire()
    return str(caught.value)


def dead_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


# The system's lock


def test_a_lock_that_is_held_is_refused_with_who_holds_it_and_what_to_do(catalog, holder):
    message = refused(catalog)

    assert f"sdprep tag, process {holder.pid} on " in message
    assert f"since {time.strftime('%Y-')}" in message
    assert "Wait for its end" in message
    assert str(catalog) in message
    assert message.count("\n") == 1


def test_a_lock_that_is_held_in_this_process_is_refused(catalog):
    held = lock(catalog)
    held.acquire()
    message = refused(catalog)
    held.release()

    assert f"process {os.getpid()}" in message


def test_a_lock_of_a_process_that_was_killed_is_free_and_its_owner_is_told(catalog, holder):
    holder.kill()
    holder.wait()
    after = lock(catalog)
    dead = after.acquire()
    after.release()

    assert (dead.command, dead.pid) == ("tag", holder.pid)


def test_a_lock_that_was_released_is_free_and_nobody_has_died(catalog):
    for _ in range(2):
        held = lock(catalog)
        assert held.acquire() is None
        held.release()


def test_a_lock_whose_owner_was_not_written_to_its_end_is_free(catalog):
    leave(catalog).write_bytes(b'{"command":"ta')
    held = lock(catalog)

    assert held.acquire() is None
    held.release()


def test_the_lock_of_a_run_before_a_restart_of_this_machine_is_free(catalog):
    leave(catalog, host=folder_lock.platform.node(), boot="the boot before")
    held = lock(catalog)

    assert held.acquire().boot == "the boot before"
    held.release()


def test_the_lock_of_a_container_on_this_machine_that_is_gone_is_free(catalog):
    leave(catalog, host="f00dfeed", boot=folder_lock._boot())
    held = lock(catalog)

    assert held.acquire().host == "f00dfeed"
    held.release()


# Signs of life


def test_a_run_of_another_machine_that_shows_life_is_refused(catalog):
    leave(catalog)

    assert "process 1 on elsewhere" in refused(catalog)


def test_a_run_of_another_machine_without_a_sign_of_life_is_passed_over(catalog):
    path = leave(catalog)
    os.utime(path, (time.time() - STALE - 60,) * 2)
    held = lock(catalog)

    assert held.acquire().host == "elsewhere"
    held.release()


def test_a_wrong_clock_of_this_machine_makes_nobody_dead(catalog, monkeypatch):
    leave(catalog)
    monkeypatch.setattr(time, "time", lambda: 4e9)

    assert "elsewhere" in refused(catalog)


def test_an_owner_renews_the_sign_of_life(catalog, monkeypatch):
    monkeypatch.setattr(folder_lock, "BEAT", 0.001)
    held = lock(catalog)
    held.acquire()
    os.utime(held.path, (0, 0))
    deadline = time.monotonic() + 60
    while held.path.stat().st_mtime == 0 and time.monotonic() < deadline:
        held._ended.wait(0.001)
    renewed = held.path.stat().st_mtime
    held.release()

    assert renewed > 0


# Files that are no lock


def refused_as_none(catalog, reason):
    """What a run says, in a process of its own: it may wait for a pipe."""
    said = subprocess.run([sys.executable, "-c", HOLDER, str(catalog)], cwd=ROOT, capture_output=True, timeout=60)
    assert b"CatalogError" in said.stderr
    assert reason in said.stderr


@POSIX
@pytest.mark.parametrize("content", [b"", b"dear diary\n"])
def test_a_link_in_the_place_of_a_lock_is_refused_and_its_target_left_alone(catalog, tmp_path, content):
    target = tmp_path / "notes.txt"
    target.write_bytes(content)
    catalog.with_name("catalog.sqlite.lock").symlink_to(target)

    refused_as_none(catalog, b"it is a link")
    assert target.read_bytes() == content


@POSIX
def test_a_link_to_nothing_in_the_place_of_a_lock_makes_no_file(catalog, tmp_path):
    catalog.with_name("catalog.sqlite.lock").symlink_to(tmp_path / "new.txt")

    refused_as_none(catalog, b"it is a link")
    assert not (tmp_path / "new.txt").exists()


@POSIX
def test_a_pipe_in_the_place_of_a_lock_is_refused_and_not_waited_for(catalog):
    os.mkfifo(catalog.with_name("catalog.sqlite.lock"))

    refused_as_none(catalog, b"no ordinary file")


FOREIGN = [
    b"x\n",
    b"# This file is automatically @generated by Poetry\n" * 900,
    b'{"command":"tag","pid":1,"host":"h","boot":"b","started":1.0,"mine":"all my notes"}',
    b'{"command":"tag","pid":1,"host":"h","boot":"b","started":1e300}',
    b'{"command":"tag","pid":1,"host":"h","boot":"b","started":-1}',
    b'{"command":"tag","pid":1%s,"host":"h","boot":"b","started":1.0}' % (b"0" * 40),
    b'{"command":"tag","pid":-1,"host":"h","boot":"b","started":1.0}',
    b'{"command":"tag"} and more',
]


@pytest.mark.parametrize("content", FOREIGN, ids=range(len(FOREIGN)))
def test_a_file_that_is_no_lock_is_refused_and_keeps_its_content(catalog, content):
    path = catalog.with_name("catalog.sqlite.lock")
    path.write_bytes(content)

    refused_as_none(catalog, b"other content")
    assert path.read_bytes() == content


def test_a_lock_of_which_a_loss_of_power_left_zeros_is_free(catalog):
    leave(catalog).write_bytes(bytes(120))
    held = lock(catalog)

    assert held.acquire() is None
    held.release()


def test_what_a_lock_says_moves_no_cursor_and_breaks_no_line(catalog):
    leave(catalog, command="tag\x1b[2J\nDone", host="a\x9bb")

    message = refused(catalog)

    assert "sdprep tag[2J Done, process 1 on ab, since" in message.splitlines()[0]


# File systems without locks


@pytest.fixture
def no_locks(monkeypatch):
    def refuse(*_):
        raise OSError(folder_lock.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(folder_lock, "_lock", refuse)


@pytest.mark.usefixtures("no_locks")
@POSIX
def test_without_locks_a_living_process_of_this_machine_is_refused(catalog, holder):
    assert f"process {holder.pid}" in refused(catalog)


@pytest.mark.usefixtures("no_locks")
@POSIX
def test_without_locks_a_dead_process_of_this_machine_is_passed_over(catalog):
    pid = dead_process()
    leave(catalog, pid=pid, boot=folder_lock._boot())
    held = lock(catalog)

    assert held.acquire().pid == pid
    held.release()


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_run_of_another_machine_that_shows_life_is_refused(catalog):
    leave(catalog)

    assert "elsewhere" in refused(catalog)
