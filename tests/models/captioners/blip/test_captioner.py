"""BLIP captioners: prompts, lengths, chance, and files that do not fit."""

import hashlib
import json
import math
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import BlipForConditionalGeneration

import sdprep.demo
from sdprep.cli.settings_files import read_preset
from sdprep.config import CaptionSettings, RunOptions
from sdprep.errors import MissingExtra, ModelError, UsageError
from sdprep.images.decode import decode
from sdprep.installation import here
from sdprep.models.base import ModelFiles
from sdprep.models.captioners.blip import captioner
from sdprep.models.captioners.blip.captioner import BlipCaptioner, generation_after
from sdprep.models.captioners.blip.layers import AbsorbedAttention, CachedAttention
from sdprep.models.captioners.generation import GenerationConfig
from sdprep.models.registry.registry import resolve
from sdprep.tasks.annotation.engine_config import caption_options, execution_for
from sdprep.types import Batch, Caption, Decoded, ImageItem

DEMO = Path(sdprep.demo.__file__).parent
WEIGHTS = DEMO / "models" / "demo-caption"
NAMES = ["aka.jpg", "two-boys.webp", "kuro.png"]
WAYS = pytest.mark.parametrize(
    "way", [{}, {"num_beams": 3}, {"sample": True, "top_p": 0.95}], ids=["greedy", "beams", "sample"]
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A model this small is slowed down by threads that wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def load(folder: Path = WEIGHTS, **settings: Any) -> BlipCaptioner:
    values = {"device": "cpu", "num_beams": 1, **settings}
    spec = resolve("demo-caption", "caption")
    chosen = CaptionSettings(**values)
    return BlipCaptioner(
        spec, ModelFiles(folder, None, "weights"), execution_for(chosen, spec), caption_options(chosen, spec)
    )


@cache
def loaded(**settings: Any) -> BlipCaptioner:
    return load(**settings)


@cache
def pictures() -> tuple[tuple[bytes, NDArray[np.uint8]], ...]:
    """Digests and pixels of drawings that the model knows, and of noise about which it is in doubt."""
    paths = [DEMO / "images" / name for name in NAMES]
    drawn = [decode(ImageItem.at(path), loaded().fit) for path in paths]
    known = [(each.digest, each.pixels) for each in drawn if isinstance(each, Decoded)]
    noise = np.random.default_rng(3).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
    return (*known, *((hashlib.sha256(each.tobytes()).digest(), each) for each in noise))


def batch(*numbers: int) -> Batch:
    chosen = [pictures()[number] for number in numbers]
    return Batch(numbers, tuple(digest for digest, _ in chosen), np.stack([pixels for _, pixels in chosen]))


def captions(batches: Sequence[Batch] = (), **settings: Any) -> dict[Any, Caption]:
    return dict(loaded(**settings).predict(batches or [batch(*range(5))]))


def texts(batches: Sequence[Batch] = (), **settings: Any) -> dict[Any, str]:
    return {key: caption.text for key, caption in captions(batches, **settings).items()}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(WEIGHTS, tmp_path / "model"))


def change_config(folder: Path, change: Any) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    change(config)
    path.write_text(json.dumps(config), encoding="utf-8")


# Prompts


def test_the_caption_does_not_hold_the_prompt() -> None:
    assert not any(text.startswith("a picture of") for text in texts().values())


def test_a_prompt_is_cut_by_its_tokens_and_not_by_its_letters() -> None:
    assert texts(prompt="  A   PICTURE of ") == texts(prompt="a picture of")


@pytest.mark.parametrize("prompt", ["", "  "])
def test_without_a_prompt_nothing_is_cut(prompt: str) -> None:
    assert all(text.startswith("a ") for text in texts(prompt=prompt).values())


@WAYS
def test_a_longer_prompt_is_cut_whole(way: dict[str, Any]) -> None:
    assert texts([batch(0)], prompt="a picture of a girl with", **way)[0].startswith("long red hair")


# Lengths


@WAYS
def test_no_caption_has_more_tokens_than_asked_for(way: dict[str, Any]) -> None:
    assert max(each.n_tokens for each in captions(min_length=1, max_length=4, **way).values()) <= 4


@WAYS
def test_no_caption_has_fewer_tokens_than_asked_for(way: dict[str, Any]) -> None:
    assert min(each.n_tokens for each in captions(min_length=30, max_length=32, **way).values()) >= 30


def test_the_prompt_does_not_count_as_length() -> None:
    short = {key: text.split()[:3] for key, text in texts().items()}
    assert {key: text.split() for key, text in texts(min_length=1, max_length=3).items()} == short


def test_a_caption_that_came_to_its_end_says_so() -> None:
    assert {captions()[number].finish_reason for number in range(3)} == {"stop"}


def test_a_caption_that_was_cut_off_says_so() -> None:
    assert {each.finish_reason for each in captions(min_length=1, max_length=3).values()} == {"length"}


@WAYS
def test_the_score_of_a_caption_is_a_mean_log_probability(way: dict[str, Any]) -> None:
    assert all(math.isfinite(each.score) and each.score <= 0 for each in captions(**way).values())


@WAYS
def test_the_score_of_a_caption_is_that_of_its_tokens_however_it_was_found(way: dict[str, Any]) -> None:
    searched, found = captions([batch(0)])[0], captions([batch(0)], **way)[0]
    assert (found.text, found.score) == (searched.text, pytest.approx(searched.score, rel=0.01))


# Batches and chance


@WAYS
def test_a_caption_does_not_depend_on_the_size_of_the_batch(way: dict[str, Any]) -> None:
    alone = [batch(number) for number in range(5)]
    assert texts(alone, **way) == texts(**way)


def test_a_sampled_caption_does_not_depend_on_the_images_beside_it() -> None:
    orders = [[batch(0, 1, 2)], [batch(2, 4, 3)], [batch(3), batch(4, 2)]]
    assert len({texts(order, sample=True)[2] for order in orders}) == 1


def test_a_sampled_caption_comes_again_with_the_same_seed() -> None:
    assert texts(sample=True, top_p=1.0) == texts(sample=True, top_p=1.0)


def test_a_sampled_caption_changes_with_the_seed() -> None:
    assert len({texts([batch(3)], sample=True, top_p=1.0, seed=seed)[3] for seed in range(4)}) > 1


@pytest.mark.parametrize("seed", [0, -1, 2**63, 2**80])
def test_every_whole_number_is_a_seed(seed: int) -> None:
    assert texts([batch(0)], sample=True, seed=seed)


def test_two_copies_of_an_image_get_the_same_sampled_caption() -> None:
    digest, pixels = pictures()[3]
    both = Batch(("a", "b"), (digest, digest), np.stack([pixels, pixels]))
    found = texts([both], sample=True, top_p=1.0)
    assert found["a"] == found["b"]


def test_sampling_leaves_the_chance_of_others_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3).tolist()
    torch.manual_seed(5)
    captions([batch(0)], sample=True)
    assert torch.rand(3).tolist() == expected


def test_the_pixels_of_a_batch_are_not_changed() -> None:
    given = batch(0, 1)
    texts([given])
    digests = [hashlib.sha256(each.tobytes()).digest() for each in (given.pixels, batch(0, 1).pixels)]
    assert digests[0] == digests[1]


def test_an_image_is_squashed_to_the_size_that_the_weights_know() -> None:
    fit = loaded().fit
    assert (fit.size, fit.mode) == (96, "squash")


# Precision, form and preset


@pytest.mark.parametrize("decoder", ["fast", "reference"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_in_half_precision_captions_are_right_and_scores_are_rounded(dtype: str, decoder: str) -> None:
    half, exact = captions(dtype=dtype, decoder=decoder), captions(decoder=decoder)
    assert [half[number].text for number in range(3)] == [exact[number].text for number in range(3)]
    assert all(abs(half[number].score - exact[number].score) < 0.1 for number in range(3))
    # Of a drawing the model is so sure that both scores can be the same number; where it is in doubt, they are not.
    assert all(half[number].score != exact[number].score for number in (3, 4))


@pytest.mark.parametrize(("least", "form"), [(5, AbsorbedAttention), (32, CachedAttention)])
def test_the_form_of_cross_attention_is_chosen_by_the_least_length(least: int, form: type) -> None:
    assert type(load(min_length=least)._to_compare[0].network.decoder.cross) is form


def test_the_kohya_preset_is_what_kohyas_script_samples_with() -> None:
    preset = read_preset("kohya")["caption"]
    assert preset.pop("recursive") is False
    settings = CaptionSettings(**preset)
    kohya = {"sample": True, "top_p": 0.9, "top_k": 50, "repetition_penalty": 1.1, "seed": 42}
    found = generation_after(caption_options(settings, resolve("demo-caption", "caption")), 4, ())
    assert found == GenerationConfig(min_new_tokens=1, max_new_tokens=71, **kohya)
    assert (settings.preprocess, settings.decode_again, settings.prompt) == ("kohya", False, None)


def test_the_beam_search_of_the_kohya_preset_has_one_beam() -> None:
    assert read_preset("kohya")["caption"]["num_beams"] == 1


# The two decoders


@pytest.mark.parametrize("way", [{}, {"num_beams": 3}], ids=["greedy", "beams"])
def test_both_decoders_find_the_same(way: dict[str, Any]) -> None:
    fast, reference = captions(**way), captions(decoder="reference", **way)
    assert {key: (each.text, each.n_tokens, each.finish_reason) for key, each in fast.items()} == {
        key: (each.text, each.n_tokens, each.finish_reason) for key, each in reference.items()
    }
    assert all(fast[key].score == pytest.approx(each.score, abs=1e-4) for key, each in reference.items())


def test_the_reference_decoder_samples_by_seed_and_image_too() -> None:
    alone = [batch(number) for number in range(5)]
    way = {"sample": True, "top_p": 0.95, "decoder": "reference"}
    assert texts(alone, **way) == texts(**way)


@pytest.mark.parametrize("sizes", [(1,) * 8, (4, 4), (8,), (3, 3, 2)], ids=str)
def test_sampled_captions_are_the_same_in_any_batches_and_order(sizes: tuple[int, ...]) -> None:
    noise = np.random.default_rng(5).integers(0, 256, (8, 96, 96, 3), dtype=np.uint8)
    digests = [hashlib.sha256(each.tobytes()).digest() for each in noise]

    def batches(order: list[int]) -> Iterator[Batch]:
        for size in sizes:
            chosen, order = order[:size], order[size:]
            yield Batch(tuple(chosen), tuple(digests[each] for each in chosen), noise[chosen])

    way: dict[str, Any] = {"sample": True, "top_p": 1.0, "run": RunOptions(batch_size=max(sizes))}
    together = texts([Batch(tuple(range(8)), tuple(digests), noise)], sample=True, top_p=1.0)
    assert texts(list(batches([5, 2, 7, 0, 3, 6, 1, 4])), **way) == together


def test_the_first_image_of_a_run_is_compared_with_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    monkeypatch.setattr(
        "sdprep.models.captioners.blip.captioner.check_agreement", lambda *arguments: compared.append(arguments[2].keys)
    )
    captioner = load()
    list(captioner.predict([batch(3, 1), batch(0, 2)]))
    list(captioner.predict([batch(4)]))
    assert compared == [(3,)]


@pytest.mark.parametrize(
    "way", [{}, {"num_beams": 3}, {"sample": True}, {"dtype": "int8"}], ids=["greedy", "beams", "sample", "int8"]
)
def test_a_decoder_that_differs_from_transformers_ends_the_run(way: dict[str, Any]) -> None:
    captioner = load(**way)
    # A new tensor, for the old one may be shared with the decoder.
    value = captioner._to_compare[1]._model.text_decoder.bert.encoder.layer[1].crossattention.self.value
    value.weight = torch.nn.Parameter(3 * value.weight)
    with pytest.raises(ModelError, match=r"disagree on the first image.*--decoder reference.*torch .*transformers 5"):
        list(captioner.predict([batch(0)]))


@WAYS
def test_weights_that_are_no_numbers_are_no_disagreement_and_show_in_the_score(way: dict[str, Any]) -> None:
    captioner = load(**way)
    with torch.no_grad():
        captioner._to_compare[1]._model.vision_model.post_layernorm.weight.fill_(float("nan"))
    assert math.isnan(dict(captioner.predict([batch(0)]))[0].score)


def test_in_int8_the_first_images_are_compared_with_float32_and_it_is_said() -> None:
    said: list[str] = []
    settings = CaptionSettings(device="cpu", num_beams=1, dtype="int8")
    spec = resolve("demo-caption", "caption")
    files = ModelFiles(WEIGHTS, None, "weights")
    captioner = BlipCaptioner(spec, files, execution_for(settings, spec), caption_options(settings, spec), said.append)
    found = dict(captioner.predict([batch(0, 1), batch(2)]))
    assert {key: found[key].text for key in range(3)} == texts([batch(0, 1, 2)])
    check = "checking sdprep's decoder against transformers on the first image"
    assert said == [check, "int8: 3 of 3 captions are those of float32"]
    assert captioner._sample is None


def test_int8_runs_on_the_processor_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdprep.models.captioners.blip.captioner.find_device", lambda *_: torch.device("cuda"))
    with pytest.raises(UsageError, match=r"--dtype int8 runs on the CPU only, not on cuda: use --device cpu"):
        load(dtype="int8")


@pytest.mark.parametrize("asked", [False, True])
def test_cuda_graphs_and_overlapped_copies_are_used_only_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    normalizer, network = mock.Mock(), mock.Mock(side_effect=InterruptedError)
    monkeypatch.setattr(captioner, "find_device", lambda *_: torch.device("cuda"))
    monkeypatch.setattr(torch.nn.Module, "to", lambda model, _: model)
    monkeypatch.setattr(captioner, "Normalizer", normalizer)
    monkeypatch.setattr(captioner, "BlipNetwork", network)
    with pytest.raises(InterruptedError):
        load(device="cuda", cuda_graphs=asked)
    assert normalizer.call_args.kwargs["async_copy"] is asked
    assert network.call_args.kwargs["cuda_graphs"] is asked


@pytest.mark.parametrize("decoder", ["fast", "reference"])
def test_cuda_graphs_without_a_cuda_device_are_reported_as_having_no_effect(decoder: str) -> None:
    notes: list[str] = []
    settings = CaptionSettings(device="cpu", num_beams=1, decoder=decoder, cuda_graphs=True)
    spec, files = resolve("demo-caption", "caption"), ModelFiles(WEIGHTS, None, "weights")
    BlipCaptioner(spec, files, execution_for(settings, spec), caption_options(settings, spec), notes.append)
    assert notes == ["--cuda-graphs has no effect: it needs a CUDA device and the fast decoder"]


def test_the_reference_decoder_has_no_int8() -> None:
    with pytest.raises(UsageError, match=r"--decoder reference does not support int8"):
        CaptionSettings(decoder="reference", dtype="int8")


def test_the_reference_decoder_needs_no_known_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise ModelError("unknown")

    monkeypatch.setattr("sdprep.models.captioners.blip.captioner.take_weights", refuse)
    with pytest.raises(ModelError, match="unknown"):
        load()
    assert dict(load(decoder="reference").predict([batch(0)]))[0].text == texts([batch(0)])[0]


# What transformers does unexpectedly


def test_an_unknown_transformers_that_is_built_as_expected_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.__version__", "9.9.0")
    assert dict(load().predict([batch(0)]))[0].text == texts([batch(0)])[0]


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_an_unknown_transformers_of_another_build_is_refused_by_its_version(
    monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    monkeypatch.setattr("transformers.__version__", "9.9.0")
    real = BlipForConditionalGeneration.from_pretrained

    def other_build(*arguments: Any, **options: Any) -> Any:
        model, loading = real(*arguments, **options)
        del model.vision_model.encoder.layers[0].self_attn.qkv
        return model, loading

    monkeypatch.setattr(BlipForConditionalGeneration, "from_pretrained", other_build)
    said = r"^the BLIP of transformers 9\.9\.0 is not built as .*qkv.*Use transformers 5\.23, or --decoder reference"
    with pytest.raises(ModelError, match=said):
        load(dtype=dtype)


def test_what_generate_writes_into_its_ids_is_not_given_to_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    given, generate = [], BlipForConditionalGeneration.generate

    def scribbling(self: Any, **options: Any) -> Any:
        given.append(options["input_ids"].tolist())
        found = generate(self, **options)
        options["input_ids"].fill_(7)
        return found

    monkeypatch.setattr(BlipForConditionalGeneration, "generate", scribbling)
    texts([batch(0), batch(1)], decoder="reference")
    assert given[0] == given[1]


@pytest.mark.parametrize("decoder", ["fast", "reference"])
def test_a_checkpoint_that_asks_for_a_static_cache_is_captioned_without(copy: Path, decoder: str) -> None:
    wanted = json.loads((copy / "generation_config.json").read_text(encoding="utf-8"))
    (copy / "generation_config.json").write_text(json.dumps({**wanted, "cache_implementation": "static"}))
    assert dict(load(copy, decoder=decoder).predict([batch(0)]))[0].text == texts([batch(0)])[0]


def test_neither_torchvision_nor_a_processor_of_transformers_is_needed(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    (copy / "preprocessor_config.json").unlink()
    assert dict(load(copy).predict([batch(0)]))[0].text == texts([batch(0)])[0]


def test_a_captioner_that_is_closed_holds_no_weights() -> None:
    captioner = load()
    captioner.close()
    with pytest.raises(ValueError, match="closed"):
        list(captioner.predict([batch(0)]))


# Files that do not fit


def test_a_config_without_the_number_of_heads_is_refused(copy: Path) -> None:
    change_config(copy, lambda config: config["text_config"].pop("num_attention_heads"))
    with pytest.raises(ModelError, match=r"config\.json does not say text_config\.num_attention_heads"):
        load(copy)


def test_a_model_of_another_family_is_refused(copy: Path) -> None:
    change_config(copy, lambda config: config.update(model_type="git"))
    with pytest.raises(ModelError, match=r"config\.json describes a 'git' model, not 'blip'"):
        load(copy)


@pytest.mark.parametrize(
    "text", ["", "no json", "[]", "5", '"x"', "{}", '{"text_config": null}', '{"text_config": []}']
)
def test_a_config_of_another_shape_is_named(copy: Path, text: str) -> None:
    (copy / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=r"config\.json"):
        load(copy)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_a_model_error(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(ModelError, match="model"):
        load(copy)


@pytest.mark.parametrize("data", [b"", b"version https://git-lfs.github.com/spec/v1\n"], ids=["empty", "pointer"])
def test_weights_that_are_no_safetensors_are_refused(copy: Path, data: bytes) -> None:
    (copy / "model.safetensors").write_bytes(data)
    with pytest.raises(ModelError, match="cannot be loaded as a BLIP captioner"):
        load(copy)


def test_weights_without_a_text_decoder_are_refused_and_not_filled_with_chance(copy: Path) -> None:
    from safetensors.numpy import load_file, save_file

    weights = load_file(copy / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith("text_decoder")}
    save_file(kept, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="text_decoder"):
        load(copy)


# Devices and packages


def test_a_cuda_device_that_is_not_there_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UsageError, match=r"--device cuda:0: this torch .* sees no CUDA device"):
        load(device="cuda:0")


def test_a_metal_device_that_is_not_there_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(UsageError, match="sees no Metal device"):
        load(device="mps")


@pytest.mark.parametrize("device", ["banana", "", "cpu:x", "meta"])
def test_a_device_that_does_not_exist_is_a_usage_error(device: str) -> None:
    with pytest.raises(UsageError, match="--device"):
        load(device=device)


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_without_its_packages_the_message_says_how_to_install_them(
    monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        MissingExtra, match=re.escape(f"{package} is not installed. Install it with: {here().install_extra('caption')}")
    ) as caught:
        load()
    assert caught.value.exit_code == 5
