"""Brings torch and transformers to the captioners: one place that imports them, and finds the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sdprep.devices import split_device
from sdprep.errors import ModelError, UsageError
from sdprep.models.backends import importing


def import_torch(extra: str) -> Any:
    """torch, which `extra` installs. Raises MissingExtra if it is not installed, ModelError if it cannot be loaded."""
    with importing("torch", extra):
        import torch
    return torch


def import_transformers(extra: str, names: Sequence[str]) -> Any:
    """transformers with these names loaded, which takes seconds; find the device first. Raises as `import_torch`."""
    with importing("transformers", extra):
        import transformers

        # transformers imports the class of a name only when the name is used.
        for name in names:
            getattr(transformers, name)
    return transformers


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


def check_loaded(loading: Mapping[str, Any], folder: Path, kind: str) -> None:
    """Raise ModelError if transformers lacked a weight of a model of this kind, or found one of another shape.

    It would continue with random numbers instead. `loading` is what it says under `output_loading_info`.
    """
    if loading["missing_keys"]:
        missing = ", ".join(sorted(loading["missing_keys"])[:3])
        raise ModelError(f"{folder} lacks weights of a {kind}: {missing}, ...")
    if loading["mismatched_keys"]:
        name, found, wanted = min(loading["mismatched_keys"])
        raise ModelError(f"{folder}: {name} has shape {list(found)}, but config.json asks for {list(wanted)}")
