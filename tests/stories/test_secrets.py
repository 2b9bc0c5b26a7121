"""A token and a password, looked for in all that sdprep says and leaves behind."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sdprep.demo
from tests.models.fake_hub import COMMITS, REPO, FakeHub

TOKEN, PASSWORD = "hf_canaryThatMustNotSing", "canaryPassword"
DEMO = Path(sdprep.demo.__file__).parent
ROOT = Path(__file__).parents[2]
FILES = {name: (DEMO / "models" / "demo-tag" / name).read_bytes() for name in ("model.onnx", "selected_tags.csv")}


@pytest.fixture
def hub():
    with FakeHub({COMMITS[0]: FILES}, {"main": COMMITS[0], COMMITS[0]: COMMITS[0]}, echo=True) as fake:
        yield fake


@pytest.fixture
def imgs(tmp_path):
    (tmp_path / "imgs").mkdir()
    shutil.copy(DEMO / "images" / "kuro.png", tmp_path / "imgs" / "a.png")
    return tmp_path / "imgs"


@pytest.fixture
def said(hub, tmp_path):
    """Runs sdprep with the secrets in its environment, and gives what it said: neither that nor a file may hold one."""

    def run(*words):
        home = {name: str(tmp_path / "home") for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")}
        secret = {
            "HF_TOKEN": TOKEN,
            "HF_ENDPOINT": hub.url.replace("://", f"://me:{PASSWORD}@"),
            "HF_HUB_VERBOSITY": "debug",
        }
        env = {**os.environ, **home, **secret, "HF_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "sdprep", *map(str, words)]
        done = subprocess.run(command, env=env, capture_output=True, cwd=tmp_path)
        left = [path for path in tmp_path.rglob("*") if path.is_file()]
        for text in (done.stdout, done.stderr, *(path.read_bytes() for path in left)):
            assert TOKEN.encode() not in text
            assert PASSWORD.encode() not in text
        return done.stdout.decode() + done.stderr.decode()

    return run


def test_a_run_that_downloads_its_model_keeps_the_secrets(said, imgs, hub):
    assert "1 written" in said("tag", imgs, "--model", REPO, "--debug", "--json")
    assert f"Bearer {TOKEN}" in hub.tokens or any(each and each.startswith("Basic ") for each in hub.tokens)
    assert (imgs / ".sdprep" / "catalog.sqlite").exists()


def test_a_download_that_breaks_keeps_the_secrets(said, hub):
    hub.broken = 2
    assert REPO in said("models", "download", REPO, "--task", "tag")


# A status alone, and the codes with which the Hub comes.
REFUSALS = [
    *((status, "") for status in (401, 403, 404, 500)),
    *((403, "GatedRepo"), (401, "RepoNotFound"), (404, "RepoNotFound")),
]


@pytest.mark.parametrize(("status", "code"), REFUSALS)
def test_a_hub_that_repeats_the_token_in_its_refusal_is_not_quoted(said, imgs, hub, status, code):
    hub.status, hub.error_code = status, code
    said("tag", imgs, "--model", REPO)


@pytest.mark.parametrize(
    "words", [["tag", "imgs", "--show-config"], ["models", "show", REPO, "--task", "tag"]], ids=str
)
def test_what_is_shown_of_settings_holds_no_secret(said, imgs, words):
    assert said(*words)


@pytest.mark.parametrize("traceback", ["", "1"])
def test_a_fault_of_sdprep_itself_is_shown_without_secrets(monkeypatch, capsys, traceback):
    from sdprep.cli.main import TRACEBACK, handle_errors

    monkeypatch.setenv(TRACEBACK, traceback)

    def fault():
        raise RuntimeError(f"GET http://me:{PASSWORD}@hub/x with Bearer {TOKEN}")

    with pytest.raises(SystemExit) as leaving:
        handle_errors(fault)
    shown = capsys.readouterr().err
    assert leaving.value.code == 1
    assert "this is a bug in sdprep: RuntimeError" in shown
    assert ("Traceback" in shown) == bool(traceback)
    assert TOKEN not in shown
    assert PASSWORD not in shown
