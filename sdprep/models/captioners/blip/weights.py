"""Takes the weights from transformers' BLIP; the only file that knows its private modules by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from sdprep.errors import ModelError

if TYPE_CHECKING:
    import torch

KNOWN_TRANSFORMERS = "5.23"


class Linear(NamedTuple):
    """`weight` is [out, in], `bias` [out]."""

    weight: torch.Tensor
    bias: torch.Tensor


class Norm(NamedTuple):
    """A layer norm over the last axis."""

    weight: torch.Tensor
    bias: torch.Tensor
    eps: float


class VisionLayer(NamedTuple):
    """One block of the vision tower; `qkv` holds queries, keys and values in this order."""

    norm1: Norm
    qkv: Linear
    projection: Linear
    norm2: Norm
    up: Linear
    down: Linear


class TextLayer(NamedTuple):
    """One block of the decoder: attention to the text, to the image, and the feed-forward part."""

    qkv: Linear
    output: Linear
    norm: Norm
    cross_query: Linear
    cross_key: Linear
    cross_value: Linear
    cross_output: Linear
    cross_norm: Norm
    up: Linear
    down: Linear
    down_norm: Norm


@dataclass(frozen=True, slots=True)
class Vision:
    """`patch` is a convolution [width, 3, P, P] with stride P; `positions` is [1, patches + 1, width]."""

    patch: Linear
    start: torch.Tensor
    positions: torch.Tensor
    layers: tuple[VisionLayer, ...]
    norm: Norm
    heads: int


@dataclass(frozen=True, slots=True)
class Text:
    """`words` is [vocabulary, width], `positions` [longest sequence, width]; `head` maps to the vocabulary.

    Some decoders have nothing to `transform` before the head.
    """

    words: torch.Tensor
    positions: torch.Tensor
    norm: Norm
    layers: tuple[TextLayer, ...]
    transform: tuple[Linear, Norm] | None
    head: Linear
    heads: int


@dataclass(frozen=True, slots=True)
class BlipWeights:
    """All that captioning needs of a `BlipForConditionalGeneration`; tensors are shared with it where possible."""

    vision: Vision
    text: Text


class _UnexpectedError(Exception):
    """transformers' model is not built as this file expects."""


def take_weights(model: Any, version: str) -> BlipWeights:
    """The weights of a loaded `BlipForConditionalGeneration` of transformers `version`.

    Checks every name, shape and activation that the decoder relies on, and that no parameter is left over.
    Raises ModelError if anything differs from the transformers version that sdprep knows.
    """
    try:
        reader = _Reader()
        weights = BlipWeights(reader.vision(model.vision_model), reader.text(model.text_decoder))
        reader.check_complete(model)
    except (_UnexpectedError, AttributeError, IndexError, TypeError) as error:
        raise ModelError(
            f"the BLIP of transformers {version} is not built as sdprep's decoder expects it ({error}). "
            f"Use transformers {KNOWN_TRANSFORMERS}, or --decoder reference (which has no int8)"
        ) from error
    return weights


class _Reader:
    """Reads modules, and records which parameters it has read."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def vision(self, module: Any) -> Vision:
        config, embeddings = module.config, module.embeddings
        width, patch = config.hidden_size, config.patch_size
        _expect("vision activation", config.hidden_act, "gelu")
        convolution = embeddings.patch_embedding
        _expect("stride of the patches", convolution.stride, (patch, patch))
        tokens = (config.image_size // patch) ** 2 + 1
        return Vision(
            Linear(self.tensor(convolution.weight, (width, 3, patch, patch)), self.tensor(convolution.bias, (width,))),
            self.tensor(embeddings.class_embedding, (1, 1, width)),
            self.tensor(embeddings.position_embedding, (1, tokens, width)),
            tuple(self.vision_layer(layer, config) for layer in module.encoder.layers),
            self.norm(module.post_layernorm, width),
            _heads(config, module.encoder.layers[0].self_attn.num_heads),
        )

    def vision_layer(self, layer: Any, config: Any) -> VisionLayer:
        width, inner = config.hidden_size, config.intermediate_size
        _expect("scale of the attention", layer.self_attn.scale, (width // config.num_attention_heads) ** -0.5)
        return VisionLayer(
            self.norm(layer.layer_norm1, width),
            self.linear(layer.self_attn.qkv, 3 * width, width),
            self.linear(layer.self_attn.projection, width, width),
            self.norm(layer.layer_norm2, width),
            self.linear(layer.mlp.fc1, inner, width),
            self.linear(layer.mlp.fc2, width, inner),
        )

    def text(self, module: Any) -> Text:
        config, bert, head = module.config, module.bert, module.cls.predictions
        width, words = config.hidden_size, config.vocab_size
        _expect("text activation", config.hidden_act, "gelu")
        # The bias is stored twice, and only the head's own is used.
        self._seen.add(id(head.bias))
        return Text(
            self.tensor(bert.embeddings.word_embeddings.weight, (words, width)),
            self.tensor(bert.embeddings.position_embeddings.weight, (config.max_position_embeddings, width)),
            self.norm(bert.embeddings.LayerNorm, width),
            tuple(self.text_layer(layer, config) for layer in bert.encoder.layer),
            (self.linear(head.transform.dense, width, width), self.norm(head.transform.LayerNorm, width)),
            self.linear(head.decoder, words, width),
            _heads(config, bert.encoder.layer[0].attention.self.num_attention_heads),
        )

    def text_layer(self, layer: Any, config: Any) -> TextLayer:
        width, inner = config.hidden_size, config.intermediate_size
        own, cross = layer.attention, layer.crossattention
        return TextLayer(
            fused([self.linear(each, width, width) for each in (own.self.query, own.self.key, own.self.value)]),
            self.linear(own.output.dense, width, width),
            self.norm(own.output.LayerNorm, width),
            self.linear(cross.self.query, width, width),
            self.linear(cross.self.key, width, config.encoder_hidden_size),
            self.linear(cross.self.value, width, config.encoder_hidden_size),
            self.linear(cross.output.dense, width, width),
            self.norm(cross.output.LayerNorm, width),
            self.linear(layer.intermediate.dense, inner, width),
            self.linear(layer.output.dense, width, inner),
            self.norm(layer.output.LayerNorm, width),
        )

    def linear(self, module: Any, out: int, width: int) -> Linear:
        return Linear(self.tensor(module.weight, (out, width)), self.tensor(module.bias, (out,)))

    def norm(self, module: Any, width: int) -> Norm:
        return Norm(self.tensor(module.weight, (width,)), self.tensor(module.bias, (width,)), float(module.eps))

    def tensor(self, parameter: Any, shape: tuple[int, ...]) -> torch.Tensor:
        _expect("shape", tuple(parameter.shape), shape)
        self._seen.add(id(parameter))
        tensor: torch.Tensor = parameter.detach()
        return tensor

    def check_complete(self, model: Any) -> None:
        """Raise if the model has a parameter that was not read: the result would lack it."""
        left = [name for name, parameter in model.named_parameters() if id(parameter) not in self._seen]
        _expect("parameters left over", left, [])


def _expect(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise _UnexpectedError(f"{what} {found!r} instead of {wanted!r}")


def _heads(config: Any, used: int) -> int:
    _expect("attention heads", used, config.num_attention_heads)
    return int(used)


def fused(parts: Iterable[Linear]) -> Linear:
    """Layers of the same input as one, with their results side by side."""
    import torch

    weights, biases = zip(*parts, strict=True)
    return Linear(torch.cat(weights), torch.cat(biases))
