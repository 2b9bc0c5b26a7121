"""Linear layers on the kernels that suit the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from sdprep.errors import UsageError
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
