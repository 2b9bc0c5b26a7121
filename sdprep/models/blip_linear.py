"""Linear layers on the kernels that suit the device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sdprep.models.blip_weights import Linear

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


def linear_layer(linear: Linear) -> LinearLayer:
    """The layer on oneDNN where it serves: float32 on a processor, in a torch that has it; else on torch's own."""
    import torch

    one_dnn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    serves = linear.weight.device.type == "cpu" and linear.weight.dtype == torch.float32
    if serves and one_dnn and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return OneDnnLinear(linear)
    return PlainLinear(linear)
