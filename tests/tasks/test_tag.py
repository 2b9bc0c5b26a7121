"""Scores as a file, and settings that make no sense."""

import json
import shutil

import pytest

from sdprep.config import CaptionSettings, TagSettings
from sdprep.errors import UsageError
from sdprep.rules.labels import TagRules
from sdprep.tasks.demo import PICTURES
from sdprep.tasks.tag import tag


@pytest.fixture
def folder(tmp_path):
    for name in ("aka.jpg", "sora.webp"):
        shutil.copy(PICTURES / name, tmp_path)
    return tmp_path


def settings(scores):
    return TagSettings(model="demo-tag", scores=scores)


def test_scores_have_a_line_for_every_picture_in_order(folder):
    tag(folder, settings(folder / "s.jsonl"))
    lines = [json.loads(line) for line in (folder / "s.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == ["aka.jpg", "sora.webp"]


def test_scores_are_grouped_by_category(folder):
    tag(folder, settings(folder / "s.jsonl"))
    line = json.loads((folder / "s.jsonl").read_text().splitlines()[0])
    assert (list(line), max(line["character"])) == (["path", "rating", "general", "character"], "aka_(sdprep)")


def test_scores_take_the_place_of_older_scores(folder):
    tag(folder, settings(folder / "s.jsonl"))
    before = (folder / "s.jsonl").read_bytes()
    tag(folder, settings(folder / "s.jsonl"))
    assert (folder / "s.jsonl").read_bytes() == before


@pytest.mark.parametrize("name", ["sora.webp", "sora.txt", "list.json"])
def test_scores_never_take_the_place_of_anything_else(folder, name):
    (folder / "sora.txt").write_text("my own words")
    (folder / "list.json").write_text("[1, 2]")
    before = (folder / name).read_bytes()
    with pytest.raises(UsageError, match="holds no scores"):
        tag(folder, settings(folder / name))
    assert (folder / name).read_bytes() == before


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
