"""The command line as a person meets it: what was typed, what came out, and the exit code."""

import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

import sdprep.cli.main
from tests.in_process import model_in_process

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def sdprep_command(monkeypatch, capsys, tmp_path):
    """Runs `sdprep` in this process, in the folder of the test.

    The model too, unless the words name the workers.
    """
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["sdprep", *map(str, words)])
        code = 0
        try:
            with nullcontext() if "--workers" in words else model_in_process():
                sdprep.cli.main.main()
        except SystemExit as leaving:
            code = leaving.code or 0
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def start(tmp_path_factory):
    """Starts `sdprep` as a process of its own."""
    home = str(tmp_path_factory.mktemp("home"))

    def popen(*words: object, cwd: Path) -> subprocess.Popen[str]:
        environment = os.environ | {"HOME": home, "XDG_DATA_HOME": home, "XDG_CONFIG_HOME": home, "PYTHONUTF8": "1"}
        environment |= {"PYTHONPATH": str(ROOT), "SDPREP_TAG_MODEL": "demo-tag"}
        return subprocess.Popen(
            [sys.executable, "-m", "sdprep", *map(str, words)],
            cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
        )  # fmt: skip

    return popen


@pytest.fixture
def imgs(tmp_path, put_image):
    """A folder of two images."""
    put_image(tmp_path / "imgs" / "a.jpg", "aka.jpg")
    put_image(tmp_path / "imgs" / "b.png")
    return tmp_path / "imgs"
