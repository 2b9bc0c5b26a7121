"""Terminals that are not UTF-8, text that is not, and home folders that no shell has written out."""

import os
import subprocess
import sys

import pytest

from tests.cli.conftest import ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="arguments have no bytes there")
UNREADABLE = "m\udcff"


@pytest.fixture
def run(imgs):
    """Runs `sdprep` in a process with this environment and these bytes, in the folder of the images."""
    (imgs / "黒髪の子.png").write_bytes((imgs / "b.png").read_bytes())

    def start(*words, **environment):
        return subprocess.run(
            [sys.executable, "-m", "sdprep", *words], cwd=imgs.parent, capture_output=True, check=False,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        )  # fmt: skip

    return start


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "cp932", "utf-16"])
def test_a_run_prints_names_that_the_terminal_cannot_show(run, imgs, encoding):
    (imgs / "黒髪の子.txt").write_text("mine", "utf-8")
    done = run(
        "tag", "imgs", "-m", "demo-tag", "--debug", "--frequency-tags", "--workers", "0", PYTHONIOENCODING=encoding
    )
    shown = done.stderr.decode(encoding)
    assert (done.returncode, "Traceback" in shown, "bug in sdprep" in shown) == (0, False, False)
    name = "黒髪の子.png".encode(encoding, "backslashreplace").decode(encoding)
    assert f"kept the sidecar of {name}" in shown
    assert "1girl: 1" in done.stdout.decode(encoding)


def test_utf8_is_read_as_such_where_the_terminal_is_ascii(run, imgs):
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = run("tag", "imgs", "-m", "demo-tag", "--prefix", "黒髪,ärm", "--workers", "0", **ascii_only)
    assert (done.returncode, (imgs / "a.txt").read_text("utf-8").split(", ")[:2]) == (0, ["黒髪", "ärm"]), done.stderr


def test_a_demo_folder_that_no_json_can_name_is_refused_before_anything_is_copied(sdprep_command, tmp_path):
    shown = sdprep_command("demo", UNREADABLE)
    assert (shown.code, shown.out) == (2, "")
    assert shown.err == (
        f"sdprep: error: {tmp_path}/m\\xff is not valid Unicode, so the metadata JSON cannot name it\n"
        "Give another folder, or set PYTHONUTF8=1 if its name is UTF-8\n"
    )
    assert not (tmp_path / UNREADABLE).exists()


def test_a_quantized_model_is_not_made_in_a_folder_that_no_description_can_name(run, imgs):
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = run("models", "quantize", "demo-tag", "--images", "imgs", "--out", "黒髪", **ascii_only)
    assert (done.returncode, b"so a TOML file cannot name it\nGive another folder, or set" in done.stderr) == (2, True)
    assert not (imgs.parent / "黒髪").exists()


@pytest.mark.parametrize(
    "name", ["--prefix", "--model", "--provider", "--threshold", "--exclude", "--caption-extension"]
)
def test_an_option_that_is_not_valid_text_is_a_usage_error(name, sdprep_command, imgs):
    shown = sdprep_command("tag", imgs, name, UNREADABLE)
    assert (shown.code, r"'m\xff' is not valid UTF-8 text" in shown.err) == (2, True)


def test_a_model_folder_whose_name_is_not_valid_text_is_a_usage_error(sdprep_command, imgs, tmp_path):
    (tmp_path / UNREADABLE).mkdir()
    shown = sdprep_command("tag", imgs, "--model", UNREADABLE)
    assert (shown.code, "bug in sdprep" in shown.err) == (2, False)


# Home folders


def test_a_path_may_begin_with_the_home_folder(sdprep_command, imgs, a_home_of_its_own, tmp_path):
    assert sdprep_command("tag", imgs, "-m", "demo-tag", "--workers", "0", "--output-dir", "~/out").code == 0
    assert (a_home_of_its_own / "out" / "a.txt").exists()
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize("name", ["--catalog", "--config", "--scores", "--log-file", "--aliases", "--model-dir"])
def test_every_option_that_takes_a_path_knows_the_home_folder(name, sdprep_command, imgs, a_home_of_its_own, tmp_path):
    (a_home_of_its_own / "x").write_text("")
    sdprep_command("tag", imgs, "-m", "demo-tag", "--workers", "0", name, "~/x")
    assert not (tmp_path / "~").exists()


def test_a_folder_of_images_and_a_model_may_be_in_the_home_folder(sdprep_command, imgs, a_home_of_its_own):
    imgs.rename(a_home_of_its_own / "imgs")
    assert sdprep_command("tag", "~/imgs", "-m", "demo-tag", "--workers", "0").code == 0
    assert str(a_home_of_its_own) in sdprep_command("tag", "~/imgs", "-m", "~/no-model.toml").err
