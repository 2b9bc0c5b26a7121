"""The decoder's layers: linear layers on the kernels that suit the device, and two forms of its cross attention.

With h heads of size d, embeddings E and a query q, head i of the decoder computes softmax(q (E K + k)') (E V + v).

- *Cached*: the keys E K + k and values E V + v of all layers are computed once per image and shared by its beams.
- *Absorbed*: softmax((q K') E') E V + v, which is equal: q k' adds the same number to all scores of a query, which the
  softmax removes, and its weights sum to one. Nothing is computed in advance; all layers and beams share E.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from sdprep.errors import UsageError
from sdprep.models.captioners.blip.weights import Linear, Text, TextLayer
from sdprep.models.captioners.generation import GenerationConfig

if TYPE_CHECKING:
    import torch


class LinearLayer:
    """y = xW + b over the last axis, by torch's own kernel, with the two fused forms that a transformer needs."""

    def __init__(self, linear: Linear) -> None:
        self._linear = linear

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The layer alone."""
        from torch.nn import functional

        return functional.linear(x, *self._linear)

    def gelu(self, x: torch.Tensor) -> torch.Tensor:
        """The layer, then GELU by the error function."""
        from torch.nn import functional

        return functional.gelu(self(x))

    def add(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """The layer plus a residual of the same shape as its result."""
        return self(x).add_(residual)


MakeLinear = Callable[[Linear], LinearLayer]


class OneDnnLinear(LinearLayer):
    """oneDNN's linear layer in float32, with the operation after it fused in.

    torch sends float32 products to MKL, which is slow for a few rows, and on AMD CPUs for many (figures in
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


class Int8Linear(LinearLayer):
    """oneDNN's int8 product: weights with one scale per output, activations with one scale per row.

    A row is quantized by its own maximum, so a result does not depend on the other rows, and the integer products are
    exact. Everything around them is float32. Raises UsageError where torch lacks the kernel.
    """

    def __init__(self, linear: Linear) -> None:
        import torch

        if not _has_onednn() or not hasattr(torch.ops.onednn, "qlinear_pointwise"):
            raise UsageError(f"--dtype int8: torch {torch.__version__} cannot multiply in int8 here; use float32")
        # Without VNNI a CPU adds two products in 16 bits, which 2 * 255 * 64 does not overflow.
        levels = 127 if torch.cpu._is_vnni_supported() else 64
        self._scales = linear.weight.abs().amax(1).clamp_min(_TINY) / levels
        whole = (linear.weight / self._scales[:, None]).round().to(torch.int8)
        self._ops, self._bias = torch.ops.onednn, linear.bias
        self._weight = self._ops.qlinear_prepack(whole, None)
        self._zeros = torch.zeros(len(whole), dtype=torch.int32)
        self._half = torch.tensor(_ZERO_POINT + 0.5)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        import torch

        scale = x.abs().amax(-1, keepdim=True).clamp_min(_TINY) / 127
        whole = torch.addcmul(self._half, x, 1 / scale).to(torch.uint8)
        y = self._ops.qlinear_pointwise(
            whole, 1.0, _ZERO_POINT, self._weight, self._scales, self._zeros,
            None, 1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return torch.addcmul(self._bias, y, scale)


# oneDNN is fast with unsigned activations only.
_ZERO_POINT = 128
# Rows of zeros must not divide by zero.
_TINY = 1e-30


def _has_onednn() -> bool:
    import torch

    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return available


def linear_layer(linear: Linear) -> LinearLayer:
    """The layer on oneDNN for float32 on a CPU, if torch has it; otherwise on torch's own kernel."""
    import torch

    suits_onednn = linear.weight.device.type == "cpu" and linear.weight.dtype == torch.float32
    if suits_onednn and _has_onednn() and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return OneDnnLinear(linear)
    return LinearLayer(linear)


class RowOrder(NamedTuple):
    """Rows by image, where images have different numbers of rows.

    `rows` [images * most] lists the rows of each image, padded with any row; `back` [rows] is each row's index in it.
    """

    rows: torch.Tensor
    back: torch.Tensor


# The cached form is faster on a CPU from this many tokens on (benchmarks/RESULTS.md).
LONG = 32


def prefers_absorbed(device: str, decoding: GenerationConfig) -> bool:
    """Whether the absorbed form is faster: on a CPU, unless every caption must be long.

    On other devices, where a projection costs little and a kernel launch much, the cached form has fewer steps.
    """
    return device == "cpu" and decoding.min_new_tokens < LONG


class AbsorbedAttention:
    """Cross attention whose memory of an image is its embeddings."""

    def __init__(self, weights: Text) -> None:
        self._heads = weights.heads
        self._layers = [self._split(layer) for layer in weights.layers]

    def encode(self, embeddings: torch.Tensor) -> torch.Tensor:
        """The memory of n images, from their embeddings [n, tokens, width]."""
        return embeddings

    def attend(self, layer: int, query: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        """The attention of queries [rows, width] in a layer; the rows are in the order of the images of the memory."""
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
    """Cross attention whose memory is the keys and values of every layer, [n, layers, 2, heads, tokens, head]."""

    def __init__(self, weights: Text, linear: MakeLinear) -> None:
        self._heads = weights.heads
        self._layers = [[linear(each) for each in (layer.cross_key, layer.cross_value)] for layer in weights.layers]

    def encode(self, embeddings: torch.Tensor) -> torch.Tensor:
        """As in the absorbed form."""
        import torch

        n, tokens, _ = embeddings.shape
        layers = [
            torch.stack([part(embeddings).view(n, tokens, self._heads, -1).transpose(1, 2) for part in parts], dim=1)
            for parts in self._layers
        ]
        return torch.stack(layers, dim=1)

    def attend(self, layer: int, query: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
        """As in the absorbed form."""
        from torch.nn import functional

        n, (rows, width) = len(memory), query.shape
        key, value = memory[:, layer].unbind(1)
        split = query.view(n, rows // n, self._heads, -1).transpose(1, 2)
        seen = functional.scaled_dot_product_attention(split, key, value)
        return seen.transpose(1, 2).reshape(rows, width)


CrossAttention = AbsorbedAttention | CachedAttention
