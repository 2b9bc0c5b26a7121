"""torch and transformers for captioners: importing them, and the device and the precision that a run asks for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sdprep.devices import split_device
from sdprep.errors import UsageError
from sdprep.models.backends import importing

if TYPE_CHECKING:
    import torch


def import_frameworks(names: Iterable[str], extra: str = "caption") -> tuple[Any, Any]:
    """torch, and transformers with the classes of these names. Raises MissingExtra naming what installs them."""
    with importing("torch", extra):
        import torch
    with importing("transformers", extra):
        import transformers

        # transformers imports the class of a name only when the name is used.
        for name in names:
            getattr(transformers, name)
    return torch, transformers


def torch_device(torch: Any, wanted: str) -> Any:
    """The device that a run asks for; "auto" is the fastest. Raises UsageError if this torch does not see it."""
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if split_device(wanted)[0] == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"--device {wanted}: this torch {torch.__version__} sees no CUDA device")
    if wanted == "mps" and not torch.backends.mps.is_available():
        raise UsageError("--device mps: this torch sees no Metal device")
    try:
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {wanted}: {str(error).splitlines()[0]}") from error
    return torch.device(wanted)


def torch_dtype(name: str, device: torch.device) -> torch.dtype:
    """The precision in which weights are loaded; int8 is made from float32."""
    import torch

    if name == "int8" and device.type != "cpu":
        raise UsageError(f"--dtype int8 runs on the CPU only, not on {device}: use --device cpu")
    return torch.float32 if name == "int8" else getattr(torch, name)
