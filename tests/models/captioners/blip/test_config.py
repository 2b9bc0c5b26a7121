"""What a captioner's configuration may say, before anything is built by it."""

import json
import os
import shutil
from pathlib import Path

import pytest

import sdprep.demo
from sdprep.errors import ModelError
from sdprep.models.captioners.blip.config import check_blip_config
from sdprep.models.parse import LARGEST_FILE

ODD = [None, "x", True, -1, 1.5, [], {}, [3], 2**70, 10**9, "y" * 100_000]
WEIGHTS = Path(sdprep.demo.__file__).parent / "models" / "demo-caption"


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(WEIGHTS, tmp_path / "model"))


def change(folder, part, **values):
    path = folder / "config.json"
    config = json.loads(path.read_text("utf-8"))
    config[part].update(values)
    path.write_text(json.dumps(config), "utf-8")


def refusal(folder):
    with pytest.raises(ModelError) as caught:
        check_blip_config(folder, "model.safetensors")
    assert len(str(caught.value)) < 1000
    return str(caught.value)


@pytest.mark.parametrize(
    "value", [None, "x", True, -1, 1.5, [], {}, [3], 2**70, 10**9, "y" * 100_000], ids=lambda value: repr(value)[:9]
)
@pytest.mark.parametrize("field", ["bos_token_id", "sep_token_id", "vocab_size", "num_hidden_layers", "hidden_size"])
def test_a_value_that_the_decoder_cannot_have_is_refused_with_its_field(folder, field, value):
    change(folder, "text_config", **{field: value})
    assert field in refusal(folder)


@pytest.mark.parametrize("field", ["image_size", "patch_size", "num_hidden_layers", "num_attention_heads"])
@pytest.mark.parametrize("value", [0, -1, 10**9, "x", None])
def test_a_value_that_the_vision_tower_cannot_have_is_refused_with_its_field(folder, field, value):
    change(folder, "vision_config", **{field: value})
    assert f"vision_config.{field}" in refusal(folder)


@pytest.mark.parametrize("field", ["bos_token_id", "sep_token_id", "pad_token_id"])
def test_a_token_beyond_the_vocabulary_is_refused(folder, field):
    change(folder, "text_config", **{field: 162})
    assert f"text_config.{field} is 162, but vocab_size is 162" in refusal(folder)


def test_a_token_that_is_left_out_is_the_default_of_transformers_which_must_fit_too(folder):
    config = json.loads((folder / "config.json").read_text("utf-8"))
    del config["text_config"]["bos_token_id"]
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    assert "text_config.bos_token_id is 30522, but vocab_size is 162" in refusal(folder)


def test_a_model_that_needs_far_more_memory_than_its_weights_explain_is_refused(folder):
    change(folder, "vision_config", hidden_size=2**20)
    assert "model.safetensors has only 3,795,872 bytes" in refusal(folder)


@pytest.mark.parametrize("name", ["special_tokens_map.json", "added_tokens.json", "vocab.txt", "chat_template.jinja"])
def test_a_file_that_transformers_would_read_without_end_is_refused(folder, name):
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    assert f"{name} is not a regular file" in refusal(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "special_tokens_map.json", "config.json", "vocab.txt"])
def test_a_file_that_is_larger_than_any_model_needs_is_refused(folder, name):
    with (folder / name).open("ab") as stream:
        stream.truncate(LARGEST_FILE + 1)
    assert f"{name} has 33,554,433 bytes; the limit for such files is 33,554,432" in refusal(folder)


def test_the_demo_captioner_is_within_all_bounds(folder):
    assert check_blip_config(folder, "model.safetensors").vocab_size == 162
