"""Refuse what would run code from a captioner's folder: pickled weights and configurations that ask for code."""

from __future__ import annotations

import re
import stat
from pathlib import Path, PurePosixPath
from typing import Any

from sdprep.errors import ModelError
from sdprep.models.base import ModelSpec
from sdprep.models.parse import LARGEST_FILE, read_json

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


# transformers reads more of them than a model must have.
PATTERN = "*config.json"
# What it reads whole: configurations, vocabularies and templates.
READ_WHOLE = (".json", ".txt", ".jinja")
# What a configuration calls the Python files that come with it, and what lets it load another model.
CODE, ADAPTER = "auto_map", "adapter_config.json"


def read_configs(folder: Path) -> dict[str, dict[str, Any]]:
    """Every configuration of a folder by the name of its file.

    Raises ModelError if one is broken or asks for code, or if transformers could not read a file within bounds.
    """
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in READ_WHOLE:
            _check_bounded(path)
    found = {path.name: read_json(path, dict[str, Any]) for path in sorted(folder.glob(PATTERN))}
    for name, config in found.items():
        if _asks_for_code(config):
            raise ModelError(
                f"{folder / name} asks for code of its own ({CODE}), which sdprep never runs\n"
                "Use weights converted for transformers, such as those of florence-community, or run the model in a "
                "server and use --server"
            )
    if ADAPTER in found:
        raise ModelError(f"{folder} holds an adapter ({ADAPTER}), which names another model\nMerge the two first")
    return found


def _check_bounded(path: Path) -> None:
    """Raise ModelError unless a file is a regular one, which has an end, and of a size that fits into memory."""
    try:
        status = path.stat()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise ModelError(f"{path} is not a regular file")
    if status.st_size > LARGEST_FILE:
        raise ModelError(f"{path} has {status.st_size:,} bytes; the limit for such files is {LARGEST_FILE:,}")


def _asks_for_code(value: Any) -> bool:
    """Whether the key stands anywhere in a configuration."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict) and CODE in each:
            return True
        waiting += each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
    return False
