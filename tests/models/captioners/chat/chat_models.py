"""Tiny chat models with random weights: one folder per family, built from the real classes of transformers."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForImageTextToText,
    CLIPVisionConfig,
    Gemma3Config,
    Gemma3ImageProcessorPil,
    Gemma3TextConfig,
    Gemma4Config,
    Gemma4ImageProcessorPil,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2VLConfig,
    Qwen2VLImageProcessorPil,
    Qwen3_5Config,
    Qwen3VLConfig,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
    SmolVLMConfig,
    SmolVLMImageProcessorPil,
)

from sdprep.models.base import ImageSpec, ModelFiles, ModelSpec, PromptSpec
from sdprep.models.captioners.chat.captioner import ChatCaptioner
from sdprep.models.captioners.generation import CaptionOptions
from sdprep.models.captioners.generation import GenerationConfig as Decoding
from sdprep.models.execution import Execution
from sdprep.types import Batch

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?'()_-{}[]<>|/\\#&@"
SPECIAL = {
    "image_token": "<image>",
    "boi_token": "<boi>",
    "eoi_token": "<eoi>",
    "video_token": "<video>",
    "audio_token": "<audio>",
    "boa_token": "<boa>",
    "eoa_token": "<eoa>",
    "vision_start_token": "<vs>",
    "vision_end_token": "<ve>",
}
SMOL = ("<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
MARKS = ("<pad>", "<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", *SPECIAL.values(), *SMOL)
TEMPLATE = (
    "{{% for message in messages %}}<|im_start|>{{{{ message['role'] }}}}\n"
    "{{% if message['content'] is string %}}{{{{ message['content'] }}}}{{% else %}}"
    "{{% for part in message['content'] %}}{{% if part['type'] == 'image' %}}{marker}{{% else %}}"
    "{{{{ part['text'] }}}}{{% endif %}}{{% endfor %}}{{% endif %}}<|im_end|>\n{{% endfor %}}"
    "{{% if add_generation_prompt %}}<|im_start|>assistant\n{{% endif %}}"
)
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 2048,
}


@dataclass(frozen=True)
class Family:
    """What is made of a family: its `model_type`, the marker that its template has for an image, random weights."""

    model_type: str
    marker: str = "<image>"
    seed: int = 0


FAMILIES = {
    family.model_type: family
    for family in (
        Family("llava"),
        Family("gemma3", "<boi>"),
        Family("gemma4"),
        Family("smolvlm"),
        Family("qwen2_vl", "<vs><image><ve>"),
        Family("qwen2_5_vl", "<vs><image><ve>"),
        Family("qwen3_vl", "<vs><image><ve>"),
        Family("qwen3_5", "<vs><image><ve>", seed=1),
    )
}
# Before 5.23, transformers needs torchvision for these.
NEWER = {"gemma4", "smolvlm"} if tuple(map(int, transformers.__version__.split(".")[:2])) < (5, 23) else set()
RUNNABLE = [family for family in FAMILIES if family not in NEWER]


def tokenizer():
    """Characters as tokens, and what all families need of special ones."""
    table = {token: place for place, token in enumerate([*MARKS, *LETTERS, "Ġ", "Ċ"])}
    made = Tokenizer(models.BPE(vocab=table, merges=[], unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in MARKS])
    extra = {**SPECIAL, "start_token": "<|im_start|>", "end_token": "<|im_end|>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens=extra,
    )


def config_of(family, ids):
    """The configuration of a tiny model."""
    text = {**TEXT, "vocab_size": len(ids), "pad_token_id": 0, "bos_token_id": ids["<s>"], "eos_token_id": ids["</s>"]}
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2], "mrope_interleaved": True}
    qwen = {
        "image_token_id": ids["<image>"],
        "video_token_id": ids["<video>"],
        "vision_start_token_id": ids["<vs>"],
        "vision_end_token_id": ids["<ve>"],
    }
    sees = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32}
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    tower |= {"image_size": 28, "patch_size": 7}
    if family == "llava":
        vision = CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=28,
            patch_size=7,
        )
        return LlavaConfig(vision_config=vision, text_config=LlamaConfig(**text), image_token_index=ids["<image>"])
    if family == "gemma3":
        vision = SiglipVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=28,
            patch_size=7,
        )
        return Gemma3Config(
            vision_config=vision,
            text_config=Gemma3TextConfig(**text, sliding_window=64, query_pre_attn_scalar=8, tie_word_embeddings=False),
            # A tied head of random weights gives the token that it was given.
            tie_word_embeddings=False,
            mm_tokens_per_image=4,
            image_token_index=ids["<image>"],
            boi_token_index=ids["<boi>"],
            eoi_token_index=ids["<eoi>"],
        )
    if family == "gemma4":
        vision = {**TEXT, "num_key_value_heads": 4, "position_embedding_size": 64, "pooling_kernel_size": 2}
        own = {"sliding_window": 64, "hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": len(ids)}
        return Gemma4Config(
            vision_config={**vision, "patch_size": 8},
            text_config={**text, **own, "layer_types": ["sliding_attention", "full_attention"]},
            image_token_id=ids["<image>"],
            boi_token_id=ids["<boi>"],
            eoi_token_id=ids["<eoi>"],
            video_token_id=ids["<video>"],
            tie_word_embeddings=False,
        )
    if family == "smolvlm":
        return SmolVLMConfig(
            vision_config={**tower, "image_size": 32, "patch_size": 8},
            text_config={"model_type": "llama", **text},
            image_token_id=ids["<image>"],
            scale_factor=2,
        )
    if family == "qwen2_vl":
        rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
        seen = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2}
        return Qwen2VLConfig(text_config={**text, "rope_parameters": rope}, vision_config=seen, **qwen)
    if family == "qwen2_5_vl":
        rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
        return Qwen2_5_VLConfig(
            text_config={**text, "rope_parameters": rope},
            vision_config={**sees, "fullatt_block_indexes": [1], "window_size": 112},
            **qwen,
        )
    if family == "qwen3_vl":
        return Qwen3VLConfig(
            text_config={**text, "rope_parameters": rope},
            vision_config={**sees, "deepstack_visual_indexes": [0], "num_position_embeddings": 64},
            **qwen,
        )
    linear = {
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "layer_types": ["linear_attention", "full_attention"],
    }
    rope["partial_rotary_factor"] = 1.0
    return Qwen3_5Config(
        text_config={**text, **linear, "rope_parameters": rope},
        vision_config={**sees, "num_position_embeddings": 64},
        **qwen,
    )


def images_of(family):
    """The image processor of a tiny model."""
    if family == "llava":
        return SiglipImageProcessorPil(size={"height": 28, "width": 28})
    if family == "gemma3":
        return Gemma3ImageProcessorPil(size={"height": 28, "width": 28})
    if family == "gemma4":
        return Gemma4ImageProcessorPil(patch_size=8, max_soft_tokens=70, pooling_kernel_size=2)
    if family == "smolvlm":
        size = {"longest_edge": 64}
        return SmolVLMImageProcessorPil(size=size, max_image_size={"longest_edge": 32}, do_image_splitting=True)
    patch = 14 if family in ("qwen2_vl", "qwen2_5_vl") else 16
    return Qwen2VLImageProcessorPil(patch_size=patch, size={"shortest_edge": 32 * 32, "longest_edge": 96 * 96})


def write_model(folder: Path, family: str) -> Path:
    """Write a checkpoint folder as published ones are."""
    words = tokenizer()
    ids = words.get_vocab()
    torch.manual_seed(FAMILIES[family].seed)
    model = AutoModelForImageTextToText.from_config(config_of(family, ids))
    # Random logits of the usual size hardly differ, so that the next word would hang on rounding.
    with torch.no_grad():
        head = model.get_output_embeddings().weight
        head.mul_(20)
        # Answers are of letters, and may end.
        head[: MARKS.index("<|im_end|>")] = 0
        head[MARKS.index("<|im_end|>") + 1 : len(MARKS)] = 0
    # Several tokens end an answer, as in Gemma and Qwen; this one would be sampled, and never end, if it were obeyed.
    model.generation_config = GenerationConfig(
        eos_token_id=[ids["</s>"], ids["<|im_end|>"]], pad_token_id=0, bos_token_id=ids["<s>"], do_sample=True
    )
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    images_of(family).save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE.format(marker=FAMILIES[family].marker), encoding="utf-8")
    extra = {"llava": {"patch_size": 7, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}}
    extra["gemma3"] = {"image_seq_length": 4}
    extra["smolvlm"] = {"image_seq_len": 4}
    if family in extra:
        (folder / "processor_config.json").write_text(json.dumps(extra[family]), encoding="utf-8")
    return folder


# What the tiny model that repeats itself writes after each character, and what comes second; each character that is
# not here ends the answer.
FOLLOWS = {"a": ("Ġ", "</s>"), "Ġ": ("a", "</s>"), "x": ("x", "</s>"), "c": ("d", "</s>")}


def write_repetitive_model(folder: Path, llava: Path) -> Path:
    """Write a llava whose next token depends on the last one alone, by `FOLLOWS`: some prompts send it in circles."""
    shutil.copytree(llava, folder)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    ids = tokenizer().get_vocab()
    with torch.no_grad():
        for layer in model.model.language_model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        words, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
        words.zero_()
        head.zero_()
        # The last direction is that of all characters after which the answer ends.
        words[:, -1] = 1
        head[ids["</s>"], -1] = 1
        for place, (token, (first, second)) in enumerate(FOLLOWS.items()):
            words[ids[token]] = torch.eye(words.shape[1])[place]
            head[ids[first], place], head[ids[second], place] = 2, 1
    model.save_pretrained(folder)
    return folder


def spec_of(folder: Path, **values: object) -> ModelSpec:
    """The description of a tiny model."""
    common = {"name": folder.name, "task": "caption", "backend": "chat", "image": ImageSpec(fit="inside", size=64)}
    return ModelSpec(**{**common, "files": ("config.json", "model.safetensors"), **values})


def load(
    folder: Path, *, prompt=PromptSpec(), options=None, note=lambda _: None, batch_size=8, quantize="none", **search
):
    """A captioner for a folder; `search` has settings of the search."""
    decoding = Decoding(**{"max_new_tokens": 12, **search})
    return ChatCaptioner(
        spec_of(folder, prompt=prompt),
        ModelFiles(folder, None, "weights"),
        Execution(device="cpu", batch_size=batch_size, quantize=quantize),
        options or CaptionOptions(generation=decoding),
        note,
    )


SIZES = ((40, 64), (64, 40), (33, 57), (64, 64), (48, 32))
PROMPTS = ("Describe this image.", "Hm?", "Tags: 1girl, red hair, blue eyes, hat", "", "What is it: a cat or a dog?")


def batch(*numbers: int) -> Batch:
    """Random images of several sizes, each with its own prompt."""
    pixels = []
    for number in numbers:
        height, width = SIZES[number % len(SIZES)]
        pixels.append(np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8))
    prompts = tuple(PROMPTS[number % len(PROMPTS)] for number in numbers)
    return Batch(numbers, tuple(bytes([number]) * 32 for number in numbers), tuple(pixels), prompts)
