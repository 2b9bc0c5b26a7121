"""A folder in which nothing can be written is found out before a model is loaded, with advice."""

import errno
import json
import os
import subprocess
from pathlib import Path

import pytest

from sdprep.config import MergeSettings, PathOptions
from sdprep.errors import ReadOnlyFolder
from sdprep.folders import write_obstacle
from sdprep.tasks.dataset import Dataset
from sdprep.tasks.merge import merge
from tests.stories.telling import CATALOG, PYTHON, ROOT, caption, codes, counts, everything, hide_models, tag, texts
from tests.stories.test_full_disks import NAMESPACE, small_disk

READ_ONLY = [errno.EROFS, errno.EACCES, errno.EPERM]


@pytest.fixture
def locked(monkeypatch):
    """Makes folders read-only for this process, also for root: files in them cannot be made or opened for writing."""
    folders = []
    open_file, make_folder = os.open, Path.mkdir

    def check(path, dir_fd=None):
        for folder, code in folders:
            below = [folder, *folder.rglob("*/")]
            if (dir_fd is None and Path(path).is_relative_to(folder)) or (
                dir_fd is not None and any(os.path.samestat(os.fstat(dir_fd), each.stat()) for each in below)
            ):
                raise OSError(code, os.strerror(code), str(path))

    def opening(path, flags, *rest, dir_fd=None):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            check(path, dir_fd)
        return open_file(path, flags, *rest, dir_fd=dir_fd)

    def making(self, *args, **options):
        if not self.exists():
            check(self)
        return make_folder(self, *args, **options)

    monkeypatch.setattr(os, "open", opening)
    monkeypatch.setattr(Path, "mkdir", making)
    return lambda folder, code=errno.EROFS: folders.append((folder, code))


@pytest.mark.parametrize("code", READ_ONLY, ids=[errno.errorcode[code] for code in READ_ONLY])
@pytest.mark.parametrize("command", [tag, caption])
def test_no_model_is_loaded_for_a_folder_that_is_read_only(album, monkeypatch, locked, command, code):
    hide_models(monkeypatch)
    locked(album, code)

    with pytest.raises(ReadOnlyFolder, match=r"album.* cannot be written .*--output-dir"):
        command(album)


def test_a_folder_that_has_become_read_only_is_found_out_before_the_model(tagged, drawings, monkeypatch, locked):
    (tagged / "d.png").write_bytes(drawings[3])
    hide_models(monkeypatch)
    locked(tagged)

    with pytest.raises(ReadOnlyFolder, match="--output-dir"):
        tag(tagged)


def test_a_named_catalog_elsewhere_does_not_hide_that_the_folder_is_read_only(album, tmp_path, monkeypatch, locked):
    hide_models(monkeypatch)
    locked(album)

    with pytest.raises(ReadOnlyFolder, match="--output-dir"):
        tag(album, catalog=tmp_path / "elsewhere" / "catalog.sqlite")


def test_the_advice_works(album, tmp_path, locked):
    before = everything(album)
    locked(album)

    assert counts(tag(album, output_dir=tmp_path / "out")) == {"written": 3}
    assert everything(album) == before
    assert list(texts(tmp_path / "out")) == ["a.txt", "b.txt", "c.txt"]


def test_images_of_a_subfolder_that_is_read_only_fail_and_the_others_go_on(album, drawings, locked):
    (album / "sub").mkdir()
    (album / "sub" / "d.png").write_bytes(drawings[3])
    locked(album / "sub")

    report = tag(album)

    assert codes(report) == {"sub/d.png": "unwritable"}
    assert counts(report) == {"written": 3, "failed": 1}
    assert report.predicted == 3


def test_images_of_a_read_only_folder_are_tried_again_by_the_next_run(album, drawings, locked, monkeypatch):
    (album / "sub").mkdir()
    (album / "sub" / "d.png").write_bytes(drawings[3])
    locked(album / "sub")
    tag(album)
    monkeypatch.undo()

    assert counts(tag(album)) == {"written": 1, "current": 3}


def test_merge_finds_out_before_it_reads_an_image(album, monkeypatch, locked):
    monkeypatch.setattr(Dataset, "read", lambda *_: pytest.fail("images were read"))
    locked(album)

    with pytest.raises(ReadOnlyFolder, match="--output-dir"):
        merge(album)


def test_merge_finds_out_that_its_output_cannot_be_written_before_it_reads_a_image(
    album, tmp_path, monkeypatch, locked
):
    monkeypatch.setattr(Dataset, "read", lambda *_: pytest.fail("images were read"))
    (tmp_path / "out").mkdir()
    locked(tmp_path / "out")

    with pytest.raises(ReadOnlyFolder, match=r"out cannot be written .*-o FILE"):
        merge(album, MergeSettings(output=tmp_path / "out" / "m.json", paths=PathOptions()))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_this_user_may_not_write_is_found_out(album, monkeypatch):
    hide_models(monkeypatch)
    album.chmod(0o555)
    try:
        with pytest.raises(ReadOnlyFolder, match="--output-dir"):
            tag(album)
    finally:
        album.chmod(0o755)


def test_looking_leaves_nothing_behind(tmp_path):
    assert write_obstacle(tmp_path / "not", tmp_path / "not" / "there") is None
    assert list(tmp_path.iterdir()) == []


# Looking at a dataset on a read-only disk


def on_a_read_only_disk(folder, *words):
    """What a command said there."""
    program = [PYTHON, "-m", "tests.stories.read_only", str(folder), *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([*NAMESPACE, *program], cwd=ROOT, env=environment, capture_output=True, text=True)


LOOKS = {
    "log": ["log", "."],
    "tag": ["tag", ".", "--model", "demo-tag", "--dry-run"],
    "merge": ["merge", ".", "--dry-run"],
}


@small_disk
@pytest.mark.parametrize("look", LOOKS)
def test_a_tagged_dataset_on_a_read_only_disk_can_be_looked_at(tagged, look):
    before = everything(tagged)

    done = on_a_read_only_disk(tagged, *LOOKS[look])

    assert (done.returncode, "cannot be used" in done.stderr) == (0, False), done.stderr
    assert everything(tagged) == before


@small_disk
def test_what_the_catalog_knows_is_known_on_a_read_only_disk(tagged):
    done = on_a_read_only_disk(tagged, *LOOKS["tag"], "--json")

    assert json.loads(done.stdout)["current"] == 3, done.stderr


@small_disk
def test_a_read_only_disk_with_a_run_that_was_interrupted_says_what_to_do(tagged):
    (tagged / f"{CATALOG}-wal").write_bytes(b"log")

    done = on_a_read_only_disk(tagged, *LOOKS["log"])

    assert done.returncode == 1
    assert "is read-only, and the last run there did not finish. Make the folder writable" in done.stderr
