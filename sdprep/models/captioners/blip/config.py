"""What sdprep relies on in the configuration of a BLIP captioner, checked before transformers builds anything by it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec

from sdprep.errors import ModelError
from sdprep.models.base import Side
from sdprep.models.captioners.trust import read_configs
from sdprep.models.parse import as_type

Count = Annotated[int, msgspec.Meta(ge=1, le=2**20)]
# The large BLIP has 24.
Layers = Annotated[int, msgspec.Meta(ge=1, le=256)]
# So many made-up weights take 256 MB, and are refused by their names.
HARMLESS = 2**26
Token = Annotated[int, msgspec.Meta(ge=0)]


class TextConfig(msgspec.Struct):
    """The decoder; where a field is left out, transformers takes the same value as here."""

    num_attention_heads: Count
    hidden_size: Count = 768
    intermediate_size: Count = 3072
    num_hidden_layers: Layers = 12
    vocab_size: Count = 30524
    max_position_embeddings: Count = 512
    bos_token_id: Token = 30522
    sep_token_id: Token = 102
    pad_token_id: Token | None = 0

    def parameters(self) -> int:
        """Fewer than the decoder has."""
        width = self.hidden_size
        return _layers(self) + (self.vocab_size + self.max_position_embeddings) * width


class VisionConfig(msgspec.Struct):
    """The vision tower, in the same way."""

    hidden_size: Count = 768
    intermediate_size: Count = 3072
    num_hidden_layers: Layers = 12
    num_attention_heads: Count = 12
    image_size: Side = 384
    patch_size: Side = 16

    def parameters(self) -> int:
        """Fewer than the tower has."""
        patches, patch = (self.image_size // self.patch_size) ** 2, 3 * self.patch_size**2
        return _layers(self) + (patches + patch) * self.hidden_size


class _Towers(msgspec.Struct):
    text_config: TextConfig
    vision_config: VisionConfig = msgspec.field(default_factory=VisionConfig)


def check_blip_config(folder: Path, weights: str) -> TextConfig:
    """The decoder's part of a folder's `config.json`, whose weights are in the file `weights`.

    Refuses also what transformers would silently get wrong: its default of 8 decoder heads fits no BLIP (they have 12).
    Raises ModelError naming the field, also for a model that needs more memory than its weights explain.
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


def _check_tokens(text: TextConfig, path: Path) -> None:
    for name in ("bos_token_id", "sep_token_id", "pad_token_id"):
        token = getattr(text, name)
        if token is not None and token >= text.vocab_size:
            raise ModelError(f"{path}: text_config.{name} is {token}, but vocab_size is {text.vocab_size}")


def _check_size(towers: _Towers, path: Path, weights: Path) -> None:
    """Raise if many more parameters are described than the file has bytes: transformers would make up the others."""
    needed = towers.text_config.parameters() + towers.vision_config.parameters()
    try:
        size = weights.stat().st_size
    except OSError as error:
        raise ModelError(f"{weights}: {error.strerror}") from error
    if needed > max(size, HARMLESS):
        raise ModelError(f"{path} describes more than {needed:,} weights, but {weights.name} has only {size:,} bytes")


def _layers(tower: Any) -> int:
    width, inner = tower.hidden_size, tower.intermediate_size
    return int(tower.num_hidden_layers * (4 * width * width + 2 * width * inner))
