"""`sdprep bench` as a user runs it."""

import json
import os
import signal
import sys

import pytest

from sdprep.demo import IMAGES
from tests.signals import wait_for

PATIENCE = 120.0
STAGES = ["decode", "predict", "write", "all"]

FIELDS = {
    "schema", "command", "model", "provider", "batch_size", "workers", "cpus", "stages", "startup_seconds",
    "cpu_shares", "cores_to_keep_model_busy", "images_per_second_possible", "reached", "advice", "written_to",
    "same_disk", "failures",
}  # fmt: skip


def test_it_prints_a_row_for_each_stage(sdprep_command, imgs):
    done = sdprep_command("bench", imgs, "--model", "demo-tag")
    first_words = [line.split(maxsplit=1)[0] for line in done.out.splitlines() if line]
    assert (done.code, first_words[:6]) == (0, ["demo-tag", "stage", *STAGES])


def test_it_prints_where_the_time_goes_and_what_would_help(sdprep_command, imgs):
    out = sdprep_command("bench", imgs, "--model", "demo-tag").out
    assert "CPU cores decode as fast as the model takes images" in out
    assert "of the CPU time" in out


def test_json_has_the_documented_fields_and_no_other(sdprep_command, imgs):
    report = json.loads(sdprep_command("bench", imgs, "--model", "demo-tag", "--json").out)
    assert report.keys() == FIELDS
    assert list(report["stages"]) == STAGES
    assert report["stages"]["predict"].keys() == {"images", "seconds", "cpu_seconds", "images_per_second"}


def test_json_has_the_settings_of_the_run(sdprep_command, imgs):
    words = ("--model", "demo-tag", "--batch-size", "3", "--workers", "1", "--json")
    report = json.loads(sdprep_command("bench", imgs, *words).out)
    assert (report["schema"], report["batch_size"], report["workers"]) == (2, 3, 1)


def test_a_folder_without_images_has_the_exit_code_of_that(sdprep_command, tmp_path):
    done = sdprep_command("bench", tmp_path, "--model", "demo-tag")
    assert (done.code, done.out) == (4, "")


def test_a_broken_image_is_reported_and_has_the_exit_code_of_that(sdprep_command, imgs):
    (imgs / "empty.png").touch()
    done = sdprep_command("bench", imgs, "--model", "demo-tag")
    assert (done.code, "failed: empty.png: empty_file" in done.err) == (3, True)


def test_a_model_that_does_not_exist_is_a_usage_error(sdprep_command, imgs):
    assert sdprep_command("bench", imgs, "--model", "no-such-model").code == 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals that a test could send")
@pytest.mark.parametrize(
    ("number", "code"), [pytest.param(signal.SIGINT, 130, id="Ctrl-C"), pytest.param(signal.SIGTERM, 143, id="SIGTERM")]
)
def test_a_signal_during_a_run_leaves_nothing_behind(start, tmp_path, monkeypatch, number, code):
    album, temporary = tmp_path / "album", tmp_path / "temporary"
    album.mkdir()
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    (album / "p0.jpg").write_bytes((IMAGES / "black-hair-greyscale.jpg").read_bytes())
    for index in range(1, 1500):
        os.link(album / "p0.jpg", album / f"p{index}.jpg")
    words = ("--model", "demo-tag", "--limit", "1500", "--batch-size", "1")
    process = start("bench", "album", *words, cwd=tmp_path)
    wait_for(lambda: any(temporary.rglob("*.txt")), process)
    process.send_signal(number)
    process.communicate(timeout=PATIENCE)
    assert (process.returncode, list(temporary.glob("sdprep-*")), len(list(album.iterdir()))) == (code, [], 1500)
