"""Other programs, people and other runs of sdprep work in the same folder at the same time."""

import os
import shutil

import pytest

from sdprep.errors import CatalogFailed
from sdprep.tasks.history.runs import log
from sdprep.tasks.history.undo import undo
from tests.stories.telling import (
    STRICT,
    at_replace,
    codes,
    counts,
    leftovers,
    tag,
    texts,
    while_the_model_looks,
    write,
)


def test_a_text_that_appears_while_the_model_looks_is_kept_and_named(album, monkeypatch):
    while_the_model_looks(monkeypatch, lambda: write(album / "b.txt", "mine"))

    report = tag(album)

    assert counts(report) == {"written": 2, "kept": 1}
    assert report.kept_paths == ["b.png"]
    assert (album / "b.txt").read_bytes() == b"mine"


def test_a_text_that_appeared_in_the_last_moment_stays_the_users(album, monkeypatch):
    while_the_model_looks(monkeypatch, lambda: write(album / "b.txt", "mine"))
    tag(album)

    assert tag(album, threshold=STRICT).kept_paths == ["b.png"]


@pytest.mark.parametrize("existing", ["overwrite", "append", "prepend"])
def test_a_text_edited_while_the_model_looks_is_kept_whatever_was_asked_for(album, monkeypatch, existing):
    write(album / "b.txt", "mine")
    while_the_model_looks(monkeypatch, lambda: write(album / "b.txt", "mine, and more"))

    report = tag(album, existing=existing)

    assert counts(report) == {"written": 2, "kept": 1}
    assert (album / "b.txt").read_bytes() == b"mine, and more"


def test_an_edit_while_the_model_looks_that_keeps_size_and_time_is_kept(album, monkeypatch):
    path = write(album / "b.txt", "mine")
    stat = path.stat()

    def edit():
        write(path, "MINE")
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    while_the_model_looks(monkeypatch, edit)

    tag(album, existing="overwrite")

    assert path.read_bytes() == b"MINE"


def test_machine_text_edited_between_look_and_write_is_kept(tagged, monkeypatch):
    at_replace(monkeypatch, "a.txt", lambda *_, **__: write(tagged / "b.txt", "mine"))

    report = tag(tagged, threshold=STRICT)

    assert counts(report) == {"written": 2, "kept": 1}
    assert (tagged / "b.txt").read_bytes() == b"mine"


def test_a_text_kept_in_the_last_moment_is_not_undone(album, monkeypatch):
    while_the_model_looks(monkeypatch, lambda: write(album / "b.txt", "mine"))
    tag(album)

    undo(album)

    assert texts(album) == {"b.txt": b"mine"}


def test_undo_leaves_a_file_alone_that_is_edited_in_the_last_moment(album, monkeypatch):
    for name in ("a", "b", "c"):
        write(album / f"{name}.txt", f"mine, {name}")
    tag(album, existing="overwrite")
    at_replace(monkeypatch, "a.txt", lambda *_, **__: write(album / "b.txt", "an edit"))

    report = undo(album)

    assert counts(report) == {"written": 2, "failed": 1}
    assert texts(album) == {"a.txt": b"mine, a", "b.txt": b"an edit", "c.txt": b"mine, c"}


def test_reading_the_log_while_a_run_writes_does_it_no_harm(album, monkeypatch):
    at_replace(monkeypatch, "b.txt", lambda *_, **__: log(album))

    report = tag(album)

    assert counts(report) == {"written": 3}
    assert leftovers(album) == []


# A folder that goes away


def test_a_subfolder_that_is_deleted_while_the_model_looks_stays_away_and_the_others_go_on(
    album, drawings, monkeypatch
):
    (album / "sub").mkdir()
    (album / "sub" / "d.png").write_bytes(drawings[3])
    while_the_model_looks(monkeypatch, lambda: shutil.rmtree(album / "sub"))

    report = tag(album)

    assert codes(report) == {"sub/d.png": "unreadable"}
    assert list(texts(album)) == ["a.txt", "b.txt", "c.txt"]
    assert not (album / "sub").exists()


def test_a_folder_of_images_that_is_deleted_while_the_model_looks_stays_away_and_that_is_reported(album, monkeypatch):
    while_the_model_looks(monkeypatch, lambda: shutil.rmtree(album))

    with pytest.raises(CatalogFailed, match="was deleted, moved or replaced"):
        tag(album)
    assert not album.exists()
