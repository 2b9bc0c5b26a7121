"""Checks what sdprep relies on in the configuration of a BLIP captioner, before transformers builds the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec

from sdprep.errors import ModelError
from sdprep.models.base import Side
from sdprep.models.captioners.trust import read_configs
from sdprep.models.parse import as_type, read_json

Count = Annotated[int, msgspec.Meta(ge=1, le=2**20)]
# The large BLIP has 24.
Layers = Annotated[int, msgspec.Meta(ge=1, le=256)]
# Up to this size, 256 MB of made-up weights, transformers may go on: it reports missing weights by name.
HARMLESS = 2**26
# How many tokens fewer than its weights a tokenizer may have.
PADDING = 128
Token = Annotated[int, msgspec.Meta(ge=0)]


class Tower(msgspec.Struct):
    """What both towers have; where a field is left out, transformers uses the same defaults."""

    hidden_size: Count = 768
    intermediate_size: Count = 3072
    num_hidden_layers: Layers = 12

    def layer_parameters(self) -> int:
        """A lower bound for the number of parameters in the layers."""
        width, inner = self.hidden_size, self.intermediate_size
        return self.num_hidden_layers * (4 * width * width + 2 * width * inner)


class TextConfig(Tower, kw_only=True):
    """The decoder."""

    num_attention_heads: Count
    vocab_size: Count = 30524
    max_position_embeddings: Count = 512
    bos_token_id: Token = 30522
    sep_token_id: Token = 102
    pad_token_id: Token | None = 0

    def parameters(self) -> int:
        """A lower bound for the number of parameters."""
        return self.layer_parameters() + (self.vocab_size + self.max_position_embeddings) * self.hidden_size


class VisionConfig(Tower):
    """The vision tower."""

    num_attention_heads: Count = 12
    image_size: Side = 384
    patch_size: Side = 16

    def parameters(self) -> int:
        """A lower bound for the number of parameters."""
        patches, patch = (self.image_size // self.patch_size) ** 2, 3 * self.patch_size**2
        return self.layer_parameters() + (patches + patch) * self.hidden_size


class _Towers(msgspec.Struct):
    text_config: TextConfig
    vision_config: VisionConfig = msgspec.field(default_factory=VisionConfig)


def check_blip_config(folder: Path, weights: str) -> TextConfig:
    """The decoder's part of a folder's `config.json`; `weights` is the file with the weights.

    Also refuses what transformers would silently get wrong: its default of 8 decoder heads, where every BLIP has 12.
    Raises ModelError that names the field, also for a model that needs more memory than its weights explain.
    """
    path = folder / "config.json"
    config = read_configs(folder).get(path.name, {})
    text = config.get("text_config")
    if not isinstance(text, dict):
        raise ModelError(f"{path} is not the configuration of a BLIP captioner: it has no text_config")
    if config.get("model_type") != "blip":
        raise ModelError(f"{path} describes a {config.get('model_type')!r:.60} model, not 'blip'")
    if text.get("num_attention_heads") is None:
        raise ModelError(f"{path} does not say text_config.num_attention_heads, and the default is wrong for BLIP")
    towers = as_type(config, _Towers, path)
    _check_tokens(towers.text_config, path)
    _check_size(towers, path, folder / weights)
    return towers.text_config


class _Tokenizer(msgspec.Struct):
    """What a `tokenizer.json` says of its vocabulary."""

    class Model(msgspec.Struct):
        """A vocabulary by token, or a list of pieces."""

        vocab: dict[str, int] | list[Any] = []

    class Added(msgspec.Struct):
        """A token beside the vocabulary, or a special one of it."""

        id: int
        content: str

    model: Model
    added_tokens: list[Added] = []

    def ids(self) -> dict[str, int]:
        """The id of each token."""
        vocab = self.model.vocab
        known = vocab if isinstance(vocab, dict) else {str(each): place for place, each in enumerate(vocab)}
        return {**known, **{each.content: each.id for each in self.added_tokens}}


def check_tokenizer(folder: Path, text: TextConfig) -> None:
    """Raise ModelError if the tokenizer of a folder is not that of its model: its captions would be other words.

    A vocabulary may be some tokens smaller than the weights, which some models pad; BLIP's own lacks two.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        return
    ids = read_json(path, _Tokenizer).ids()
    count = max(ids.values(), default=-1) + 1
    needed = f"text_config.vocab_size in config.json is {text.vocab_size:,}"
    if count > text.vocab_size or count < text.vocab_size - PADDING:
        raise ModelError(
            f"{path} has {count:,} tokens, but {needed}: it belongs to another model\n"
            "Copy tokenizer.json, tokenizer_config.json and vocab.txt of this very model"
        )
    if ids.get("[SEP]", text.sep_token_id) != text.sep_token_id:
        raise ModelError(
            f"{path} ends a text with token {ids['[SEP]']}, but text_config.sep_token_id in config.json is "
            f"{text.sep_token_id}: it belongs to another model"
        )


def _check_tokens(text: TextConfig, path: Path) -> None:
    for name in ("bos_token_id", "sep_token_id", "pad_token_id"):
        token = getattr(text, name)
        if token is not None and token >= text.vocab_size:
            raise ModelError(f"{path}: text_config.{name} is {token}, but vocab_size is {text.vocab_size}")


def _check_size(towers: _Towers, path: Path, weights: Path) -> None:
    """Raise if the config describes more parameters than the file has bytes: transformers would make up the others."""
    needed = towers.text_config.parameters() + towers.vision_config.parameters()
    try:
        size = weights.stat().st_size
    except OSError as error:
        raise ModelError(f"{weights}: {error.strerror}") from error
    if needed > max(size, HARMLESS):
        raise ModelError(f"{path} describes more than {needed:,} weights, but {weights.name} has only {size:,} bytes")
