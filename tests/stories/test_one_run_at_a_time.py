"""A second run over a folder is refused while one is at work; one that has died holds up nobody."""

import errno
import os
import sqlite3
from contextlib import closing
from functools import partial

import pytest

import sdprep.cli.main
from sdprep.catalog import lock
from sdprep.catalog.session import CatalogSession
from sdprep.config import MergeSettings
from sdprep.errors import FolderInUse
from sdprep.report import NullListener
from sdprep.tasks.history.restore import file_versions, restore
from sdprep.tasks.history.retry import retry
from sdprep.tasks.history.runs import log
from sdprep.tasks.history.undo import undo
from sdprep.tasks.merge import merge
from sdprep.tasks.tag import tag as tag_task
from tests.stories.telling import (
    CATALOG,
    FAKE_CAPTION,
    LOOSE,
    STRICT,
    at_replace,
    caption,
    counts,
    everything,
    hide_models,
    tag,
    tag_settings,
    texts,
    while_the_model_looks,
)
from tests.stories.test_crashes import die


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """The run at work does not end while another one waits in the same process."""
    monkeypatch.setattr(lock, "WAIT", 0.0)


class Heard(NullListener):
    """A listener that keeps what it hears."""

    def __init__(self):
        self.notes = []

    def note(self, message):
        self.notes.append(message)


def refused(monkeypatch, album, act, **settings):
    """What somebody is told who does this while a run with these settings is at work over the album."""
    said = []

    def try_it():
        with pytest.raises(FolderInUse) as caught:
            act(album)
        said.append(str(caught.value))

    while_the_model_looks(monkeypatch, try_it)
    assert counts(tag(album, **settings)) == {"written": 3}
    return said[0]


WRITERS = {
    "tag": tag,
    "caption": partial(caption, model=FAKE_CAPTION),
    "merge": merge,
    "undo": undo,
    "retry": retry,
    "restore": lambda album: restore(album / "a.txt", 2),
}


@pytest.mark.parametrize("command", WRITERS)
def test_a_command_that_writes_is_refused_during_a_run(album, monkeypatch, command):
    said = refused(monkeypatch, album, WRITERS[command])

    assert f"sdprep tag, process {os.getpid()} on " in said


def test_a_run_over_a_subfolder_with_the_same_catalog_is_refused(album, drawings, monkeypatch):
    (album / "sub").mkdir()
    (album / "sub" / "d.png").write_bytes(drawings[3])

    said = refused(monkeypatch, album, lambda folder: tag(folder / "sub"), recursive=False)

    assert "another run is at work" in said


def test_a_run_with_the_same_output_folder_is_refused(album, tmp_path, monkeypatch):
    out = tmp_path / "out"

    assert str(out) in refused(monkeypatch, album, lambda folder: caption(folder, output_dir=out), output_dir=out)


def test_a_run_with_the_same_named_catalog_is_refused(album, tmp_path, monkeypatch):
    named = tmp_path / "named.sqlite"

    assert str(named) in refused(monkeypatch, album, lambda folder: caption(folder, catalog=named), catalog=named)


def test_the_command_line_says_so_and_leaves_with_1(album, monkeypatch, capsys):
    seen = []

    def try_it():
        monkeypatch.setattr("sys.argv", ["sdprep", "undo", "--dir", str(album)])
        with pytest.raises(SystemExit) as left:
            sdprep.cli.main.main()
        seen.append(left.value.code)

    while_the_model_looks(monkeypatch, try_it)
    tag(album)

    assert seen == [1]
    assert "sdprep: error: another run is at work with" in capsys.readouterr().err


def test_the_log_can_be_read_during_a_run(album, monkeypatch):
    at_replace(monkeypatch, "b.txt", lambda *_, **__: log(album))

    assert counts(tag(album)) == {"written": 3}


LOOKS = {
    "log": log,
    "file_versions": lambda folder: file_versions(folder / "a.txt"),
    "a dry run": lambda folder: tag(folder, dry_run=True, threshold=STRICT),
    "a dry run of merge": lambda folder: merge(folder, MergeSettings(dry_run=True)),
}


@pytest.mark.parametrize("look", LOOKS)
def test_a_run_that_starts_while_log_or_a_dry_run_is_at_work_is_not_refused(tagged, monkeypatch, look):
    opened, seen = CatalogSession.at, []

    def at(self, file):
        catalog = opened(self, file)
        if not self._access.mode.writes:
            seen.append(counts(tag(tagged, threshold=LOOSE)))
        return catalog

    with monkeypatch.context() as patch:
        patch.setattr(CatalogSession, "at", at)
        LOOKS[look](tagged)

    assert seen[0] == {"written": 3}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("killed", [False, True], ids=["after a run", "after a kill"])
def test_log_and_a_dry_run_write_nothing(album, look, killed):
    if killed:
        die(album, "after", {})
    else:
        tag(album)
    tag(album, dry_run=True)
    before = settled(album)

    LOOKS[look](album)

    assert settled(album) == before


def settled(album):
    """Every file but the memory that SQLite's processes share, and the catalog as its rows."""
    files = {name: data for name, data in everything(album).items() if "catalog.sqlite" not in name}
    with closing(sqlite3.connect(album / CATALOG)) as db:
        return files, list(db.iterdump())


def test_on_a_file_system_without_locks_a_run_says_that_it_may_not_be_alone(album, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(fcntl, "flock", flock)
    heard = Heard()

    assert counts(tag_task(album, tag_settings({}), listener=heard)) == {"written": 3}
    assert [note for note in heard.notes if "without locks" in note]


def test_a_dry_run_asks_nobody(album, monkeypatch):
    found = []
    while_the_model_looks(monkeypatch, lambda: found.append(tag(album, dry_run=True)))

    tag(album)

    assert counts(found[0]) == {"remaining": 3}


def test_a_refused_run_changes_nothing(album, monkeypatch):
    seen = {}

    def try_it(*_, **__):
        seen["before"] = everything(album)
        with pytest.raises(FolderInUse):
            caption(album)
        seen["after"] = everything(album)

    at_replace(monkeypatch, "a.txt", try_it)
    tag(album)

    assert seen["before"] == seen["after"]


def test_the_run_after_one_that_was_killed_says_so_once_and_is_not_held_up(album):
    die(album, "before", {})
    first, second = Heard(), Heard()

    tag_task(album, tag_settings({}), listener=first)
    tag_task(album, tag_settings({}), listener=second)

    assert [note for note in first.notes if "was killed (sdprep tag, process" in note]
    assert second.notes == []
    assert list(texts(album)) == ["a.txt", "b.txt", "c.txt"]


@pytest.mark.parametrize("command", ["caption", "merge", "undo", "retry", "restore"])
def test_no_command_is_held_up_by_a_run_that_was_killed(album, command):
    die(album, "after", {})

    WRITERS[command](album)


def test_a_run_that_fails_leaves_the_folder_free(album, monkeypatch):
    with monkeypatch.context() as patch:
        hide_models(patch)
        with pytest.raises(AssertionError):
            tag(album)

    assert counts(tag(album)) == {"written": 3}


def test_a_merge_with_nothing_to_write_is_refused_too(album, monkeypatch):
    merge(album, MergeSettings(fields=("image_size",)))

    assert "another run" in refused(monkeypatch, album, merge)
