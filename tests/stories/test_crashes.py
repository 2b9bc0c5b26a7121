"""Runs that die: what they leave is understood by the next run and by undo, and no text is ever lost."""

import errno
import os
import sqlite3
import subprocess
from contextlib import closing

import pytest

from sdprep.errors import SdprepError
from sdprep.tasks.history.restore import file_versions, restore
from sdprep.tasks.history.runs import log
from sdprep.tasks.history.undo import undo
from tests.stories.telling import (
    CATALOG,
    PYTHON,
    ROOT,
    STRICT,
    at_replace,
    counts,
    everything,
    hide_models,
    leftovers,
    tag,
    texts,
    write,
)

# Dies at once when b.txt is about to be replaced ("before"), or has just been ("after"); the order is one of tag's
# stated settings, or an undo.
DYING = """
import os, sys
from pathlib import Path
from sdprep.tasks.history.undo import undo
from tests.stories.telling import tag
folder, moment, order = Path(sys.argv[1]), sys.argv[2], eval(sys.argv[3])
real = os.replace
def replace(source, target, **folders):
    dying = Path(target).name == "b.txt"
    if moment == "after" or not dying:
        real(source, target, **folders)
    if dying:
        os._exit(9)
os.replace = replace
undo(folder, *order) if isinstance(order, tuple) else tag(folder, **order)
"""
MOMENTS = pytest.mark.parametrize("moment", ["before", "after"])


def die(folder, moment, order):
    done = subprocess.run([PYTHON, "-c", DYING, str(folder), moment, repr(order)], cwd=ROOT, check=False)
    assert done.returncode == 9


@pytest.fixture
def persons(album):
    """The album with a text of the user's for every image."""
    for name in ("a", "b", "c"):
        write(album / f"{name}.txt", f"mine, {name}")
    return album


# Killed


@MOMENTS
def test_the_run_after_a_killed_one_ends_what_it_began_without_the_model(album, moment, monkeypatch):
    die(album, moment, {})
    there = len(texts(album))
    hide_models(monkeypatch)

    report = tag(album)

    assert there == {"before": 1, "after": 2}[moment]
    assert counts(report) == {"written": 3 - there, "current": there}


@MOMENTS
def test_what_a_killed_run_wrote_is_sdpreps(album, moment, monkeypatch):
    die(album, moment, {})
    hide_models(monkeypatch)

    assert counts(tag(album, threshold=STRICT)) == {"written": 3}


@MOMENTS
def test_no_temporary_file_stays_after_the_next_run(album, moment):
    die(album, moment, {})

    tag(album)

    assert leftovers(album) == []


@MOMENTS
def test_no_temporary_file_stays_after_undo(album, moment):
    die(album, moment, {})

    undo(album)

    assert leftovers(album) == []


@MOMENTS
def test_undo_takes_a_killed_run_back(persons, moment):
    before = texts(persons)
    die(persons, moment, {"existing": "overwrite"})
    assert texts(persons) != before

    undo(persons)

    assert texts(persons) == before


@MOMENTS
def test_undo_of_a_killed_run_works_after_another_run_too(persons, moment):
    before = texts(persons)
    die(persons, moment, {"existing": "overwrite"})
    tag(persons)

    undo(persons, log(persons)[0].uid)

    assert texts(persons) == before


def test_the_log_shows_that_a_killed_run_did_not_end(album):
    die(album, "after", {})

    [entry] = log(album)

    assert entry.ended is None
    assert entry.changed == 2


@MOMENTS
def test_an_undo_that_was_killed_can_be_given_again(persons, moment):
    before = texts(persons)
    tag(persons, existing="overwrite")
    name = log(persons)[0].uid
    die(persons, moment, (name,))

    undo(persons, name)

    assert texts(persons) == before


@MOMENTS
def test_a_text_edited_after_a_killed_run_is_kept(album, moment):
    die(album, moment, {})
    write(album / "b.txt", "mine")

    report = tag(album, threshold=STRICT)

    assert report.kept_paths == ["b.png"]
    assert (album / "b.txt").read_bytes() == b"mine"


def test_a_text_that_a_killed_run_replaced_can_be_restored_although_the_file_was_edited_since(persons):
    die(persons, "after", {"existing": "overwrite"})
    write(persons / "b.txt", "an edit")

    restore(persons / "b.txt", 1)

    assert texts(persons)["b.txt"] == b"mine, b"


def test_a_dry_run_after_a_killed_one_changes_nothing(album):
    die(album, "before", {})
    before = {name: data for name, data in everything(album).items() if not name.startswith(".sdprep/")}

    tag(album, dry_run=True)

    assert {name: data for name, data in everything(album).items() if not name.startswith(".sdprep/")} == before


@pytest.mark.parametrize("look", [log, lambda album: tag(album, dry_run=True)], ids=["log", "dry run"])
def test_looking_after_a_killed_run_changes_nothing_of_the_catalog(album, look):
    die(album, "before", {})
    kept = {path.name: path.read_bytes() for path in (album / CATALOG).parent.iterdir() if path.suffix != ".sqlite-shm"}

    look(album)

    folder = (album / CATALOG).parent
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".sqlite-shm"} == kept


# Interrupted in the midst of a write


def interrupt(*_, **__):
    raise KeyboardInterrupt


def replace_and_interrupt(source, target, **folders):
    os.rename(source, target, **folders)  # noqa: PTH104 - os.replace is what is being watched
    raise KeyboardInterrupt


@pytest.mark.parametrize("act", [interrupt, replace_and_interrupt], ids=["before", "after"])
def test_undo_takes_a_run_back_that_was_interrupted_in_the_midst_of_a_write(persons, act, monkeypatch):
    before = texts(persons)
    at_replace(monkeypatch, "b.txt", act)
    with pytest.raises(KeyboardInterrupt):
        tag(persons, existing="overwrite")

    undo(persons)

    assert texts(persons) == before


@pytest.mark.parametrize("act", [interrupt, replace_and_interrupt], ids=["before", "after"])
def test_what_was_written_before_an_interruption_is_sdpreps(album, act, monkeypatch):
    at_replace(monkeypatch, "b.txt", act)
    with pytest.raises(KeyboardInterrupt):
        tag(album)

    report = tag(album, threshold=STRICT)

    assert counts(report) == {"written": 3}
    assert leftovers(album) == []


# A disk that is full, a file that is held


def refuse(code):
    def act(*_, **__):
        raise OSError(code, os.strerror(code))

    return act


def test_a_full_disk_ends_the_run_and_leaves_every_text_whole(persons, monkeypatch):
    before = texts(persons)
    at_replace(monkeypatch, "b.txt", refuse(errno.ENOSPC), times=2)

    with pytest.raises(SdprepError):
        tag(persons, existing="overwrite")

    assert texts(persons)["b.txt"] == before["b.txt"]
    assert leftovers(persons) == []


def test_undo_after_a_full_disk_gives_the_texts_back(persons, monkeypatch):
    before = texts(persons)
    at_replace(monkeypatch, "b.txt", refuse(errno.ENOSPC), times=2)
    with pytest.raises(SdprepError):
        tag(persons, existing="overwrite")

    undo(persons)

    assert texts(persons) == before


def test_a_disk_that_has_room_again_at_the_second_try_ends_no_run(persons, monkeypatch):
    at_replace(monkeypatch, "b.txt", refuse(errno.ENOSPC))

    assert counts(tag(persons, existing="overwrite")) == {"written": 3}


def test_a_text_that_may_not_be_replaced_fails_and_the_rest_goes_on(persons, monkeypatch):
    at_replace(monkeypatch, "b.txt", refuse(errno.EACCES))

    report = tag(persons, existing="overwrite")

    assert counts(report) == {"written": 2, "failed": 1}
    assert texts(persons)["b.txt"] == b"mine, b"


# The order of a write


def test_the_journal_has_the_intent_before_the_file_is_replaced_from_the_same_folder(persons, monkeypatch):
    seen = []

    def look(source, _, src_dir_fd, dst_dir_fd):
        with closing(sqlite3.connect(persons / CATALOG)) as database:
            rows = database.execute(
                "SELECT old.data, new.data, status FROM journal JOIN texts old ON old.hash = before"
                " JOIN texts new ON new.hash = after WHERE key = 'b.txt'"
            ).fetchall()
        seen.append((os.path.samestat(os.fstat(src_dir_fd), os.fstat(dst_dir_fd)), os.sep not in source, rows))

    at_replace(monkeypatch, "b.txt", look)

    tag(persons, existing="overwrite")

    assert seen == [(True, True, [(b"mine, b", texts(persons)["b.txt"], "intent")])]


def test_after_a_run_no_intent_is_open(persons):
    tag(persons, existing="overwrite")

    with closing(sqlite3.connect(persons / CATALOG)) as database:
        assert database.execute("SELECT DISTINCT status FROM journal").fetchall() == [("done",)]


def test_the_texts_of_a_killed_run_are_listed(persons):
    die(persons, "after", {"existing": "overwrite"})

    assert len(file_versions(persons / "b.txt")) == 2
