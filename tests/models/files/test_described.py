"""Repositories of captioners that no TOML file describes: what their config.json says they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdprep.errors import HubError, ModelError
from sdprep.models.base import ModelSpec
from sdprep.models.captioners.chat.families import PROCESSORS
from sdprep.models.files.described import described, described_here
from sdprep.models.files.hub import ensure_downloaded
from sdprep.models.registry.registry import resolve
from sdprep.report import NullListener
from sdprep.tasks import models
from tests.models.fake_hub import COMMITS, REPO, FakeHub, at_home, check_active


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with at_home(tmp_path, monkeypatch) as folder:
        yield folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with check_active(monkeypatch) as fake:
        yield fake


def offer(hub: FakeHub, **config: object) -> ModelSpec:
    """Give the repository another config.json, and weights in two parts; return what its name alone tells."""
    weights = {f"model-0000{number}-of-00002.safetensors": b"weights" for number in (1, 2)}
    files = {"config.json": json.dumps(config).encode(), "tokenizer.json": b"{}", "chat_template.jinja": b"x"}
    hub.files[COMMITS[0]] = {**files, **weights}
    return resolve(REPO, "caption")


@pytest.mark.parametrize("family", ["blip", "florence2", *PROCESSORS])
def test_a_repository_is_of_the_family_that_its_configuration_names(hub: FakeHub, family: str) -> None:
    spec = described(offer(hub, model_type=family))
    backend, fit = {"blip": ("blip", "squash"), "florence2": ("task", "squash")}.get(family, ("chat", "inside"))
    assert (spec.backend, spec.image.fit, spec.name, spec.source.repo) == (backend, fit, REPO, REPO)
    assert (spec.prompt.user, spec.prompt.presets) == ("", {})


def test_only_the_configuration_is_downloaded_and_only_once(hub: FakeHub) -> None:
    guess = offer(hub, model_type="qwen3_vl")
    first = described(guess)
    assert set(hub.downloads) == {"config.json"}
    hub.requests.clear()
    assert described(guess) == described_here(guess) == first
    assert hub.requests == []


def test_without_network_an_unknown_repository_stays_what_its_name_tells(hub: FakeHub) -> None:
    guess = offer(hub, model_type="qwen3_vl")
    assert described_here(guess) == guess
    assert hub.requests == []


def test_a_repository_that_cannot_be_asked_ends_the_run(hub: FakeHub) -> None:
    guess = offer(hub, model_type="qwen3_vl")
    hub.status = 401
    with pytest.raises(HubError):
        described(guess)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "moondream1"}, r"has a 'moondream1' model, which .*\n.*qwen3_vl.*use --server"),
        ({}, r"has a None model"),
        ({"model_type": "florence2", "auto_map": {}}, r"asks for code of its own .*\n.*florence-community.*--server"),
    ],
    ids=["unknown", "unnamed", "own code"],
)
def test_a_repository_that_is_not_loaded_is_refused_before_its_weights_are_downloaded(
    hub: FakeHub, config: dict[str, object], said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        described(offer(hub, **config))
    assert set(hub.downloads) == {"config.json"}


def test_models_with_a_description_are_left_alone(hub: FakeHub) -> None:
    for name in ("blip-large", "qwen3-vl-2b", "demo-caption"):
        spec = resolve(name, "caption")
        assert described(spec) == spec
    assert hub.requests == []


def test_a_chat_repository_is_downloaded_shown_and_verified_as_one(hub: FakeHub) -> None:
    spec = described(offer(hub, model_type="qwen3_vl"))
    assert not models.download([REPO], "caption").failures
    files = ensure_downloaded(spec, NullListener())
    assert {path.name for path in files.folder.iterdir()} == set(hub.files[COMMITS[0]])
    assert models.show(REPO).spec == spec
    assert {each.name for each in models.verify([REPO]).files} == set(hub.files[COMMITS[0]])
