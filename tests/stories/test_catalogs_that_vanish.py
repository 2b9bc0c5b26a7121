"""A catalog that is deleted, moved or replaced while a command is at work with it."""

import shutil
import sqlite3
from contextlib import closing

import pytest

from sdprep.errors import CatalogFailed
from sdprep.tasks.history import undo as history
from sdprep.tasks.history.undo import undo
from tests.stories.telling import CATALOG, STRICT, counts, hide_models, leftovers, tag, texts, while_the_model_looks


def delete_folder(album):
    shutil.rmtree(album / ".sdprep")


def move_folder(album):
    (album / ".sdprep").rename(album / "moved")


def delete_files(album):
    for path in (album / ".sdprep").glob("catalog.sqlite*"):
        path.unlink()


def replace_folder(album):
    delete_folder(album)
    (album / ".sdprep").mkdir()


def replace_file(album):
    file = album / CATALOG
    copy = file.with_name("copy")
    copy.write_bytes(file.read_bytes())
    copy.replace(file)


def put_a_link(album):
    (album / ".sdprep").rename(album / "moved")
    (album / ".sdprep").symlink_to(album)


WAYS = [delete_folder, move_folder, delete_files, replace_folder, replace_file, put_a_link]


@pytest.mark.parametrize("vanish", WAYS)
def test_a_catalog_that_is_gone_during_a_run_is_noticed_before_the_next_text_is_written(album, monkeypatch, vanish):
    (album / "a.txt").write_bytes(b"mine")
    before = texts(album)
    with monkeypatch.context() as patch:
        while_the_model_looks(patch, lambda: vanish(album))
        with pytest.raises(CatalogFailed, match=r"catalog\.sqlite was deleted, moved or replaced"):
            tag(album, existing="overwrite")

    assert texts(album) == before
    assert leftovers(album) == []


@pytest.mark.parametrize("vanish", WAYS[:-1])
def test_the_next_run_does_the_work(album, monkeypatch, vanish):
    with monkeypatch.context() as patch:
        while_the_model_looks(patch, lambda: vanish(album))
        with pytest.raises(CatalogFailed):
            tag(album)

    assert counts(tag(album)) == {"written": 3}


def test_a_run_without_a_model_notices_too(tagged, monkeypatch):
    before = texts(tagged)
    hide_models(monkeypatch)
    real = history.Catalog.results

    def results(self, *wanted):
        if (tagged / ".sdprep").exists():
            delete_folder(tagged)
        return real(self, *wanted)

    monkeypatch.setattr(history.Catalog, "results", results)
    with pytest.raises(CatalogFailed, match="was deleted, moved or replaced"):
        tag(tagged, threshold=STRICT)
    assert texts(tagged) == before


@pytest.mark.parametrize("vanish", WAYS)
def test_an_undo_whose_catalog_is_gone_during_a_run_is_told(tagged, monkeypatch, vanish):
    before = texts(tagged)
    real = history._undo_steps

    def undo_steps(*args, **options):
        vanish(tagged)
        real(*args, **options)

    monkeypatch.setattr(history, "_undo_steps", undo_steps)
    with pytest.raises(CatalogFailed, match="was deleted, moved or replaced"):
        undo(tagged)
    assert texts(tagged) == before


def test_without_a_log_a_catalog_that_is_gone_is_noticed_too(tagged, monkeypatch):
    with closing(sqlite3.connect(tagged / CATALOG)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
    before = texts(tagged)
    while_the_model_looks(monkeypatch, lambda: delete_folder(tagged))

    with pytest.raises(CatalogFailed, match="was deleted, moved or replaced"):
        tag(tagged, threshold=STRICT, refresh=True)
    assert texts(tagged) == before
