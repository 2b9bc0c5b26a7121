"""Where the catalog lies, and what happens to a dataset that moves, splits, or loses its catalog."""

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from sdprep.catalog.session import catalogs_below, find_catalog
from sdprep.errors import CatalogError, CatalogFailed
from sdprep.tasks.history.runs import log
from sdprep.tasks.history.undo import undo
from tests.stories.telling import (
    CATALOG,
    STRICT,
    counts,
    everything,
    hide_models,
    renew_times,
    tag,
    texts,
    watch_model,
    write,
)


@pytest.fixture
def nested(album, drawings):
    """The album with a subfolder of two more images."""
    (album / "sub").mkdir()
    for name, data in (("d.png", drawings[3]), ("e.png", drawings[4])):
        (album / "sub" / name).write_bytes(data)
    return album


def catalogs(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("catalog.sqlite"))


# One catalog


def test_a_catalog_is_made_in_the_folder_of_the_run(nested):
    tag(nested)

    assert catalogs(nested) == [".sdprep/catalog.sqlite"]


def test_git_is_told_to_ignore_the_catalog(tagged):
    assert (tagged / ".sdprep" / ".gitignore").read_bytes() == b"*\n"


def test_the_catalog_tells_its_schema_version(tagged):
    with closing(sqlite3.connect(tagged / CATALOG)) as database:
        assert database.execute("PRAGMA user_version").fetchone()[0] >= 1


# Subfolders


def test_a_run_on_a_subfolder_uses_the_catalog_of_its_parent(nested, monkeypatch):
    tag(nested)
    hide_models(monkeypatch)

    report = tag(nested / "sub", threshold=STRICT)

    assert counts(report) == {"written": 2}
    assert catalogs(nested) == [".sdprep/catalog.sqlite"]


def test_a_run_on_a_parent_uses_the_catalog_of_a_subfolder_for_its_images(nested, monkeypatch):
    tag(nested / "sub")
    seen = watch_model(monkeypatch)

    report = tag(nested)

    assert seen == [3]
    assert counts(report) == {"written": 3, "current": 2}
    assert catalogs(nested) == [".sdprep/catalog.sqlite", "sub/.sdprep/catalog.sqlite"]


def test_another_threshold_from_the_parent_rewrites_the_images_of_both_catalogs(nested, monkeypatch):
    tag(nested / "sub")
    tag(nested)
    hide_models(monkeypatch)

    assert counts(tag(nested, threshold=STRICT)) == {"written": 5}


def test_undo_from_the_parent_takes_a_run_over_two_catalogs_back(nested):
    tag(nested / "sub")
    tag(nested)
    before = texts(nested)
    tag(nested, threshold=STRICT)

    report = undo(nested)

    assert counts(report) == {"written": 5}
    assert texts(nested) == before


def test_undoing_the_undo_over_two_catalogs_gives_the_work_back(nested):
    tag(nested / "sub")
    tag(nested)
    tag(nested, threshold=STRICT)
    after = texts(nested)
    undo(nested)

    undo(nested)

    assert texts(nested) == after


def test_the_log_shows_a_run_over_two_catalogs_once(nested):
    tag(nested / "sub")
    tag(nested)
    tag(nested, threshold=STRICT)

    assert [entry.changed for entry in log(nested)] == [2, 3, 5]


def test_the_log_of_a_subfolder_shows_what_its_own_catalog_knows(nested):
    tag(nested / "sub")
    tag(nested)

    assert [entry.changed for entry in log(nested / "sub")] == [2]


# Not above the home folder, not on another file system


@pytest.fixture
def beneath(tmp_path, monkeypatch, drawings):
    """A folder in the home folder, above which an image was tagged."""
    home = tmp_path / "people" / "me"
    folder = home / "set"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(drawings[0])
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    return folder


def test_a_catalog_above_the_home_folder_is_not_used(beneath, tmp_path, drawings):
    (tmp_path / "people" / "theirs.png").write_bytes(drawings[1])
    tag(tmp_path / "people", recursive=False)

    tag(beneath)

    assert (beneath / CATALOG).is_file()


def test_a_catalog_in_the_home_folder_is_used(beneath, drawings):
    (beneath.parent / "mine.png").write_bytes(drawings[1])
    tag(beneath.parent, recursive=False)

    tag(beneath)

    assert not (beneath / CATALOG).exists()


def test_a_catalog_above_a_home_folder_that_is_a_link_is_not_used(beneath, tmp_path, drawings, monkeypatch):
    (tmp_path / "people" / "theirs.png").write_bytes(drawings[1])
    tag(tmp_path / "people", recursive=False)
    (tmp_path / "link").symlink_to(beneath.parent, target_is_directory=True)
    monkeypatch.setenv("HOME", str(tmp_path / "link"))

    tag(tmp_path / "link" / "set")

    assert (beneath / CATALOG).is_file()


def test_a_catalog_on_another_file_system_is_not_used(nested, monkeypatch):
    tag(nested, recursive=False)
    real, mounted = Path.stat, nested / "sub"

    def stat(self, **options):
        found = real(self, **options)
        if not self.is_relative_to(mounted):
            return found
        fields = {name: getattr(found, name) for name in dir(found) if name.startswith("st_")}
        return SimpleNamespace(**{**fields, "st_dev": found.st_dev + 1})

    monkeypatch.setattr(Path, "stat", stat)

    tag(mounted)

    assert (mounted / CATALOG).is_file()


# A dataset that moves


def test_a_moved_dataset_is_current_without_the_model(tagged, tmp_path, monkeypatch):
    moved = Path(shutil.move(tagged, tmp_path / "elsewhere"))
    before = texts(moved)
    hide_models(monkeypatch)

    report = tag(moved)

    assert counts(report) == {"current": 3}
    assert texts(moved) == before


def test_a_copy_with_new_times_is_current_without_the_model(tagged, tmp_path, monkeypatch):
    copy = Path(shutil.copytree(tagged, tmp_path / "copy"))
    renew_times(copy)
    hide_models(monkeypatch)

    assert counts(tag(copy)) == {"current": 3}


def test_a_moved_dataset_follows_another_threshold_without_the_model(tagged, tmp_path, monkeypatch):
    moved = Path(shutil.move(tagged, tmp_path / "elsewhere"))
    hide_models(monkeypatch)

    assert counts(tag(moved, threshold=STRICT)) == {"written": 3}


def test_undo_works_in_a_moved_dataset(album, tmp_path):
    write(album / "a.txt", "mine")
    tag(album, existing="overwrite")
    moved = Path(shutil.move(album, tmp_path / "elsewhere"))

    undo(moved)

    assert texts(moved) == {"a.txt": b"mine"}


def test_a_run_in_a_copy_leaves_the_original_alone(tagged, tmp_path):
    copy = Path(shutil.copytree(tagged, tmp_path / "copy"))
    before = everything(tagged)

    tag(copy, threshold=STRICT)

    assert everything(tagged) == before


# A catalog that is lost


@pytest.fixture
def forgotten(tagged):
    """The tagged album with an edited text, after its catalog was deleted."""
    write(tagged / "b.txt", "mine")
    shutil.rmtree(tagged / ".sdprep")
    return tagged


def test_without_its_catalog_every_text_is_kept(forgotten, monkeypatch):
    before = texts(forgotten)
    hide_models(monkeypatch)

    report = tag(forgotten, threshold=STRICT)

    assert counts(report) == {"kept": 3}
    assert texts(forgotten) == before


def test_without_its_catalog_refresh_adopts_the_machines_texts_and_keeps_a_users(forgotten):
    before = texts(forgotten)

    report = tag(forgotten, refresh=True)

    assert counts(report) == {"current": 2, "kept": 1}
    assert report.kept_paths == ["b.png"]
    assert texts(forgotten) == before


def test_adopted_texts_follow_another_threshold_again(forgotten):
    tag(forgotten, refresh=True)

    report = tag(forgotten, threshold=STRICT)

    assert counts(report) == {"written": 2, "kept": 1}
    assert (forgotten / "b.txt").read_bytes() == b"mine"


def test_without_its_catalog_there_is_nothing_to_undo(forgotten):
    with pytest.raises(CatalogError):
        undo(forgotten)


# Places that cannot be looked at


@pytest.fixture
def deep(tagged):
    """The tagged album with folders whose paths are as long as this system can have, and longer."""
    here = Path.cwd()
    try:
        os.chdir(tagged)
        for _ in range(2100):
            Path("d").mkdir()
            os.chdir("d")
    finally:
        os.chdir(here)
    yield tagged
    # Deeper than shutil goes.
    subprocess.run(["rm", "-rf", tagged / "d"], check=True)


@pytest.mark.skipif(sys.platform == "win32", reason="paths as long as these")
def test_folders_deeper_than_any_path_hide_no_catalog(deep):
    assert [entry.changed for entry in log(deep)] == [3]
    assert list(catalogs_below(deep)) == [deep / CATALOG]


def test_a_path_that_is_too_long_for_a_catalog_has_none(tmp_path):
    assert find_catalog(tmp_path / ("x" * 300)) is None


@pytest.mark.parametrize("look", [find_catalog, lambda folder: list(catalogs_below(folder))])
def test_a_place_that_may_not_be_looked_at_is_named(tagged, monkeypatch, look):
    real = Path.stat

    def stat(self, **options):
        if self.name == "catalog.sqlite":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return real(self, **options)

    monkeypatch.setattr(Path, "stat", stat)
    with pytest.raises(CatalogFailed, match=r"catalog\.sqlite cannot be accessed: Permission denied"):
        look(tagged)


@pytest.mark.skipif(sys.platform == "win32", reason="about HOME")
@pytest.mark.parametrize("home", [None, "", "relative"])
def test_without_a_home_folder_catalogs_are_found(tagged, monkeypatch, home):
    if home is None:
        monkeypatch.delenv("HOME")
        pwd = pytest.importorskip("pwd")

        def getpwuid(_):
            raise KeyError("nobody knows this user")

        monkeypatch.setattr(pwd, "getpwuid", getpwuid)
    else:
        monkeypatch.setenv("HOME", home)

    assert find_catalog(tagged) == tagged / CATALOG
