"""BLIP's vision tower and text decoder: what `BlipForConditionalGeneration` computes, arranged for captioning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from sdprep.models.captioners.blip.cuda import CudaCapture, GraphCapturer, LazyCompile, Tower
from sdprep.models.captioners.blip.layers import (
    AbsorbedAttention,
    CachedAttention,
    CrossAttention,
    MakeLinear,
    RowOrder,
    linear_layer,
)
from sdprep.models.captioners.blip.weights import BlipWeights, Norm, Text, TextLayer, Vision, VisionLayer

if TYPE_CHECKING:
    import torch


class Prefilled(NamedTuple):
    """What n images have before their first token.

    `memory` [n, ...] is what the decoder attends to; `cache` holds the prompt's keys and values,
    [n, layers, 2, prompt, 1, heads, head]; `logits` [n, vocabulary] are those of the first token.
    """

    memory: torch.Tensor
    cache: torch.Tensor
    logits: torch.Tensor


class Network(Protocol):
    """What the decode loop needs of a captioner: encoded images, and a decoder of this kind."""

    device: torch.device
    decoder: TextDecoder
    capturer: GraphCapturer | None

    def prefill(self, pixels: torch.Tensor, prompt: torch.Tensor) -> Prefilled:
        """Encode images, normalised [n, 3, H, W], and read the prompt [length] that they share, once per image."""


class BlipNetwork:
    """The whole network, in the precision and on the device of its weights.

    `absorbed` chooses the form of the cross attention, with the same result; `linear` makes the linear layers (both in
    `layers.py`). With `cuda_graphs`, which needs a CUDA device, `capturer` records decoder steps, and a long run
    compiles the vision tower; `note` gets a message if either fails.
    """

    def __init__(
        self,
        weights: BlipWeights,
        *,
        absorbed: bool,
        linear: MakeLinear = linear_layer,
        cuda_graphs: bool = False,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.device = weights.text.words.device
        tower = VisionTower(weights.vision, linear)
        self.vision: Tower = LazyCompile(tower, note) if cuda_graphs else tower
        self.decoder = TextDecoder(weights.text, linear, absorbed=absorbed)
        self.capturer = GraphCapturer(CudaCapture(self.device), note) if cuda_graphs else None

    def prefill(self, pixels: torch.Tensor, prompt: torch.Tensor) -> Prefilled:
        """Encode images, normalised [n, 3, H, W], and read the prompt [length] that they share, once per image."""
        memory = self.decoder.cross.encode(self.vision(pixels))
        cache, logits = self.decoder.read(prompt, memory)
        return Prefilled(memory, cache, logits)


class VisionTower:
    """From normalised pixels [n, 3, H, W] to image embeddings [n, tokens, width]."""

    def __init__(self, weights: Vision, linear: MakeLinear) -> None:
        # Without the layers, which may have made copies of their weights.
        self._weights = replace(weights, layers=())
        self._layers = [_VisionBlock(layer, weights.heads, linear) for layer in weights.layers]

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        import torch
        from torch.nn import functional

        weights = self._weights
        patches = functional.conv2d(pixels, *weights.patch, stride=weights.patch.weight.shape[-1])
        start = weights.start.expand(len(pixels), 1, -1)
        x = torch.cat([start, patches.flatten(2).transpose(1, 2)], dim=1).add_(weights.positions)
        for layer in self._layers:
            x = layer(x)
        return _layer_norm(x, weights.norm)


class _VisionBlock:
    def __init__(self, weights: VisionLayer, heads: int, linear: MakeLinear) -> None:
        self._norm1, self._norm2, self._heads = weights.norm1, weights.norm2, heads
        self._qkv, self._projection, self._up, self._down = (
            linear(each) for each in (weights.qkv, weights.projection, weights.up, weights.down)
        )

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional

        n, tokens, width = x.shape
        qkv = self._qkv(_layer_norm(x, self._norm1)).view(n, tokens, 3, self._heads, width // self._heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value)
        x = self._projection.add(seen.transpose(1, 2).reshape(n, tokens, width), x)
        return self._down.add(self._up.gelu(_layer_norm(x, self._norm2)), x)


class TextDecoder:
    """From tokens to logits. Rows are the sequences in progress: `beams` of them per group, group by group."""

    def __init__(self, weights: Text, linear: MakeLinear, *, absorbed: bool) -> None:
        self._words, self._positions, self._heads = weights.words, weights.positions, weights.heads
        self._norm = weights.norm
        self.cross: CrossAttention = AbsorbedAttention(weights) if absorbed else CachedAttention(weights, linear)
        self._layers = [_TextBlock(layer, weights.heads, linear) for layer in weights.layers]
        self._transform = None if weights.transform is None else (linear(weights.transform[0]), weights.transform[1])
        self._head = linear(weights.head)

    @property
    def longest(self) -> int:
        """How many tokens a sequence may have, prompt included."""
        return len(self._positions)

    def new_cache(self, groups: int, length: int, beams: int) -> torch.Tensor:
        """Zeros, as what a mask hides must not be NaN: [groups, layers, 2 (key, value), length, beams, heads, head]."""
        head = self._words.shape[1] // self._heads
        return self._words.new_zeros(groups, len(self._layers), 2, length, beams, self._heads, head)

    def read(self, prompt: torch.Tensor, memory: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The cache of a prompt for every image, and the logits [n, vocabulary] of the token after it."""
        import torch

        n, length = len(memory), len(prompt)
        cache = self.new_cache(n, length, 1)
        ids = prompt.repeat(n, 1)
        positions = torch.arange(length, device=memory.device)
        causal = (positions[:, None] >= positions).expand(n, 1, length, length)
        x = self._forward(self._embedded(ids, positions), Span(cache, None, causal), memory, None)
        return cache, self._logits(x.view(n, length, -1)[:, -1])

    def step(self, ids: torch.Tensor, span: Span, memory: torch.Tensor, order: RowOrder | None) -> torch.Tensor:
        """The logits [rows, vocabulary] after one more token per row; `ids` is [groups, beams]."""
        return self._logits(self._forward(self._embedded(ids, span.positions[:, None]), span, memory, order))

    def _embedded(self, ids: torch.Tensor, positions: Any) -> torch.Tensor:
        return _layer_norm(self._words[ids] + self._positions[positions], self._norm).flatten(0, 1)

    def _forward(self, x: torch.Tensor, span: Span, memory: torch.Tensor, order: RowOrder | None) -> torch.Tensor:
        for index, layer in enumerate(self._layers):
            x = layer.attend_to_text(x, span, index)
            x = layer.attend_to_image(x, self.cross, index, memory, order)
            x = layer.feed_forward(x)
        return x

    def _logits(self, x: torch.Tensor) -> torch.Tensor:
        if self._transform is not None:
            layer, norm = self._transform
            x = _layer_norm(layer.gelu(x), norm)
        return self._head(x)


class Span(NamedTuple):
    """Where in the cache the new tokens of n groups go, and what they attend to.

    `cache` is [n, layers, 2, length, beams, heads, head]. `positions` [n] is where each group writes its beams' next
    token; None fills the whole cache with one sequence. `mask` is bool[n, 1, new tokens, keys]: the keys are the first
    positions of the cache, the beams of a position side by side. So beams share a cache that is never reordered: the
    mask selects the keys that are a beam's own past.
    """

    cache: torch.Tensor
    positions: Any
    mask: torch.Tensor


class _TextBlock:
    def __init__(self, weights: TextLayer, heads: int, linear: MakeLinear) -> None:
        self._norms = weights.norm, weights.cross_norm, weights.down_norm
        self._heads = heads
        self._qkv, self._output, self._query, self._cross_output, self._up, self._down = (
            linear(each)
            for each in (
                weights.qkv, weights.output, weights.cross_query, weights.cross_output, weights.up, weights.down,
            )
        )  # fmt: skip

    def attend_to_text(self, x: torch.Tensor, span: Span, index: int) -> torch.Tensor:
        import torch
        from torch.nn import functional

        n, (rows, width) = len(span.cache), x.shape
        query, key, value = self._qkv(x).view(n, rows // n, 3, self._heads, -1).unbind(2)
        keys, values = span.cache[:, index].unbind(1)
        if span.positions is None:
            keys.copy_(key.unsqueeze(2))
            values.copy_(value.unsqueeze(2))
        else:
            group = torch.arange(n, device=x.device)
            keys[group, span.positions] = key
            values[group, span.positions] = value
        seen_length = span.mask.shape[-1] // keys.shape[2]
        keys, values = (each[:, :seen_length].flatten(1, 2).transpose(1, 2) for each in (keys, values))
        seen = functional.scaled_dot_product_attention(query.transpose(1, 2), keys, values, attn_mask=span.mask)
        return _layer_norm(self._output.add(seen.transpose(1, 2).reshape(rows, width), x), self._norms[0])

    def attend_to_image(
        self, x: torch.Tensor, cross: CrossAttention, index: int, memory: torch.Tensor, order: RowOrder | None
    ) -> torch.Tensor:
        query = self._query(x)
        if order is None:
            seen = cross.attend(index, query, memory)
        else:
            seen = cross.attend(index, query[order.rows], memory)[order.back]
        return _layer_norm(self._cross_output.add(seen, x), self._norms[1])

    def feed_forward(self, x: torch.Tensor) -> torch.Tensor:
        return _layer_norm(self._down.add(self._up.gelu(x), x), self._norms[2])


def _layer_norm(x: torch.Tensor, norm: Norm) -> torch.Tensor:
    from torch.nn import functional

    return functional.layer_norm(x, norm.weight.shape, *norm)
