"""What a folder must have, and must not have, to be loaded as a chat model."""

import json
import shutil

import pytest
import safetensors.torch
import torch
import transformers

from sdprep.errors import MissingExtra, ModelError, UsageError
from sdprep.files import configs_folder
from sdprep.models.backends import check_installed
from sdprep.models.base import ModelFiles
from sdprep.models.captioners.chat.captioner import ChatCaptioner
from sdprep.models.captioners.chat.families import PROCESSORS
from sdprep.models.captioners.chat.loading import end_tokens, load_processor
from sdprep.models.captioners.generation import CaptionOptions
from sdprep.models.execution import Execution
from sdprep.models.registry.registry import find, registered, resolve
from tests.models.captioners.chat.chat_models import RUNNABLE, load, spec_of


@pytest.fixture
def folder(model_folder, tmp_path):
    return shutil.copytree(model_folder("llava"), tmp_path / "chat")


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **values}), encoding="utf-8")


@pytest.mark.parametrize("family", RUNNABLE)
def test_images_are_prepared_by_pillow_and_no_part_for_videos_is_needed(model_folder, family):
    processor = load_processor(transformers, model_folder(family), family)
    assert type(processor.image_processor).__name__.endswith("Pil")
    assert getattr(processor, "video_processor", None) is None


def test_every_family_is_known_to_transformers_and_every_described_model_is_of_one():
    assert [name for name in PROCESSORS.values() if not hasattr(transformers, name)] == []
    described = [spec for name in registered() if (spec := find(name)).backend == "chat"]
    assert len(described) >= 13
    assert {spec.model_type for spec in described} <= set(PROCESSORS)


def test_a_family_that_is_not_on_the_list_is_rejected_with_what_is(folder):
    change(folder / "config.json", model_type="florence2")
    with pytest.raises(
        ModelError, match=r"describes a 'florence2' model, which sdprep does not load\nIt loads: gemma3"
    ):
        load(folder)


def test_a_model_of_another_family_than_described_is_rejected(folder):
    with pytest.raises(ModelError, match="describes a llava model, but chat is described as gemma3"):
        ChatCaptioner(
            spec_of(folder, model_type="gemma3"), ModelFiles(folder, None, ""), Execution(), CaptionOptions(), print
        )


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "processor_config.json"])
def test_a_folder_that_asks_for_code_of_its_own_is_rejected(folder, name):
    change(folder / name, auto_map={"AutoModel": "modeling.Evil"})
    with pytest.raises(ModelError, match="asks for code of its own"):
        load(folder)


def test_an_adapter_is_rejected(folder):
    (folder / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match="holds an adapter"):
        load(folder)


def test_a_pickle_is_rejected_even_if_pickles_are_allowed(folder):
    spec = spec_of(folder, files=("config.json", "pytorch_model.bin"))
    with pytest.raises(ModelError, match="is a pickle"):
        ChatCaptioner(spec, ModelFiles(folder, None, ""), Execution(), CaptionOptions(allow_pickle=True), print)


def test_weights_that_are_missing_or_of_another_shape_are_named(folder):
    path = folder / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    name = next(each for each in weights if each.endswith("norm.weight"))
    safetensors.torch.save_file({key: value for key, value in weights.items() if key != name}, path, {"format": "pt"})
    with pytest.raises(ModelError, match="lacks weights of a chat model"):
        load(folder)
    safetensors.torch.save_file({**weights, name: torch.ones(3)}, path, {"format": "pt"})
    with pytest.raises(ModelError, match=r"has shape \[3\], but config.json asks for"):
        load(folder)


def test_a_folder_without_a_tokenizer_is_a_model_error(folder):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(ModelError, match="has no tokenizer and image settings that transformers"):
        load(folder)


def test_a_model_whose_answers_no_token_ends_is_rejected(folder):
    change(folder / "generation_config.json", eos_token_id=None)
    model = transformers.LlavaForConditionalGeneration.from_pretrained(folder)
    processor = load_processor(transformers, folder, "llava")
    model.generation_config.eos_token_id = None
    assert end_tokens(model, processor.tokenizer) == (processor.tokenizer.eos_token_id,)
    processor.tokenizer.eos_token = None
    with pytest.raises(ModelError, match="which token ends an answer"):
        end_tokens(model, processor.tokenizer)


def test_int8_is_for_blip_alone(folder):
    with pytest.raises(UsageError, match="--dtype int8 is for BLIP models only"):
        ChatCaptioner(
            spec_of(folder),
            ModelFiles(folder, None, ""),
            Execution(device="cpu", dtype="int8"),
            CaptionOptions(),
            print,
        )


def test_without_the_extra_its_command_is_named_before_anything_is_downloaded(plain_pip, monkeypatch):
    monkeypatch.setattr("sdprep.models.backends.find_spec", lambda name: None if name == "transformers" else object())
    with pytest.raises(
        MissingExtra, match=r'transformers is not installed. Install it with: .*"sdprep\[vlm\]"'
    ) as caught:
        check_installed(resolve("qwen3-vl-4b", "caption"))
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"model.safetensors"', '"pytorch_model.bin"', "a chat model needs its weights as .safetensors in files"),
        ('fit = "inside"', "", "a chat model needs fit and size in"),
        ("size = 512", "", "a chat model needs fit and size in"),
    ],
)
def test_a_description_that_cannot_be_run_is_rejected_when_it_is_read(tmp_path, old, new, message):
    text = (configs_folder("models") / "demo-chat.toml").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "mine.toml").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ModelError, match=message):
        find(str(tmp_path / "mine.toml"))
