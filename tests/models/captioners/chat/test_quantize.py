"""Weights in 4 bits: those of the text and no others, in less memory, and captions as from any other model."""

import shutil
import sys

import pytest
import safetensors.torch
import torch

from sdprep.errors import MissingExtra, ModelError, UsageError
from sdprep.models.backends import check_installed
from sdprep.models.captioners.chat.quantize import limit_cpu_kernel, without_hub_kernels
from sdprep.models.registry.registry import resolve
from sdprep.types import Caption
from tests.models.captioners.chat.chat_models import RUNNABLE, batch, load

bitsandbytes = pytest.importorskip("bitsandbytes", reason="sdprep[vlm-4bit] is not installed")
LENGTHS = {"max_new_tokens": 6, "min_new_tokens": 4}


@pytest.fixture
def folder(model_folder, tmp_path):
    return shutil.copytree(model_folder("llava"), tmp_path / "chat")


def linear_layers(captioner):
    """Whether each linear layer of a captioner's model is in 4 bits, by its name."""
    kinds = (torch.nn.Linear, bitsandbytes.nn.Linear4bit)
    layers = captioner._search.model.named_modules()
    return {name: isinstance(layer, bitsandbytes.nn.Linear4bit) for name, layer in layers if isinstance(layer, kinds)}


@pytest.mark.parametrize("family", RUNNABLE)
def test_the_layers_of_text_are_in_4_bits_and_no_others(model_folder, family):
    captioner = load(model_folder(family), quantize="4bit", **LENGTHS)
    found = linear_layers(captioner)
    in_text = {name for name in found if ".language_model." in name or ".text_model." in name}
    assert {name for name, is_small in found.items() if is_small} == in_text
    assert len(in_text) >= 14
    assert {"lm_head"} < found.keys() - in_text
    weights = [captioner._search.model.get_submodule(name).weight for name in in_text]
    assert {(weight.dtype, weight.quant_state.quant_type) for weight in weights} == {(torch.uint8, "nf4")}
    whole = load(model_folder(family), **LENGTHS)._search.model.get_memory_footprint()
    assert captioner._search.model.get_memory_footprint() < 0.9 * whole
    assert isinstance(dict(captioner.predict([batch(0)]))[0], Caption)


def test_captions_are_the_same_alone_and_in_any_batch(model_folder):
    captioner = load(model_folder("llava"), quantize="4bit", **LENGTHS)
    together = dict(captioner.predict([batch(0, 1, 2)]))
    alone = {key: caption for n in range(3) for key, caption in captioner.predict([batch(n)])}
    assert {key: each.text for key, each in together.items()} == {key: each.text for key, each in alone.items()}


def test_weights_that_are_missing_or_of_another_shape_are_named(folder):
    path = folder / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    name = next(each for each in weights if each.endswith("q_proj.weight") and "language_model" in each)
    safetensors.torch.save_file({key: value for key, value in weights.items() if key != name}, path, {"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks weights of a chat model: .*q_proj\.weight"):
        load(folder, quantize="4bit")
    safetensors.torch.save_file({**weights, name: torch.ones(3, 3)}, path, {"format": "pt"})
    with pytest.raises(ModelError, match=r"has shape \[3, 3\], but config.json asks for"):
        load(folder, quantize="4bit")


def test_a_device_on_which_bitsandbytes_does_not_work_is_named_before_the_weights_are_read(folder, monkeypatch):
    def lacks_a_library(*_, **__):
        raise RuntimeError("\nConfigured CUDA binary not found at libbitsandbytes_cuda999.so\nmore")

    monkeypatch.setattr(bitsandbytes.functional, "quantize_4bit", lacks_a_library)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"--quantize 4bit: bitsandbytes [\d.]+ does not work on cpu: ") as caught:
        load(folder, quantize="4bit")
    assert str(caught.value).split("\n")[0].endswith("CUDA binary not found at libbitsandbytes_cuda999.so")
    assert str(caught.value).split("\n")[1:] == ["Leave out --quantize 4bit, or use another --device"]


@pytest.mark.parametrize("package", ["bitsandbytes", "accelerate", "transformers"])
def test_without_the_extra_its_command_is_named_before_anything_is_downloaded(plain_pip, monkeypatch, package):
    monkeypatch.setattr("sdprep.models.backends.find_spec", lambda name: None if name == package else object())
    with pytest.raises(MissingExtra, match=rf'{package} is not installed. Install .*"sdprep\[vlm-4bit\]"') as caught:
        check_installed(resolve("qwen3-vl-4b", "caption"), "4bit")
    assert caught.value.exit_code == 5


def test_whole_weights_need_no_bitsandbytes(monkeypatch):
    monkeypatch.setattr("sdprep.models.backends.find_spec", lambda name: None if name == "bitsandbytes" else object())
    check_installed(resolve("qwen3-vl-4b", "caption"))


def test_no_native_code_from_the_hub_is_run(tmp_path, monkeypatch):
    (tmp_path / "kernels.py").write_text("NAME = 'kernels'\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "kernels", raising=False)
    with without_hub_kernels(), pytest.raises(ImportError):
        import kernels
    import kernels

    with without_hub_kernels():
        assert sys.modules["kernels"] is None
    assert sys.modules["kernels"] is kernels


@pytest.mark.parametrize(
    ("dtype", "shape", "used"),
    [
        (torch.bfloat16, (64, 32), True),
        (torch.bfloat16, (32, 32), False),
        (torch.bfloat16, (64, 16), False),
        (torch.float32, (64, 32), False),
    ],
)
def test_a_kernel_that_rounds_to_bfloat16_is_used_in_bfloat16_and_for_whole_blocks_alone(dtype, shape, used):
    layer = bitsandbytes.nn.Linear4bit(*shape)
    layer.support_avx512bf16_for_cpu = True
    limit_cpu_kernel(torch.nn.ModuleList([layer, torch.nn.Linear(*shape)]), dtype)
    assert layer.support_avx512bf16_for_cpu is used
