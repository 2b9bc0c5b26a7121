"""Who may work with a catalog: one run at a time, and the next as soon as the last has ended, however it ended."""

import errno
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import filelock
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdprep.catalog import lock as folder_lock
from sdprep.catalog.lock import FolderLock, Owner
from sdprep.errors import CatalogError, FolderInUse

ROOT = Path(__file__).resolve().parents[2]
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="about flock")
# Prints when it has the lock, and keeps it until it dies.
HOLDER = """
import sys
from pathlib import Path
from sdprep.catalog.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]), "tag")
lock.acquire()
print("mine", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(folder_lock, "WAIT", 0.0)


@pytest.fixture
def catalog(tmp_path):
    return tmp_path / "catalog.sqlite"


def started(catalog):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(catalog)], cwd=ROOT, stdin=-1, stdout=-1, text=True, encoding="utf-8"
    )
    assert process.stdout.readline() == "mine\n"
    return process


def killed(process):
    process.kill()
    process.communicate()


@pytest.fixture
def holder(catalog):
    """A process that holds the lock."""
    process = started(catalog)
    yield process
    killed(process)


def lock(catalog):
    return FolderLock(catalog, "caption")


def lock_file(catalog):
    return catalog.with_name("catalog.sqlite.lock")


def owner_file(catalog):
    return catalog.with_name("catalog.sqlite.owner")


def taken(catalog):
    """Take the lock and leave it; the owner that had died."""
    held = lock(catalog)
    dead = held.acquire()
    held.release()
    return dead


def refused(catalog):
    with pytest.raises(FolderInUse) as caught:
        lock(catalog).acquire()
    return str(caught.value)


# Who holds it


def test_a_lock_that_is_held_is_refused_with_who_holds_it_and_what_to_do(catalog, holder):
    message = refused(catalog)

    assert f"sdprep tag, process {holder.pid} on " in message
    assert f"since {time.strftime('%Y-')}" in message
    assert "Wait until it ends" in message
    assert str(catalog) in message
    assert message.count("\n") == 1


def test_a_lock_that_is_held_in_this_process_is_refused(catalog):
    held = lock(catalog)
    held.acquire()
    message = refused(catalog)
    held.release()

    assert f"process {os.getpid()}" in message


def test_a_run_that_starts_waits_for_one_that_is_about_to_end(catalog, monkeypatch):
    monkeypatch.setattr(folder_lock, "WAIT", 60.0)
    held, tries = lock(catalog), []
    held.acquire()

    def sleep(_):
        tries.append(1)
        if len(tries) == 3:
            held.release()

    monkeypatch.setattr(filelock._api.time, "sleep", sleep)

    assert taken(catalog) is None
    assert len(tries) >= 3


def test_a_lock_that_was_released_is_free_and_leaves_no_owner(catalog):
    for _ in range(2):
        assert taken(catalog) is None
        assert not owner_file(catalog).exists()


# Runs that died


def test_a_lock_of_a_process_that_was_killed_is_free_and_its_owner_is_told(catalog):
    process = started(catalog)
    killed(process)

    dead = taken(catalog)

    assert (dead.command, dead.pid) == ("tag", process.pid)


def test_any_number_of_kills_leaves_the_lock_free_and_the_next_owner_named(catalog):
    for _ in range(4):
        process = started(catalog)
        assert f"process {process.pid} on" in refused(catalog)
        killed(process)

    assert taken(catalog).pid == process.pid
    assert taken(catalog) is None


def test_the_lock_file_is_never_written(catalog, holder):
    refused(catalog)
    assert lock_file(catalog).read_bytes() == b""


# What the files say


def owner(catalog, **changes):
    known = Owner("tag", 1, "elsewhere", "another boot", lock_file(catalog).stat().st_ino, time.time())
    return msgspec.json.encode(msgspec.structs.replace(known, **changes))


OF_0_1 = b'{"command":"tag","pid":%d,"host":"%s","boot":"b","started":1.0}' % (os.getpid(), platform.node().encode())
FOREIGN = [b"", b"x\n", bytes(120), OF_0_1, OF_0_1[:20], OF_0_1 * 2, OF_0_1 + OF_0_1[-30:], b"\xff\xfe" * 90]


@pytest.mark.parametrize("content", FOREIGN, ids=range(len(FOREIGN)))
def test_whatever_the_lock_file_holds_it_is_a_lock_and_keeps_its_content(catalog, content):
    lock_file(catalog).write_bytes(content)

    assert taken(catalog) is None
    assert lock_file(catalog).read_bytes() == content


@given(st.binary(max_size=300) | st.from_type(Owner).map(msgspec.json.encode))
def test_any_owner_file_keeps_nobody_from_the_lock(tmp_path_factory, content):
    catalog = tmp_path_factory.mktemp("any") / "catalog.sqlite"
    taken(catalog)
    owner_file(catalog).write_bytes(content)

    taken(catalog)

    assert not owner_file(catalog).exists()


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("nowhere"), lambda path: os.mkfifo(path)])
@POSIX
def test_whatever_is_in_the_place_of_the_owner_file_the_lock_can_be_taken(catalog, make):
    make(owner_file(catalog))

    assert taken(catalog) is None


def test_an_owner_that_is_dead_is_not_named_as_the_holder(catalog, holder):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    content = owner(catalog, host=platform.node(), boot=folder_lock._boot(), pid=dead.pid)
    owner_file(catalog).write_bytes(content)

    assert f"process {dead.pid}" not in refused(catalog)


def test_an_owner_file_that_was_copied_with_its_folder_counts_for_nothing(catalog):
    lock_file(catalog).touch()
    owner_file(catalog).write_bytes(owner(catalog, lock=lock_file(catalog).stat().st_ino + 1))

    assert taken(catalog) is None


@pytest.mark.parametrize("started", [-1e10, -1.0, 1e12, 1e300])
def test_an_oddly_dated_owner_is_told_of_all_the_same(catalog, started):
    lock_file(catalog).touch()
    owner_file(catalog).write_bytes(owner(catalog, started=started))

    assert "sdprep tag, process 1 on elsewhere, since " in str(taken(catalog))


def test_what_an_owner_file_says_moves_no_cursor_and_breaks_no_line(catalog, holder):
    owner_file(catalog).write_bytes(owner(catalog, command="tag\x1b[2J\nDone", host="a\x9bb"))

    assert "sdprep tag[2J Done, process 1 on ab, since" in refused(catalog).splitlines()[0]


# What is not a lock file


@POSIX
@pytest.mark.parametrize("content", [b"", b"dear diary\n", None])
def test_a_link_in_the_place_of_a_lock_is_refused_and_its_target_left_alone(catalog, tmp_path, content):
    target = tmp_path / "notes.txt"
    if content is not None:
        target.write_bytes(content)
    lock_file(catalog).symlink_to(target)

    with pytest.raises(CatalogError, match="it is a link"):
        lock(catalog).acquire()
    assert (target.read_bytes() if target.exists() else None) == content


@POSIX
def test_a_link_that_takes_the_place_of_a_lock_in_between_is_not_followed(catalog, tmp_path, monkeypatch):
    (tmp_path / "notes.txt").write_bytes(b"dear diary\n")
    monkeypatch.setattr(FolderLock, "_check_lock_file", lambda _: None)
    lock_file(catalog).symlink_to(tmp_path / "notes.txt")

    with pytest.raises(OSError, match="symbolic links"):
        lock(catalog).acquire()


@POSIX
def test_a_pipe_in_the_place_of_a_lock_is_refused_and_not_waited_for(catalog):
    os.mkfifo(lock_file(catalog))

    with pytest.raises(CatalogError, match="not a regular file"):
        lock(catalog).acquire()


def test_a_folder_in_the_place_of_a_lock_is_refused(catalog):
    lock_file(catalog).mkdir()

    with pytest.raises(CatalogError, match="not a regular file"):
        lock(catalog).acquire()


# File systems without locks


@POSIX
@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_without_locks_a_run_goes_on_and_knows_that_it_may_not_be_alone(catalog, monkeypatch, code):
    import fcntl

    def flock(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    held = lock(catalog)
    dead = held.acquire()
    held.release()

    assert (dead, held.is_exclusive) == (None, False)
