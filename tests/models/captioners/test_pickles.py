"""Pickled weights: not touched unasked, read without running code when allowed, and not by a torch with known holes."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import sdprep.demo
from sdprep.config import CaptionSettings, RunOptions
from sdprep.errors import ModelError
from sdprep.models.base import ModelFiles
from sdprep.models.captioners.blip.captioner import BlipCaptioner
from sdprep.models.captioners.trust import check_pickles, read_weights
from sdprep.models.files import hub as folders
from sdprep.models.registry.registry import resolve
from sdprep.tasks.annotation.engine_config import caption_options, execution_for
from sdprep.tasks.caption import caption
from sdprep.types import Batch, Prediction

DEMO = Path(sdprep.demo.__file__).parent
WEIGHTS = DEMO / "models" / "demo-caption"
SAFE = type("Torch", (), {"__version__": "2.10.0", "load": torch.load, "Tensor": torch.Tensor})


class Attack:
    """What writes a file while it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return os.mkdir, (str(self.canary),)


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    return load_file(WEIGHTS / "model.safetensors")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A captioner without its weights."""
    return Path(shutil.copytree(WEIGHTS, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors")))


@pytest.fixture
def album(tmp_path: Path) -> Path:
    (tmp_path / "album").mkdir()
    shutil.copy(DEMO / "images" / "kuro.png", tmp_path / "album" / "a.png")
    return tmp_path / "album"


def settings(folder: Path, **values: Any) -> CaptionSettings:
    return CaptionSettings(model=str(folder), device="cpu", num_beams=1, run=RunOptions(workers=0), **values)


def open_captioner(folder: Path, **values: Any) -> BlipCaptioner:
    spec = resolve(str(folder), "caption")
    chosen = settings(folder, **values)
    return BlipCaptioner(
        spec, ModelFiles(folder, None, "weights"), execution_for(chosen, spec), caption_options(chosen, spec)
    )


def predictions(captioner: BlipCaptioner) -> list[Prediction]:
    pixels = np.random.default_rng(1).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
    return [each for _, each in captioner.predict([Batch((0, 1), (b"a" * 32, b"b" * 32), pixels)])]


# Honest pickles


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pth", "weights.pt"])
def test_an_allowed_pickle_gives_the_captions_of_the_safetensors(folder, weights, name) -> None:
    torch.save(weights, folder / name)
    assert predictions(open_captioner(folder, allow_pickle=True)) == predictions(open_captioner(WEIGHTS))


@pytest.mark.parametrize("decoder", ["fast", "reference"])
def test_both_decoders_take_a_pickle(folder, weights, decoder) -> None:
    torch.save(weights, folder / "pytorch_model.bin")
    assert predictions(open_captioner(folder, allow_pickle=True, decoder=decoder))


@pytest.mark.parametrize("wrapping", ["model", "state_dict"])
def test_weights_in_a_checkpoint_of_a_training_are_found(tmp_path, weights, wrapping) -> None:
    torch.save({wrapping: weights, "epoch": 3}, tmp_path / "a.pth")
    assert read_weights(SAFE, tmp_path / "a.pth").keys() == weights.keys()


def test_a_pickle_with_other_weights_is_refused(folder) -> None:
    torch.save({"visual_encoder.cls_token": torch.zeros(1)}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="lacks weights of a BLIP captioner"):
        open_captioner(folder, allow_pickle=True)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, torch.zeros(2)], ids=["list", "number", "tensor"])
def test_a_pickle_without_weights_by_name_is_refused(tmp_path, content) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ModelError, match="holds no weights by name"):
        read_weights(SAFE, tmp_path / "a.pth")


def test_safetensors_come_before_a_pickle(folder, weights) -> None:
    shutil.copy(WEIGHTS / "model.safetensors", folder)
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    assert predictions(open_captioner(folder)) == predictions(open_captioner(WEIGHTS))


# Hostile pickles


@pytest.fixture(params=["zip", "legacy"])
def attack(request, folder, tmp_path) -> Path:
    """A file of weights that makes a folder when it is unpickled; whether it did is the answer."""
    canary = tmp_path / "canary"
    newer = request.param == "zip"
    torch.save({"weight": Attack(canary)}, folder / "pytorch_model.bin", _use_new_zipfile_serialization=newer)
    return canary


def test_the_attack_of_these_tests_is_one(attack, folder) -> None:
    torch.load(folder / "pytorch_model.bin", weights_only=False)
    assert attack.is_dir()


def test_an_attack_does_not_run_unasked(attack, folder, album) -> None:
    with pytest.raises(ModelError, match=r"pytorch_model\.bin is a pickle, which can run code"):
        caption(album, settings(folder))
    assert not attack.exists()


def test_an_attack_does_not_run_when_pickles_are_allowed(attack, folder, album) -> None:
    with pytest.raises(ModelError, match=r"pytorch_model\.bin holds more than weights, or is broken"):
        caption(album, settings(folder, allow_pickle=True))
    assert not attack.exists()


def test_a_pickle_is_refused_before_any_file_of_weights_is_read(folder, album, monkeypatch) -> None:
    (folder / "weights.pt").write_bytes(b"")
    monkeypatch.setattr(folders, "sha256_of", lambda path: pytest.fail(f"{path} is read"))
    with pytest.raises(ModelError, match=r"weights\.pt is a pickle.*\n.*safetensors.*--allow-pickle"):
        caption(album, settings(folder))


def test_the_captioner_itself_refuses_a_pickle_too(attack, folder) -> None:
    with pytest.raises(ModelError, match="is a pickle"):
        open_captioner(folder)
    assert not attack.exists()


@pytest.mark.parametrize("version", ["1.13.1", "2.5.1+cu121", "2.9.1", "2.9.0a0"])
def test_a_torch_with_known_holes_reads_no_pickle(attack, folder, version) -> None:
    old = type("Torch", (), {"__version__": version, "load": torch.load})
    with pytest.raises(ModelError, match=r"is not read with torch .*\n.*torch>=2\.10"):
        read_weights(old, folder / "pytorch_model.bin")
    assert not attack.exists()


@pytest.mark.parametrize("name", ["model.BIN", "a/b.pth", "w.pt"])
def test_a_described_model_with_a_pickle_is_refused(tmp_path, name) -> None:
    description = (Path(sdprep.__file__).parents[1] / "configs" / "models" / "blip-large.toml").read_text("utf-8")
    (tmp_path / "mine.toml").write_text(description.replace("model.safetensors", name), "utf-8")
    with pytest.raises(ModelError, match="is a pickle"):
        check_pickles(resolve(str(tmp_path / "mine.toml"), "caption"), allowed=False)
