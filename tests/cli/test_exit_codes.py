"""Exit codes, and what is said when a command cannot go on."""

import sys

import pytest

from sdprep.installation import here


def test_a_run_without_trouble_ends_with_0(sdprep_command, imgs):
    assert sdprep_command("tag", imgs, "--model", "demo-tag").code == 0


def test_kept_text_is_no_trouble(sdprep_command, imgs):
    (imgs / "a.txt").write_text("my own words\n")
    assert sdprep_command("tag", imgs, "--model", "demo-tag").code == 0


def test_an_image_that_fails_gives_3(sdprep_command, imgs):
    (imgs / "empty.png").touch()
    assert sdprep_command("tag", imgs, "--model", "demo-tag").code == 3


def test_an_image_that_fails_is_named_with_its_code(sdprep_command, imgs):
    (imgs / "empty.png").touch()
    assert "failed: empty.png: empty_file: " in sdprep_command("tag", imgs, "--model", "demo-tag").err


def test_a_folder_without_images_gives_4(sdprep_command, tmp_path):
    assert sdprep_command("tag", tmp_path, "--model", "demo-tag").code == 4


# Where TensorFlow is installed, the tagger would do without onnxruntime.
BACKEND = {"tag": ["--backend", "onnx"], "caption": []}


@pytest.mark.parametrize("command", ["tag", "caption"])
def test_a_missing_package_is_told_before_anything_is_downloaded(command, sdprep_command, imgs, monkeypatch):
    monkeypatch.setattr("sdprep.models.backends.find_spec", lambda _: None)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert sdprep_command(command, imgs).code == 5


@pytest.mark.parametrize(("command", "package"), [("tag", "onnxruntime"), ("caption", "torch")])
def test_a_missing_package_gives_5(command, package, sdprep_command, imgs, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    assert sdprep_command(command, imgs, "--model", f"demo-{command}", *BACKEND[command]).code == 5


@pytest.mark.parametrize(("command", "package"), [("tag", "onnxruntime"), ("caption", "transformers")])
def test_a_missing_package_comes_with_the_command_that_installs_it(command, package, sdprep_command, imgs, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    said = sdprep_command(command, imgs, "--model", f"demo-{command}", *BACKEND[command]).err
    assert here().install_extra(command) in said


CANNOT_GO_ON = {
    "no catalog": (1, ["log", "imgs"]),
    "no such text": (1, ["restore", "imgs/a.txt"]),
    "no JSON to start from": (1, ["merge", "imgs", "--in-json", "nowhere.json"]),
    "a sidecar that must be there": (1, ["merge", "imgs", "--missing", "error"]),
    "an unknown model": (2, ["tag", "imgs", "--model", "nobody"]),
    "a model of the other task": (2, ["tag", "imgs", "--model", "demo-caption"]),
    "a threshold below what is stored": (2, ["tag", "imgs", "--threshold", "0.001"]),
    "lengths that cross": (2, ["caption", "imgs", "--min-length", "90"]),
    "an unknown field": (2, ["merge", "imgs", "--fields", "colour"]),
    "a device that does not exist": (2, ["caption", "imgs", "--model", "demo-caption", "--device", "toaster"]),
    "an extension that leaves the folder": (2, ["tag", "imgs", "--model", "demo-tag", "--caption-extension", "/../x"]),
    "an extension of images": (2, ["tag", "imgs", "--model", "demo-tag", "--caption-extension", ".webp"]),
}


@pytest.mark.parametrize(("code", "words"), CANNOT_GO_ON.values(), ids=CANNOT_GO_ON.keys())
def test_what_cannot_be_done_ends_with_its_code(code, words, sdprep_command, imgs):
    assert sdprep_command(*words).code == code


@pytest.mark.parametrize(("code", "words"), CANNOT_GO_ON.values(), ids=CANNOT_GO_ON.keys())
def test_what_cannot_be_done_is_said_in_two_lines(code, words, sdprep_command, imgs):
    assert 1 <= len(sdprep_command(*words).err.splitlines()) <= 2


@pytest.mark.parametrize(("code", "words"), CANNOT_GO_ON.values(), ids=CANNOT_GO_ON.keys())
def test_what_cannot_be_done_leaves_stdout_empty(code, words, sdprep_command, imgs):
    assert sdprep_command(*words).out == ""


MISTYPED = {
    "no folder": ["tag"],
    "a folder that is not there": ["tag", "nowhere"],
    "a pattern that matches nothing": ["tag", "imgs/*.heic"],
    "a word for a number": ["tag", "imgs", "--threshold", "high"],
    "an unknown choice": ["tag", "imgs", "--existing", "burn"],
    "an unknown option": ["tag", "imgs", "--frobnicate"],
    "an unknown command": ["frobnicate"],
}


@pytest.mark.parametrize("words", MISTYPED.values(), ids=MISTYPED.keys())
def test_what_is_mistyped_gives_2(words, sdprep_command, imgs):
    assert sdprep_command(*words).code == 2


@pytest.mark.parametrize("words", MISTYPED.values(), ids=MISTYPED.keys())
def test_what_is_mistyped_is_the_error_of_the_first_line(words, sdprep_command, imgs):
    assert sdprep_command(*words).err.splitlines()[0].startswith("sdprep: error: ")
