"""Pickled weights, which can run code: refused unless a person allows them, and then read without running any."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

from sdprep.errors import ModelError
from sdprep.models.base import ModelSpec

PICKLES = (".bin", ".pth", ".pt")
# Code could be run through weights_only in torch before 2.6 (CVE-2025-32434) and, as advisories have it, before 2.10
# (CVE-2026-24747).
SAFE_TORCH = (2, 10)
# Under these keys checkpoints of training scripts keep the weights.
WRAPPINGS = ("model", "state_dict")


def pickled_weights(spec: ModelSpec) -> str | None:
    """The first file of a model that is a pickle by its name, or None."""
    return next((name for name in spec.files if PurePosixPath(name).suffix.lower() in PICKLES), None)


def check_pickles(spec: ModelSpec, *, allowed: bool) -> None:
    """Raise ModelError if a model has a pickle and a person has not allowed that; no byte of it is read."""
    name = pickled_weights(spec)
    if name is not None and not allowed:
        raise ModelError(
            f"{spec.name}: {name} is a pickle, which can run code when it is read; it was not\n"
            "Use the model as .safetensors, or say --allow-pickle if you trust whoever made it"
        )


def read_weights(torch: Any, path: Path) -> dict[str, Any]:
    """The tensors of a pickle by name. Raises ModelError for a torch that cannot do that safely, and other content."""
    if tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) < SAFE_TORCH:
        raise ModelError(
            f"{path} is not read with torch {torch.__version__}: a pickle can run code in torch before "
            f'{".".join(map(str, SAFE_TORCH))}\nUse the model as .safetensors, or: pip install "torch>=2.10"'
        )
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever a wrong file leads it to
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{path} holds more than weights, or is broken; nothing of it was run: {reason}") from error
    for name in WRAPPINGS:
        found = found[name] if isinstance(found, dict) and isinstance(found.get(name), dict) else found
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise ModelError(f"{path} holds no weights by name, as a captioner has them")
    return {str(name): value for name, value in found.items()}
