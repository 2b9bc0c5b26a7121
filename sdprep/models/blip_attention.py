"""How the decoder looks at an image: two forms of one cross attention.

With h heads of d numbers, embeddings E and a query q, head i of the decoder computes softmax(q (E K + k)') (E V + v).

- *Cached*: the keys E K + k and values E V + v of all layers are computed once for each image, and shared by its beams.
- *Absorbed*: softmax((q K') E') E V + v, which is the same: q k' adds one number to all scores of a query, which the
  softmax takes out, and its weights sum to one. Nothing is computed beforehand, and all layers and beams share E.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from sdprep.models.blip_linear import MakeLinear
from sdprep.models.blip_weights import Text, TextLayer
from sdprep.models.decoding import Decoding

if TYPE_CHECKING:
    import torch


class Places(NamedTuple):
    """Rows by image, where images have different numbers of rows.

    `rows` [images * most] names the rows of each image, filled up with any; `back` [rows] where each row is in it.
    """

    rows: torch.Tensor
    back: torch.Tensor


class CrossAttention(Protocol):
    """One of the two forms. Its memory of images has the images as first axis, so that it can be cut by image."""

    def remember(self, embeddings: torch.Tensor) -> torch.Tensor:
        """The memory of n images, from their embeddings [n, tokens, width]."""

    def attend(self, layer: int, query: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        """What queries [rows, width] see in a layer; as many rows for each image of the memory, image by image."""


# From this many tokens on the cached form is faster on a processor (benchmarks/RESULTS.md).
LONG = 32


def prefers_absorbed(device: str, decoding: Decoding) -> bool:
    """Whether the absorbed form suits a decoding: on a processor, unless every caption must be long.

    On other devices, where a projection costs little and a launch much, the cached form has fewer steps.
    """
    return device == "cpu" and decoding.min_new_tokens < LONG


def cross_attention(weights: Text, linear: MakeLinear, *, absorbed: bool) -> CrossAttention:
    """The cross attention of a decoder in one of its forms."""
    return AbsorbedAttention(weights) if absorbed else CachedAttention(weights, linear)


class AbsorbedAttention:
    """The memory of an image is its embeddings."""

    def __init__(self, weights: Text) -> None:
        self._heads = weights.heads
        self._layers = [self._split(layer) for layer in weights.layers]

    def remember(self, embeddings: torch.Tensor) -> torch.Tensor:
        return embeddings

    def attend(self, layer: int, query: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        import torch

        (rows, width), (n, _, depth) = query.shape, memory.shape
        key, value, bias = self._layers[layer]
        query = (query * (width // self._heads) ** -0.5).view(rows, self._heads, -1).transpose(0, 1)
        folded = torch.bmm(query, key).transpose(0, 1).reshape(n, -1, depth)
        seen = torch.bmm(torch.bmm(folded, memory.transpose(1, 2)).softmax(-1), memory)
        parts = torch.bmm(seen.view(rows, self._heads, depth).transpose(0, 1), value)
        return parts.transpose(0, 1).reshape(rows, width) + bias

    def _split(self, layer: TextLayer) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Key weights [heads, head, depth], value weights [heads, depth, head], value bias [width]; views."""
        parts = (layer.cross_key.weight, layer.cross_value.weight)
        key, value = (each.view(self._heads, -1, each.shape[1]) for each in parts)
        return key, value.transpose(1, 2), layer.cross_value.bias


class CachedAttention:
    """The memory of an image is the keys and values of every layer, [n, layers, 2, heads, tokens, head]."""

    def __init__(self, weights: Text, linear: MakeLinear) -> None:
        self._heads = weights.heads
        self._layers = [[linear(each) for each in (layer.cross_key, layer.cross_value)] for layer in weights.layers]

    def remember(self, embeddings: torch.Tensor) -> torch.Tensor:
        import torch

        n, tokens, _ = embeddings.shape
        layers = [
            torch.stack([part(embeddings).view(n, tokens, self._heads, -1).transpose(1, 2) for part in parts], dim=1)
            for parts in self._layers
        ]
        return torch.stack(layers, dim=1)

    def attend(self, layer: int, query: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional

        n, (rows, width) = len(memory), query.shape
        key, value = memory[:, layer].unbind(1)
        split = query.view(n, rows // n, self._heads, -1).transpose(1, 2)
        seen = functional.scaled_dot_product_attention(split, key, value)
        return seen.transpose(1, 2).reshape(rows, width)
