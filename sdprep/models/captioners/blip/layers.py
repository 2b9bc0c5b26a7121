"""The decoder's layers: linear layers on the kernels that suit the device, and two forms of its cross attention.

With h heads of d numbers, embeddings E and a query q, head i of the decoder computes softmax(q (E K + k)') (E V + v).

- *Cached*: the keys E K + k and values E V + v of all layers are computed once for each image and shared by its beams.
- *Absorbed*: softmax((q K') E') E V + v, which is the same: q k' adds one number to all scores of a query, which the
  softmax takes out, and its weights sum to one. Nothing is computed beforehand; all layers and beams share E.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from sdprep.errors import UsageError
from sdprep.models.captioners.blip.weights import Linear, Text, TextLayer
from sdprep.models.captioners.generation import GenerationConfig

if TYPE_CHECKING:
    import torch


class LinearLayer(Protocol):
    """y = xW + b over the last axis, and the two forms of it that a transformer needs."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The layer alone."""

    def gelu(self, x: torch.Tensor) -> torch.Tensor:
        """The layer, then GELU by the error function."""

    def add(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """The layer plus a residual of the same shape as its answer."""


MakeLinear = Callable[[Linear], LinearLayer]


class PlainLinear:
    """torch's own linear layer."""

    def __init__(self, linear: Linear) -> None:
        self._linear = linear

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional

        return functional.linear(x, *self._linear)

    def gelu(self, x: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional

        return functional.gelu(self(x))

    def add(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        return self(x).add_(residual)


class OneDnnLinear:
    """oneDNN's linear layer in float32, with what follows fused into it.

    torch sends float32 products to MKL, which is slow for a few rows, and on AMD's processors for many (figures in
    benchmarks/RESULTS.md). The weights are copied once, into oneDNN's own layout.
    """

    def __init__(self, linear: Linear) -> None:
        import torch

        self._ops = torch.ops.mkldnn
        self._weight, self._bias = self._ops._reorder_linear_weight(linear.weight), linear.bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self._ops._linear_pointwise(x, self._weight, self._bias, "none", [], "")
        return y

    def gelu(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self._ops._linear_pointwise(x, self._weight, self._bias, "gelu", [], "none")
        return y

    def add(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self._ops._linear_pointwise.binary(x, residual, self._weight, self._bias, "add")
        return y


class Int8Linear:
    """oneDNN's product of whole numbers: weights of 8 bits, one scale for each output; activations of 8 bits, by row.

    A row is rounded by its own greatest number, so an answer does not depend on the rows beside it, and the products
    are exact. Everything around them is float32. Raises UsageError where torch lacks the kernel.
    """

    def __init__(self, linear: Linear) -> None:
        import torch

        one_dnn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        if not one_dnn or not hasattr(torch.ops.onednn, "qlinear_pointwise"):
            raise UsageError(f"--dtype int8: torch {torch.__version__} cannot multiply in int8 here; use float32")
        # Without VNNI a processor adds two products in 16 bits, which 2 * 255 * 64 do not fill.
        levels = 127 if torch.cpu._is_vnni_supported() else 64
        self._scales = linear.weight.abs().amax(1).clamp_min(_TINY) / levels
        whole = (linear.weight / self._scales[:, None]).round().to(torch.int8)
        self._ops, self._bias = torch.ops.onednn, linear.bias
        self._weight = self._ops.qlinear_prepack(whole, None)
        self._zeros = torch.zeros(len(whole), dtype=torch.int32)
        self._half = torch.tensor(_ZERO + 0.5)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        import torch

        scale = x.abs().amax(-1, keepdim=True).clamp_min(_TINY) / 127
        whole = torch.addcmul(self._half, x, 1 / scale).to(torch.uint8)
        y = self._ops.qlinear_pointwise(
            whole, 1.0, _ZERO, self._weight, self._scales, self._zeros,
            None, 1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return torch.addcmul(self._bias, y, scale)

    def gelu(self, x: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional

        return functional.gelu(self(x))

    def add(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        return self(x).add_(residual)


# What stands for zero in 8 bits without a sign, the only form of activations that oneDNN is fast with.
_ZERO = 128
# Rows of zeros must not divide by zero.
_TINY = 1e-30


def linear_layer(linear: Linear) -> LinearLayer:
    """The layer on oneDNN where it serves: float32 on a processor, in a torch that has it; else on torch's own."""
    import torch

    one_dnn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    serves = linear.weight.device.type == "cpu" and linear.weight.dtype == torch.float32
    if serves and one_dnn and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return OneDnnLinear(linear)
    return PlainLinear(linear)


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


def prefers_absorbed(device: str, decoding: GenerationConfig) -> bool:
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
