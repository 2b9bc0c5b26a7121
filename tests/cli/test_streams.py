"""stdout is data, stderr is talk."""

import json
from importlib.util import find_spec

import pytest

from sdprep.images.decoder import decoder_advice

FIELDS = {
    "schema", "command", "found", "written", "current", "kept", "failed", "remaining", "missing", "kept_paths",
    "missing_paths", "lacking", "image_changed", "other_settings", "stale", "other_models", "predicted", "failures",
    "flagged", "model", "revision", "kept_reasons", "failed_before", "provider", "output", "run", "tag_counts",
    "dry_run", "stopped", "seconds", "timings", "planned", "recognised", "pruned", "rekeyed", "vanished", "outside",
    "orphans", "retry", "asked_again", "served", "shards",
}  # fmt: skip


@pytest.mark.parametrize("words", [("tag", "imgs", "--model", "demo-tag"), ("merge", "imgs")])
def test_json_has_the_documented_fields_and_no_other(words, sdprep_command, imgs):
    (imgs / "a.caption").write_text("something to merge\n")
    assert json.loads(sdprep_command(*words, "--json").out).keys() == FIELDS


def test_json_of_an_undo_has_the_same_fields(sdprep_command, imgs):
    sdprep_command("tag", imgs, "--model", "demo-tag")
    assert json.loads(sdprep_command("undo", "--dir", imgs, "--json").out).keys() == FIELDS


def test_json_counts_every_image_once(sdprep_command, imgs, put_image):
    (imgs / "a.txt").write_text("my own words\n")
    (imgs / "aa.png").touch()
    put_image(imgs / "c.png")
    report = json.loads(sdprep_command("tag", imgs, "--model", "demo-tag", "--limit", "2", "--json").out)
    counts = [report[name] for name in ("found", "written", "current", "kept", "failed", "remaining")]
    assert counts == [4, 1, 0, 1, 1, 1]


def test_json_names_a_failure_by_path_code_and_message(sdprep_command, imgs):
    (imgs / "empty.png").touch()
    report = json.loads(sdprep_command("tag", imgs, "--model", "demo-tag", "--json").out)
    assert report["failures"] == [{"path": "empty.png", "code": "empty_file", "message": "the file is empty"}]


def test_without_json_stdout_is_empty(sdprep_command, imgs):
    assert sdprep_command("tag", imgs, "--model", "demo-tag").out == ""


def test_the_counts_are_talk(sdprep_command, imgs):
    assert "tag: 2 images: 2 written" in sdprep_command("tag", imgs, "--model", "demo-tag", "--json").err


def test_there_is_no_progress_bar_where_nobody_watches(sdprep_command, imgs):
    said = sdprep_command("tag", imgs, "--model", "demo-tag").err
    assert (said.count("\n"), "\r" in said, "%" in said) == (3, False, False)


def test_a_second_run_says_that_no_model_was_loaded(sdprep_command, imgs):
    sdprep_command("tag", imgs, "--model", "demo-tag")
    assert "no model was loaded" in sdprep_command("tag", imgs, "--model", "demo-tag").err


def test_a_refresh_does_not_say_that_no_model_was_loaded(sdprep_command, imgs):
    sdprep_command("tag", imgs, "--model", "demo-tag")
    assert "no model was loaded" not in sdprep_command("tag", imgs, "--model", "demo-tag", "--refresh").err


def test_merge_says_where_it_wrote(sdprep_command, imgs):
    sdprep_command("tag", imgs, "--model", "demo-tag")
    assert "imgs/metadata.json" in sdprep_command("merge", "imgs").err.replace("\\", "/")


def test_merge_does_not_call_an_image_without_text_edited(sdprep_command, imgs):
    assert "edited" not in sdprep_command("merge", "imgs").err


def test_the_log_of_a_folder_names_its_runs(sdprep_command, imgs):
    run = json.loads(sdprep_command("tag", imgs, "--model", "demo-tag", "--json").out)["run"]
    assert [row["run"] for row in json.loads(sdprep_command("log", imgs, "--json").out)["runs"]] == [run]


def test_the_log_of_a_folder_is_on_stdout(sdprep_command, imgs):
    sdprep_command("tag", imgs, "--model", "demo-tag")
    assert "2 files" in sdprep_command("log", imgs).out


@pytest.mark.skipif(find_spec("tensorflow") is None, reason="the extra `tensorflow` is not installed here")
def test_tensorflow_adds_nothing_to_stderr(start, imgs, monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    out, err = start("tag", "imgs", "--backend", "tensorflow", "--provider", "cpu", cwd=imgs.parent).communicate()
    assert out == ""
    counts = "tag: 2 images: 2 written, 0 up to date, 0 kept, 0 failed, 0 remaining"
    ours = ["loading demo-tag", decoder_advice(), counts, "model demo-tag on cpu"]
    assert [line.partition(" (")[0] for line in err.splitlines()] == [line for line in ours if line]
