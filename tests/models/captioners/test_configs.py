"""Configurations that ask for code of their own."""

import json
import shutil
from pathlib import Path

import pytest

import sdprep.demo
from sdprep.errors import ModelError
from sdprep.models.base import ModelFiles
from sdprep.models.captioners.blip.captioner import BlipCaptioner
from sdprep.models.captioners.generation import CaptionOptions
from sdprep.models.captioners.trust import read_configs
from sdprep.models.execution import Execution
from sdprep.models.registry.registry import resolve

WEIGHTS = Path(sdprep.demo.__file__).parent / "models" / "demo-caption"
MAP = {"AutoModel": "evil.Model"}


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(WEIGHTS, tmp_path / "model"))


def change(path, **values):
    before = json.loads(path.read_text("utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**before, **values}), "utf-8")


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer_config.json", "x_config.json"])
def test_a_configuration_that_asks_for_code_is_refused(folder, name, tmp_path):
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')")
    change(folder / name, auto_map=MAP)
    with pytest.raises(ModelError, match=rf"{name} asks for code of its own \(auto_map\)"):
        BlipCaptioner(
            resolve("demo-caption", "caption"),
            ModelFiles(folder, None, ""),
            Execution(device="cpu"),
            CaptionOptions(),
        )
    assert not (tmp_path / "canary").exists()


def test_code_is_found_at_any_depth(folder):
    change(folder / "config.json", text_config={"inner": [{"auto_map": MAP}]})
    with pytest.raises(ModelError, match="asks for code"):
        read_configs(folder)


def test_an_adapter_is_refused_since_it_names_another_model(folder):
    change(folder / "adapter_config.json", base_model_name_or_path="somebody/else")
    with pytest.raises(ModelError, match="holds an adapter"):
        read_configs(folder)


@pytest.mark.parametrize("content", ["", "[]", "{", "1", '{"a": ' * 5000 + "1" + "}" * 5000], ids=lambda text: text[:9])
def test_a_broken_configuration_is_named(folder, content):
    (folder / "tokenizer_config.json").write_text(content, "utf-8")
    with pytest.raises(ModelError, match=r"tokenizer_config\.json"):
        read_configs(folder)
