"""`sdprep stats` on the command line: tables, JSON, CSV, a page and charts."""

import csv
import json
import shutil
import subprocess
import sys

import pytest

from sdprep import demo


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "imgs").mkdir()
    for name in ("aka.jpg", "kuro.png"):
        shutil.copy(demo.IMAGES / name, tmp_path / "imgs")
    (tmp_path / "imgs" / "aka.txt").write_text("1girl, red_hair\n", "utf-8")
    (tmp_path / "imgs" / "kuro.txt").write_text("1boy, hat\n", "utf-8")
    return tmp_path


@pytest.fixture
def run(folder, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    variables = {"HOME": str(home), "XDG_DATA_HOME": str(home), "XDG_CONFIG_HOME": str(home), "PYTHONUTF8": "1"}

    def run_command(*arguments):
        command = [sys.executable, "-m", "sdprep", "stats", "imgs", *arguments]
        return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)

    return run_command


def test_tables_are_on_stdout_and_the_rest_on_stderr(run):
    done = run()
    assert done.returncode == 0
    assert "red_hair       1  50.0%" in done.stdout
    assert done.stderr.splitlines()[0] == (
        "token counts are estimates; for exact ones: sdprep models download clip-tokenizer"
    )
    assert done.stderr.splitlines()[-1].startswith("stats: 2 images (")


def test_json_is_one_object_with_a_schema(run):
    data = json.loads(run("--json", "--where", "tag:hat").stdout)
    assert (data["schema"], data["command"], data["found"], data["images"]) == (1, "stats", 2, 1)
    assert data["tags"] == {"1boy": 1, "hat": 1}


def test_the_csv_comes_to_stdout_alone(run):
    assert list(csv.reader(run("--csv", "-").stdout.splitlines())) == [
        ["tag", "images"], ["1boy", "1"], ["1girl", "1"], ["hat", "1"], ["red_hair", "1"]
    ]  # fmt: skip


def test_files_are_written_where_they_are_named_and_nothing_beside_the_images(run, folder):
    before = sorted(path.name for path in (folder / "imgs").iterdir())
    done = run("--csv", "tags.csv", "--html", "stats.html", "--plot", "stats.svg")
    assert done.returncode == 0
    assert (folder / "tags.csv").read_text("utf-8").startswith("tag,images\n")
    assert (folder / "stats.html").read_text("utf-8").startswith("<!doctype html>")
    assert (folder / "stats.svg").read_text("utf-8").startswith("<?xml")
    assert sorted(path.name for path in (folder / "imgs").iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--csv", "imgs/aka.txt"), "does not end in .csv"),
        (("--plot", "chart.pdf"), "does not end in .png or .svg"),
        (("--json", "--csv", "-"), "both print on stdout"),
        (("--resolution", "0"), "not a resolution"),
        (("--where", "tag:"), "--where"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error_and_changes_nothing(run, folder, arguments, message):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert (folder / "imgs" / "aka.txt").read_text("utf-8") == "1girl, red_hair\n"


def test_no_match_is_nothing_to_do_and_a_broken_image_a_failure(run, folder):
    assert run("--where", "tag:bird").returncode == 4
    (folder / "imgs" / "torn.png").write_bytes(b"")
    done = run()
    assert done.returncode == 3
    assert "failed: torn.png: empty_file" in done.stderr
