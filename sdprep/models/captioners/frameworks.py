"""Brings torch and transformers to the captioners: one place that imports them, and finds the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sdprep.devices import split_device
from sdprep.errors import UsageError
from sdprep.models.backends import importing


def import_frameworks(extra: str, names: Sequence[str]) -> tuple[Any, Any]:
    """torch and transformers, with these names of transformers loaded; `extra` installs both.

    Raises MissingExtra if one is not installed, ModelError if it cannot be loaded.
    """
    with importing("torch", extra):
        import torch
    with importing("transformers", extra):
        import transformers

        # transformers imports the class of a name only when the name is used.
        for name in names:
            getattr(transformers, name)
    return torch, transformers


def find_device(torch: Any, wanted: str) -> Any:
    """The torch device of `--device`. Raises UsageError if this torch does not have it."""
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
