"""A folder of images whose maker means harm: links, pipes and journals where sdprep keeps its own files."""

import json
import os
import sqlite3
import struct
import sys
from contextlib import closing

import pytest

from sdprep.errors import CatalogError
from sdprep.tasks.history.retry import retry
from sdprep.tasks.history.runs import log
from sdprep.tasks.history.undo import undo
from tests.stories.telling import CATALOG, counts, everything, run_cli, tag

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links and pipes by name")

MAGIC = bytes.fromhex("d9d505f920a163d7")
PAGE, SECTOR = 4096, 512


@pytest.fixture
def outside(tmp_path):
    """A folder of the user's beside the album, with one file."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "victim.txt").write_text("dear diary\n", encoding="utf-8")
    return folder


def kept(outside):
    return everything(outside) == {"victim.txt": b"dear diary\n"}


def refused_in_time(*words, code=1):
    """What a command says that fails; in a process of its own, since it may wait for ever."""
    done = run_cli(*words)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    return done.stderr


# Journals that have SQLite delete other files


def hostile_journal(catalog, victim):
    """A rollback journal of one page that is as it was, and of the super-journal `victim`."""
    with closing(sqlite3.connect(catalog)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
    data, name, nonce = catalog.read_bytes(), os.fsencode(victim), 7
    head = MAGIC + struct.pack(">IIIII", 1, nonce, len(data) // PAGE, SECTOR, PAGE)
    checksum = nonce + sum(data[place] for place in range(PAGE - 200, 0, -200))
    page = struct.pack(">I", 1) + data[:PAGE] + struct.pack(">I", checksum)
    lock_page = 0x40000000 // PAGE + 1
    ending = struct.pack(">I", lock_page) + name + struct.pack(">II", len(name), sum(name)) + MAGIC
    journal = catalog.with_name(catalog.name + "-journal")
    journal.write_bytes(head.ljust(SECTOR, b"\0") + page + ending)
    return journal


def test_a_journal_of_this_kind_has_sqlite_delete_the_file_that_it_names(tagged, outside):
    hostile_journal(tagged / CATALOG, outside / "victim.txt")
    with closing(sqlite3.connect(tagged / CATALOG)) as db:
        db.execute("PRAGMA user_version").fetchone()

    assert not kept(outside)


def test_a_journal_that_names_another_file_is_moved_aside_unread(tagged, outside):
    hostile_journal(tagged / CATALOG, outside / "victim.txt")

    assert counts(tag(tagged)) == {"kept": 3}
    assert kept(outside)
    assert (tagged / ".sdprep" / "catalog.sqlite.broken-1-journal").exists()


def test_commands_that_look_back_refuse_a_journal_that_names_another_file(tagged, outside):
    journal = hostile_journal(tagged / CATALOG, outside / "victim.txt")

    with pytest.raises(CatalogError, match="journal that is not its own"):
        log(tagged)
    with pytest.raises(CatalogError, match="journal that is not its own"):
        log(tagged, catalog=tagged / CATALOG)
    assert kept(outside)
    assert journal.exists()


def test_a_dry_run_leaves_a_journal_that_names_another_file_unread(tagged, outside):
    journal = hostile_journal(tagged / CATALOG, outside / "victim.txt")

    tag(tagged, dry_run=True)

    assert kept(outside)
    assert journal.exists()


def test_a_journal_that_is_the_catalog_under_another_name_is_refused(tagged):
    os.link(tagged / CATALOG, tagged / ".sdprep" / "catalog.sqlite-journal")

    with pytest.raises(CatalogError, match="journal that is not its own"):
        log(tagged)


def test_the_journal_of_a_catalog_that_a_crash_left_is_used(tagged):
    """What SQLite leaves when it dies within a change: the change is taken back, and the catalog is whole."""
    script = (
        "import os, sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "db.execute('PRAGMA journal_mode = DELETE'); db.execute('PRAGMA cache_size = 1'); db.execute('BEGIN');"
        "db.execute('DELETE FROM runs'); db.execute('DELETE FROM journal'); db.execute('DELETE FROM texts');"
        "db.execute('CREATE TABLE more (a)'); db.execute('INSERT INTO more VALUES (zeroblob(100000))'); os._exit(0)"
    )
    os.spawnl(os.P_WAIT, sys.executable, sys.executable, "-c", script, str(tagged / CATALOG))
    assert (tagged / ".sdprep" / "catalog.sqlite-journal").stat().st_size > 0

    assert [entry.changed for entry in log(tagged)] == [3]


# Links out of the folder


def test_a_folder_of_the_catalog_that_is_a_link_is_refused(album, outside):
    (album / ".sdprep").symlink_to(outside)

    with pytest.raises(CatalogError, match=r"\.sdprep is a link.*--catalog"):
        tag(album)
    assert kept(outside)


@pytest.mark.parametrize("name", ["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-journal"])
@pytest.mark.parametrize("target", ["victim.txt", "new.txt"])
def test_a_file_of_the_catalog_that_is_a_link_is_refused(album, outside, name, target):
    (album / ".sdprep").mkdir()
    (album / ".sdprep" / name).symlink_to(outside / target)

    with pytest.raises(CatalogError, match=r"is a link.*--catalog"):
        tag(album)
    assert kept(outside)


@pytest.mark.parametrize("target", ["victim.txt", "new.txt"])
def test_shared_memory_that_is_a_link_is_not_followed(tagged, outside, target):
    (tagged / ".sdprep" / "catalog.sqlite-shm").symlink_to(outside / target)

    assert counts(tag(tagged)) == {"current": 3}
    assert kept(outside)


def test_a_lock_that_is_a_link_is_refused(album, outside):
    (album / ".sdprep").mkdir()
    (album / ".sdprep" / "catalog.sqlite.lock").symlink_to(outside / "victim.txt")

    with pytest.raises(CatalogError, match="is a link"):
        tag(album)
    assert kept(outside)


def test_a_gitignore_that_is_a_link_to_nothing_makes_no_file(album, outside):
    (album / ".sdprep").mkdir()
    (album / ".sdprep" / ".gitignore").symlink_to(outside / "new.py")

    assert counts(tag(album)) == {"written": 3}
    assert kept(outside)


def test_a_catalog_that_a_user_names_may_be_a_link(album, tmp_path):
    (tmp_path / "fast").mkdir()
    named = tmp_path / "mine.sqlite"
    named.symlink_to(tmp_path / "fast" / "real.sqlite")

    assert counts(tag(album, catalog=named)) == {"written": 3}
    assert counts(tag(album, catalog=named)) == {"current": 3}
    assert (tmp_path / "fast" / "real.sqlite").exists()


@pytest.mark.parametrize("name", ["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-journal"])
def test_a_file_of_the_catalog_that_is_a_pipe_is_not_waited_for(tagged, name):
    (tagged / ".sdprep" / name).unlink(missing_ok=True)
    os.mkfifo(tagged / ".sdprep" / name)

    assert "is not a regular file" in refused_in_time("tag", tagged, "--model", "demo-tag", "--workers", "0")


# Files that --catalog names


@pytest.mark.parametrize("content", [b"", b"# Notes\n", b"# Notes\n" * 5000], ids=["empty", "short", "long"])
def test_a_file_that_is_not_a_catalog_is_refused_and_nothing_is_created_next_to_it(album, tmp_path, content):
    (tmp_path / "mine").mkdir()
    file = tmp_path / "mine" / "notes.md"
    file.write_bytes(content)

    with pytest.raises(CatalogError, match=r"notes\.md is not a catalog"):
        tag(album, catalog=file)
    assert everything(tmp_path / "mine") == {"notes.md": content}


def test_an_empty_file_whose_name_is_that_of_a_database_becomes_a_catalog(album, tmp_path):
    (tmp_path / "new.sqlite").touch()

    assert counts(tag(album, catalog=tmp_path / "new.sqlite")) == {"written": 3}


def test_the_lock_file_of_another_program_is_neither_emptied_nor_in_the_way(album, tmp_path):
    (tmp_path / "poetry.lock").write_text("x\n", encoding="utf-8")

    assert counts(tag(album, catalog=tmp_path / "poetry")) == {"written": 3}
    assert (tmp_path / "poetry.lock").read_text(encoding="utf-8") == "x\n"


# What the journal of a catalog says was begun


def open_intent(folder, key=None, uid=None):
    """The first change of the last run, as a run leaves it that dies; of another file or run, if so said."""
    with closing(sqlite3.connect(folder / CATALOG, isolation_level=None)) as db:
        db.execute("UPDATE journal SET status = 'intent' WHERE key = 'a.txt'")
        if key is not None:
            db.execute("UPDATE journal SET checksum = NULL, key = ? WHERE key = 'a.txt'", (key,))
        if uid is not None:
            db.execute("UPDATE runs SET uid = ?", (uid,))
        return db.execute(
            "SELECT uid, journal.id FROM journal JOIN runs ON runs.id = run WHERE status = 'intent'"
        ).fetchone()


def status(folder):
    with closing(sqlite3.connect(folder / CATALOG)) as db:
        return db.execute("SELECT status FROM journal WHERE id = 1").fetchone()[0]


@pytest.mark.parametrize(
    "key", ["../outside/victim.txt", "sub/../../outside/victim.txt", "ABSOLUTE", "link/victim.txt"]
)
@pytest.mark.parametrize("command", ["log", "tag", "undo", "retry"])
def test_no_change_that_was_begun_outside_the_folder_of_a_catalog_is_settled(tagged, outside, key, command):
    (tagged / "link").symlink_to(outside)
    uid, row = open_intent(tagged, str(outside / "victim.txt") if key == "ABSOLUTE" else key)
    temporary = outside / f".sdprep-{uid}-{row}.tmp"
    temporary.touch()

    {"log": log, "tag": tag, "undo": undo, "retry": retry}[command](tagged)

    assert temporary.exists()
    assert status(tagged) == "intent"


def test_a_change_that_was_begun_anywhere_is_settled_for_a_catalog_that_a_user_names(tagged, outside):
    uid, row = open_intent(tagged, str(outside / "victim.txt"))
    temporary = outside / f".sdprep-{uid}-{row}.tmp"
    temporary.touch()

    retry(tagged, catalog=tagged / CATALOG)

    assert kept(outside)
    assert status(tagged) == "unclear"


def test_a_change_that_was_begun_in_a_folder_is_settled_with_a_catalog_elsewhere(album, tmp_path):
    named = tmp_path / "place" / "named.sqlite"
    tag(album, catalog=named)
    with closing(sqlite3.connect(named, isolation_level=None)) as db:
        db.execute("UPDATE journal SET status = 'intent'")

    tag(album, catalog=named)

    with closing(sqlite3.connect(named)) as db:
        assert db.execute("SELECT DISTINCT status FROM journal").fetchall() == [("done",)]


@pytest.mark.parametrize("uid", ["x/../y", "/etc/x", "..", "a\nb", ""])
def test_a_run_of_a_name_that_sdprep_does_not_give_is_not_settled(tagged, uid):
    open_intent(tagged, uid=uid)

    assert len(log(tagged)) == 1
    tag(tagged)
    assert status(tagged) == "intent"


@pytest.fixture
def piped(tagged):
    """The album after a run, with a pipe in the place of its first text."""
    (tagged / "a.txt").unlink()
    os.mkfifo(tagged / "a.txt")
    return tagged


@pytest.mark.parametrize("command", ["log", "merge"])
def test_a_change_of_what_is_now_a_pipe_holds_nobody_up(piped, command):
    open_intent(piped)

    done = run_cli(command, piped)

    assert "Traceback" not in done.stderr
    assert status(piped) == "intent"


def test_undo_names_a_text_that_is_now_a_pipe_and_does_the_rest(piped):
    done = run_cli("undo", "--dir", piped, "--json")

    assert done.returncode == 3
    report = json.loads(done.stdout)
    assert (report["written"], report["failed"]) == (2, 1)
    assert [each["code"] for each in report["failures"]] == ["unreadable"]


def test_restore_refuses_a_text_that_is_now_a_pipe(piped):
    assert "not a regular file" in refused_in_time("restore", piped / "a.txt")


def test_merge_refuses_an_output_that_is_a_pipe(tagged):
    os.mkfifo(tagged / "metadata.json")

    assert "not a regular file" in refused_in_time("merge", tagged)


def test_merge_refuses_an_output_that_is_a_device(tagged):
    # A terminal rather than /dev/zero: were it read, the test would wait, and not eat the memory of the machine.
    ends = os.openpty()
    try:
        said = refused_in_time("merge", tagged, "-o", os.ttyname(ends[1]), code=2)
        assert "a metadata file ends in .json" in said
    finally:
        for end in ends:
            os.close(end)
