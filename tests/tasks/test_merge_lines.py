"""Metadata as JSON Lines, which sd-scripts 0.10 and later read."""

import json
import shutil
from dataclasses import replace

import pytest

from sdprep.config import MergeSettings
from sdprep.errors import MetadataError
from sdprep.tasks.history.undo import undo
from sdprep.tasks.merge import merge
from tests.tasks.test_merge import AS_KOHYA, CAPTIONS, GOLDEN, RELATIVE, expected, image, read_json


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_an_output_that_ends_in_jsonl_has_one_object_per_image(tmp_path):
    image(tmp_path, "日本.png", "a girl", "1girl")
    image(tmp_path, "b.png", "a boy")
    report = merge(tmp_path, MergeSettings(output=tmp_path / "m.jsonl"))
    assert (tmp_path / "m.jsonl").read_text(encoding="utf-8") == (
        f'{{"image_path": "{tmp_path}/b.png", "caption": "a boy", "image_size": [8, 6]}}\n'
        f'{{"image_path": "{tmp_path}/日本.png", "caption": "a girl", "tags": "1girl", "image_size": [8, 6]}}\n'
    )
    assert report.written == 2


def test_kohyas_golden_entries_are_the_same_in_lines(tmp_path):
    folder = shutil.copytree(GOLDEN / "input", tmp_path / "input")
    merge(folder, replace(AS_KOHYA, output=tmp_path / "m.jsonl"))
    entries = {line.pop("image_path"): line for line in lines(tmp_path / "m.jsonl")}
    assert entries == expected("captions_then_tags.json")


THEIRS = (
    '{"image_path": "gone.png", "n": 1e999}\n'
    '{"image_path": "a.png", "caption": "old", "score": 0.1000, "deep": {"z": [-0.0, 1.0], "a": "\\u0001"}}\n'
)


def test_lines_of_others_keep_their_fields_numbers_and_places(tmp_path):
    image(tmp_path, "a.png", "new")
    output = tmp_path / "m.jsonl"
    output.write_text(THEIRS, encoding="utf-8")
    assert merge(tmp_path, replace(CAPTIONS, output=output)).written == 1
    assert output.read_text(encoding="utf-8") == THEIRS.replace("old", "new")
    undo(tmp_path)
    assert output.read_text(encoding="utf-8") == THEIRS


def test_merging_lines_again_changes_nothing(tmp_path):
    image(tmp_path, "a.png", "x")
    wanted = MergeSettings(output=tmp_path / "m.jsonl")
    merge(tmp_path, wanted)
    before = (tmp_path / "m.jsonl").stat()
    assert merge(tmp_path, wanted).current == 1
    assert (tmp_path / "m.jsonl").stat().st_ino == before.st_ino


def test_a_merge_may_start_from_lines_and_write_an_object(tmp_path):
    image(tmp_path, "a.png", "new")
    (tmp_path / "m.jsonl").write_text(THEIRS, encoding="utf-8")
    merge(tmp_path, replace(CAPTIONS, in_json=tmp_path / "m.jsonl", prune=True))
    assert '"score": 0.1000' in (tmp_path / "metadata.json").read_text(encoding="utf-8")
    assert list(read_json(tmp_path / "metadata.json")) == ["a.png"]


def test_lines_of_a_moved_dataset_are_rekeyed(tmp_path):
    image(tmp_path / "DS", "a.png", "x")
    merge(tmp_path / "DS", MergeSettings(output=tmp_path / "DS" / "m.jsonl"))
    moved = (tmp_path / "DS").rename(tmp_path / "DS2")
    merge(moved, MergeSettings(output=moved / "m.jsonl"))
    assert [line["image_path"] for line in lines(moved / "m.jsonl")] == [str(moved / "a.png")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"image_path": "b.png"}\n{"caption": "x"}', "line 2 is not an object with an image_path"),
        ('{"image_path": 3}', "line 1 is not an object with an image_path"),
        ("[]", "line 1 is not an object"),
        ('{"image_path": "b"}\n\n{"image_path": "b"}', "line 3 has the image_path 'b' a second time"),
        ('{"b.png": {}', "line 1: "),
        ('{"image_path": "b", "n": NaN}', "NaN"),
    ],
)
def test_lines_that_cannot_be_kept_are_refused_by_number_and_left_alone(tmp_path, content, message):
    image(tmp_path, "a.png", "x")
    output = tmp_path / "m.jsonl"
    output.write_text(content, encoding="utf-8")
    with pytest.raises(MetadataError, match=rf"m\.jsonl .*{message}"):
        merge(tmp_path, replace(RELATIVE, output=output))
    assert output.read_text(encoding="utf-8") == content


def test_a_field_that_lines_use_for_the_key_is_not_lost_in_silence(tmp_path):
    image(tmp_path, "a.png", "x")
    (tmp_path / "m.json").write_text('{"a.png": {"image_path": "mine"}}', encoding="utf-8")
    with pytest.raises(MetadataError, match=r"'a\.png' has a field image_path"):
        merge(tmp_path, replace(RELATIVE, in_json=tmp_path / "m.json", output=tmp_path / "m.jsonl"))
