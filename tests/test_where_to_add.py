"""The worked examples of docs/architecture.md run as they are printed there."""

import hashlib
import re
import shutil
from pathlib import Path

import pytest

import sdprep.demo
from sdprep.config import CaptionSettings, RunOptions, TagSettings
from sdprep.models.backends import BACKENDS, Backend
from sdprep.tasks.annotation import engine_config
from sdprep.tasks.caption import caption
from sdprep.tasks.tag import tag

PAGE = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text("utf-8")
DEMO = Path(sdprep.demo.__file__).parent
# The row of a table that this process changes is not there in a worker.
HERE = RunOptions(workers=0)


def example(heading):
    """The code blocks under a heading of the page."""
    part = re.split(r"^##+ ", PAGE.split(f"### {heading}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(r"```\w+\n(.*?)```", part, flags=re.DOTALL)


@pytest.fixture
def album(tmp_path):
    folder = tmp_path / "imgs"
    folder.mkdir()
    for name in ("aka.jpg", "kuro.png"):
        shutil.copy(DEMO / "images" / name, folder)
    return folder


def test_a_tagger_is_one_toml_file(tmp_path, album):
    shutil.copytree(DEMO / "models" / "demo-tag", tmp_path / "my-tagger")
    [description] = example("A tagger")
    (tmp_path / "my-tagger.toml").write_text(description, "utf-8")

    report = tag(album, TagSettings(model=str(tmp_path / "my-tagger.toml"), run=HERE))

    assert (report.written, report.model) == (2, "my-tagger")
    assert "1boy" in (album / "kuro.txt").read_text("utf-8")


def test_a_captioner_family_is_one_python_file_and_one_row(tmp_path, album, monkeypatch):
    code, row, description = example("A captioner family")
    (tmp_path / "hash_captioner.py").write_text(code, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    # Replaced by the row of the page; when the test ends, monkeypatch takes it out again.
    monkeypatch.setitem(BACKENDS, "hash", BACKENDS["blip"])
    exec(row, {"BACKENDS": BACKENDS, "Backend": Backend})
    (tmp_path / "my-captioner").mkdir()
    (tmp_path / "my-captioner" / "config.json").write_text("{}", "utf-8")
    (tmp_path / "my-captioner.toml").write_text(description, "utf-8")

    report = caption(album, CaptionSettings(model=str(tmp_path / "my-captioner.toml"), run=HERE))

    digest = hashlib.sha256((album / "kuro.png").read_bytes()).hexdigest()
    assert (report.written, report.failures) == (2, [])
    assert (album / "kuro.caption").read_text("utf-8") == f"image {digest[:8]}\n"


def test_an_engine_is_one_python_file(tmp_path, album, monkeypatch):
    [code] = example("An engine")
    (tmp_path / "one_by_one.py").write_text(code, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(engine_config, "INLINE", "one_by_one:OneByOne")

    report = tag(album, TagSettings(model="demo-tag", run=HERE))

    assert (report.written, report.provider) == (2, "cpu, one by one")
