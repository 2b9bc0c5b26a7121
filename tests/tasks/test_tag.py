"""Scores as a file, and settings that make no sense."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from sdprep.config import CaptionSettings, RunOptions, TagSettings
from sdprep.demo import IMAGES
from sdprep.errors import UsageError, WriteError
from sdprep.files import FILE_LIMIT
from sdprep.rules.labels import TagRules
from sdprep.tasks.annotation import scores
from sdprep.tasks.annotation.scores import check_scores_path
from sdprep.tasks.history.restore import restore
from sdprep.tasks.history.undo import undo
from sdprep.tasks.tag import tag


@pytest.fixture
def folder(tmp_path):
    for name in ("aka.jpg", "sora.webp"):
        shutil.copy(IMAGES / name, tmp_path)
    return tmp_path


def settings(path):
    return TagSettings(model="demo-tag", scores=path, run=RunOptions(workers=0))


def test_scores_have_a_line_for_every_image_in_order(folder):
    tag(folder, settings(folder / "s.jsonl"))
    lines = [json.loads(line) for line in (folder / "s.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == ["aka.jpg", "sora.webp"]


def test_images_whose_tag_files_are_kept_have_scores_too(folder):
    (folder / "aka.txt").write_text("my own words")
    tag(folder, settings(folder / "s.jsonl"))
    lines = [json.loads(line) for line in (folder / "s.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == ["aka.jpg", "sora.webp"]
    assert (folder / "aka.txt").read_text() == "my own words"


def test_scores_are_grouped_by_category(folder):
    tag(folder, settings(folder / "s.jsonl"))
    line = json.loads((folder / "s.jsonl").read_text().splitlines()[0])
    assert (list(line), max(line["character"])) == (["path", "rating", "general", "character"], "aka_(sdprep)")


def test_scores_take_the_place_of_older_scores(folder):
    tag(folder, settings(folder / "s.jsonl"))
    before = (folder / "s.jsonl").read_bytes()
    tag(folder, settings(folder / "s.jsonl"))
    assert (folder / "s.jsonl").read_bytes() == before


def test_lines_of_the_users_that_scores_replace_come_back_by_undo(folder):
    mine = b'{"path": "mine", "note": 1.0}\n'
    (folder / "s.jsonl").write_bytes(mine)
    tag(folder, settings(folder / "s.jsonl"))
    assert (folder / "s.jsonl").read_bytes() != mine

    undo(folder)

    assert (folder / "s.jsonl").read_bytes() == mine
    assert not (folder / "aka.txt").exists()


def test_lines_of_the_users_that_scores_replace_come_back_by_restore(folder):
    tag(folder, TagSettings(model="demo-tag", run=RunOptions(workers=0)))
    mine = b'{"path": "mine"}\n'
    (folder / "s.jsonl").write_bytes(mine)
    tag(folder, settings(folder / "s.jsonl"))

    restore(folder / "s.jsonl")

    assert (folder / "s.jsonl").read_bytes() == mine


def test_scores_that_are_new_are_not_undone_and_leave_no_temporary_file(folder):
    tag(folder, settings(folder / "s.jsonl"))
    before = (folder / "s.jsonl").read_bytes()

    undo(folder)

    assert (folder / "s.jsonl").read_bytes() == before
    assert not list(folder.glob("*.tmp"))


def test_scores_of_no_bytes_are_written_anew(folder):
    (folder / "s.jsonl").touch()
    tag(folder, settings(folder / "s.jsonl"))
    assert len((folder / "s.jsonl").read_text().splitlines()) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_scores_are_not_written_through_a_link_that_leaves_its_folder(folder, tmp_path_factory):
    target = tmp_path_factory.mktemp("elsewhere") / "s.jsonl"
    target.write_text('{"path": "mine"}\n')
    (folder / "s.jsonl").symlink_to(target)
    with pytest.raises(WriteError, match=r"s\.jsonl"):
        tag(folder, settings(folder / "s.jsonl"))
    assert target.read_text() == '{"path": "mine"}\n'


def test_a_file_too_large_to_be_kept_for_undo_is_not_replaced_by_scores(folder):
    with (folder / "s.jsonl").open("wb") as stream:
        stream.write(b'{"path": "mine"}\n')
        stream.truncate(FILE_LIMIT + 1)
    with pytest.raises(UsageError, match="give a name that is not taken"):
        tag(folder, settings(folder / "s.jsonl"))


def test_scores_that_grow_too_large_to_be_kept_replace_nothing(folder, monkeypatch):
    monkeypatch.setattr(scores, "FILE_LIMIT", 100)
    (folder / "s.jsonl").write_text('{"path": "mine"}\n')
    with pytest.raises(UsageError, match="give a name that is not taken"):
        tag(folder, settings(folder / "s.jsonl"))
    assert (folder / "s.jsonl").read_text() == '{"path": "mine"}\n'


@pytest.mark.parametrize("name", ["sora.webp", "sora.txt", "list.json"])
def test_scores_never_take_the_place_of_anything_else(folder, name):
    (folder / "sora.txt").write_text("my own words")
    (folder / "list.json").write_text("[1, 2]")
    before = (folder / name).read_bytes()
    with pytest.raises(UsageError, match="holds no scores"):
        tag(folder, settings(folder / name))
    assert (folder / name).read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes among files")
@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "device", "folder", "link to nothing"])
def test_scores_refuse_what_is_not_a_regular_file_unread(folder, kind):
    path = folder / "scores.jsonl"
    if kind == "device":
        path = Path(os.devnull)
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(folder / "target")
        if kind == "link to a pipe":
            os.mkfifo(folder / "target")
    with pytest.raises(UsageError, match="not a regular file"):
        check_scores_path(path)


def test_scores_need_a_folder_that_is_there(folder):
    with pytest.raises(UsageError, match="there is no folder"):
        tag(folder, settings(folder / "new" / "s.jsonl"))


@pytest.mark.parametrize("value", [35, float("nan")])
def test_a_threshold_that_is_no_probability_is_refused(value):
    with pytest.raises(UsageError, match=r"such as 0\.35"):
        TagSettings(rules=TagRules(threshold=value))


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "meta"])
def test_a_device_that_does_not_exist_is_refused_before_anything_else(device):
    with pytest.raises(UsageError, match="--device takes"):
        CaptionSettings(device=device)
