"""Weights in as many files as their makers chose: patterns in `files`, on this machine and from the Hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdprep.errors import ModelError
from sdprep.models.base import ImageSpec, ModelSpec, Source
from sdprep.models.files.hub import ensure_downloaded, files_of_folder, find_local
from sdprep.models.files.patterns import expanded
from sdprep.report import NullListener
from tests.models.fake_hub import COMMITS, REPO, FakeHub, at_home, check_active, failure

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = json.dumps({"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}).encode()
CONTENT = {
    "config.json": b"{}",
    "model.safetensors.index.json": INDEX,
    **dict.fromkeys(SHARDS, b"weights"),
    "README.md": b"",
    "onnx/model.safetensors": b"others",
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with at_home(tmp_path, monkeypatch) as folder:
        yield folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with check_active(monkeypatch) as fake:
        fake.files = {commit: dict(CONTENT) for commit in COMMITS}
        yield fake


def spec(source: Source = Source(repo=REPO)) -> ModelSpec:
    files = ("config.json", "*.json", "*.jinja", "*.safetensors")
    return ModelSpec(
        name="chat", task="caption", backend="chat", source=source, files=files, image=ImageSpec(fit="inside", size=64)
    )


def test_a_pattern_stands_for_the_files_at_the_top_and_a_name_for_itself() -> None:
    assert expanded(("b.txt", "*.json", "a.json"), ["c.json", "a.json", "x/d.json"]) == ("b.txt", "a.json", "c.json")


def test_all_files_of_a_pattern_are_downloaded_and_found_again_without_network(hub: FakeHub) -> None:
    files = ensure_downloaded(spec(), NullListener())
    names = {path.name for path in files.folder.iterdir()}
    assert names == {"config.json", "model.safetensors.index.json", *SHARDS}
    hub.requests.clear()
    assert find_local(spec()) == ensure_downloaded(spec(), NullListener()) == files
    assert ensure_downloaded(spec(), NullListener(), check=True) == files
    assert hub.requests == []


def test_a_file_of_the_index_that_is_gone_is_downloaded_again(hub: FakeHub) -> None:
    files = ensure_downloaded(spec(), NullListener())
    (files.folder / SHARDS[1]).unlink()
    assert find_local(spec()) is None
    assert ensure_downloaded(spec(), NullListener()) == files
    assert (files.folder / SHARDS[1]).read_bytes() == b"weights"


def test_a_repository_without_weights_is_named_with_what_it_has(hub: FakeHub) -> None:
    hub.files[COMMITS[0]] = {"config.json": b"{}", "pytorch_model.bin": b"pickle"}
    assert failure(spec()) == f"{REPO} at main has no *.safetensors\nIt has: config.json, pytorch_model.bin"


def test_a_folder_must_have_the_weights_that_its_index_names(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors.index.json", *SHARDS):
        (tmp_path / name).write_bytes(CONTENT[name])
    local = spec(Source(path=str(tmp_path)))
    before = files_of_folder(local)
    (tmp_path / SHARDS[1]).write_bytes(b"other weights")
    assert files_of_folder(local).weights != before.weights
    (tmp_path / SHARDS[1]).unlink()
    with pytest.raises(ModelError, match=rf"there is no {SHARDS[1]} in"):
        files_of_folder(local)
    for name in ("model.safetensors.index.json", SHARDS[0]):
        (tmp_path / name).unlink()
    with pytest.raises(ModelError, match=r"there is no \*.safetensors in"):
        files_of_folder(local)
