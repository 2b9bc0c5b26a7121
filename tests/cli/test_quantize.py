"""`sdprep models quantize` as a user runs it."""

import json
import math
import random

import pytest
from PIL import Image

from scripts.demo_training.draw import draw
from scripts.demo_training.figures import random_figure


@pytest.fixture(autouse=True)
def any_speed(monkeypatch):
    """No test depends on how fast this machine is: every copy is fast enough."""
    monkeypatch.setattr("sdprep.tasks.quantize.SLOWER", math.inf)


@pytest.fixture
def drawings(tmp_path):
    rng = random.Random(5)
    folder = tmp_path / "drawings"
    folder.mkdir()
    for number in range(8):
        draw(random_figure(rng), rng, (160, 160)).save(folder / f"{number}.png")
    return folder


def test_it_prints_what_was_measured_and_how_to_use_it(sdprep_command, drawings):
    done = sdprep_command("models", "quantize", "demo-tag", "--images", drawings)
    assert done.code == 0
    assert "measured on              4 other images, with provider cpu\n" in done.out
    assert done.err.endswith("made: --model demo-tag-int8\n")


def test_the_model_that_was_made_tags(sdprep_command, drawings):
    sdprep_command("models", "quantize", "demo-tag", "--images", drawings)
    done = sdprep_command("tag", drawings, "--model", "demo-tag-int8", "--json")
    report = json.loads(done.out)
    assert (report["written"], report["model"], report["provider"]) == (8, "demo-tag-int8", "cpu")


def test_json_has_the_measurement(sdprep_command, drawings):
    done = sdprep_command(
        "models", "quantize", "demo-tag", "--images", drawings, "--precision", "fp16", "--floor", "0.5", "--json"
    )
    made = json.loads(done.out)
    assert made["floor"] == 0.5
    assert (made["schema"], made["name"], made["agreement"]["pictures"]) == (1, "demo-tag-fp16", 4)


def test_a_tagger_with_fp16_on_the_cpu_warns_that_it_gains_nothing(sdprep_command, drawings):
    sdprep_command("models", "quantize", "demo-tag", "--images", drawings, "--precision", "fp16")
    done = sdprep_command("tag", drawings, "--model", "demo-tag-fp16", "--provider", "cpu")
    assert (done.code, "fp16 is for GPUs" in done.err) == (0, True)


def test_what_cannot_be_measured_has_exit_code_1_and_nothing_on_stdout(sdprep_command, tmp_path):
    for number in range(4):
        Image.new("RGB", (32, 32), (250 - number, 250, 250)).save(tmp_path / f"{number}.png")
    done = sdprep_command("models", "quantize", "demo-tag", "--images", tmp_path, "--threshold", 1)
    assert (done.code, done.out) == (1, "")
    assert "nothing can be compared" in done.err


def test_images_must_be_named(sdprep_command):
    assert sdprep_command("models", "quantize", "demo-tag").code == 2


@pytest.mark.parametrize("option", ["--floor", "--threshold"])
def test_nan_is_not_a_number_to_compare_with(sdprep_command, drawings, option):
    done = sdprep_command("models", "quantize", "demo-tag", "--images", drawings, option, "nan")
    assert (done.code, option in done.err, "nan" in done.err) == (2, True, True)


def test_the_floor_can_come_from_the_environment(sdprep_command, drawings, monkeypatch):
    monkeypatch.setenv("SDPREP_MODELS_QUANTIZE_FLOOR", "2")
    done = sdprep_command("models", "quantize", "demo-tag", "--images", drawings)
    assert (done.code, "--floor" in done.err) == (2, True)


# The provider of a run


def test_the_provider_that_ran_is_in_the_report(sdprep_command, imgs):
    done = sdprep_command("tag", imgs, "--model", "demo-tag", "--provider", "cpu", "--json")
    assert json.loads(done.out)["provider"] == "cpu"


def test_no_provider_ran_where_no_model_was_needed(sdprep_command, imgs):
    sdprep_command("tag", imgs, "--model", "demo-tag")
    done = sdprep_command("tag", imgs, "--model", "demo-tag", "--json")
    assert json.loads(done.out)["provider"] is None


def test_a_provider_that_is_not_installed_has_the_exit_code_of_a_missing_package(sdprep_command, imgs):
    done = sdprep_command("tag", imgs, "--model", "demo-tag", "--provider", "tensorrt,cpu")
    assert done.code == 5
    assert "pip install" in done.err


@pytest.mark.parametrize("words", [["--provider", "gpu"], ["--provider", "directml", "--backend", "tensorflow"]])
def test_a_provider_that_does_not_exist_is_rejected_before_anything_else(sdprep_command, imgs, words):
    done = sdprep_command("tag", imgs, "--model", "demo-tag", *words)
    assert done.code == 2
    assert not list(imgs.glob("*.txt"))
