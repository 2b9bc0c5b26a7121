"""A Florence-2 of the real architecture with random weights, small enough for a test."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import Florence2Config, Florence2ForConditionalGeneration, PreTrainedTokenizerFast

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<image>"]


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of single bytes, with BART's marks around a text."""
    vocabulary = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({word: number for number, word in enumerate(vocabulary)}, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    ends = [("<s>", 0), ("</s>", 2)]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def make_model(words: int, **shape: int) -> Florence2ForConditionalGeneration:
    """A model with weights large enough that images differ in their captions, and some end."""
    torch.manual_seed(1)
    names = ("d_model", "encoder_ffn_dim", "decoder_ffn_dim", "encoder_attention_heads", "decoder_attention_heads")
    sizes = dict(zip(names, (32, 64, 64, 2, 2), strict=True)) | {"encoder_layers": 2, "decoder_layers": 2} | shape
    tokens = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    text = {"model_type": "bart", "vocab_size": words, "max_position_embeddings": 256, **sizes, **tokens}
    few = dict.fromkeys(("num_heads", "num_groups"), [2] * 4)
    vision = {"depths": [1] * 4, "embed_dim": [8, 8, 16, 16], **few, "window_size": 4, "projection_dim": 32}
    model = Florence2ForConditionalGeneration(
        Florence2Config(text_config=text, vision_config=vision, image_token_id=SPECIAL.index("<image>"))
    )
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(8)
        # An end that is about as likely as any byte.
        model.model.language_model.shared.weight[2] *= 4
    return model.eval()


@pytest.fixture(scope="session")
def florence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the model."""
    folder = tmp_path_factory.mktemp("florence")
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    make_model(len(tokenizer)).save_pretrained(folder)
    return folder
