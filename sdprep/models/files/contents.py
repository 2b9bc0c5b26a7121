"""What the files of a model really are, by their first and last bytes, before any framework is imported.

A download that broke off, a pointer instead of the file, or weights of another kind of model would otherwise end in
a message of the framework, after it has loaded.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sdprep.errors import ModelError
from sdprep.models.base import ModelFiles, ModelSpec
from sdprep.models.files.patterns import in_folder

HEAD = 512
PICKLE_SUFFIXES = (".bin", ".pth", ".pt", ".ckpt", ".pkl")
WEIGHTS = (".onnx", ".safetensors", ".pb", *PICKLE_SUFFIXES)
LFS = b"version https://git-lfs"
PAGES = (b"<!doctype", b"<html", b"<?xml", b"<head")
# The limit of the safetensors library for the table at the beginning of a file.
LARGEST_HEADER = 100_000_000
# How the names of weights begin or what they hold, for models that make images; the first that fits is named.
KINDS = (
    ("a LoRA", ("lora_unet_", "lora_te", "lora_transformer_"), (".lora_down.", ".lora_up.", ".lora_A.", ".lora_B.")),
    ("a Stable Diffusion checkpoint", ("model.diffusion_model.", "first_stage_model.", "cond_stage_model."), ()),
    ("an image-making model", ("double_blocks.", "down_blocks.", "up_blocks.", "joint_blocks."), ()),
)
MAKES_IMAGES = "It makes images and can neither tag nor caption them: choose a model from sdprep models list"


def check_contents(spec: ModelSpec, files: ModelFiles) -> None:
    """Raise ModelError if a file of a model is no such file, is cut off, or belongs to a model that makes images."""
    repaired = f"sdprep models download {spec.name}" if spec.source.repo else None
    advice = f"Repair it with: {repaired}" if repaired else "Download or copy it again"
    for name in in_folder(spec.files, files.folder):
        path = files.folder / name
        if (fault := fault_of(path)) is not None:
            raise ModelError(f"{path} {fault}\n{advice}")
        if path.suffix.lower() == ".safetensors" and (kind := kind_of(weight_names(path))) is not None:
            raise ModelError(f"{path} is {kind}\n{MAKES_IMAGES}")


def fault_of(path: Path) -> str | None:
    """Why a file cannot be what its name says, or None. Raises ModelError if it cannot be read."""
    try:
        with path.open("rb") as stream:
            head, size = stream.read(HEAD), path.stat().st_size
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from error
    suffix = path.suffix.lower()
    if head.startswith(LFS):
        return "is a Git LFS pointer, not the file itself: run `git lfs pull` where it was cloned"
    if head.lstrip().lower().startswith(PAGES):
        return "is a web page, not the file itself: the download saved a page of the site, such as an error or a login"
    if suffix in WEIGHTS and size == 0:
        return "is empty (0 bytes)"
    if suffix == ".safetensors":
        return _fault_of_safetensors(path, head, size)
    if suffix in PICKLE_SUFFIXES and head.startswith(b"PK\x03\x04") and not zipfile.is_zipfile(path):
        return "is cut off: the end of the file is missing"
    return None


def _fault_of_safetensors(path: Path, head: bytes, size: int) -> str | None:
    length = int.from_bytes(head[:8], "little")
    if size < 8 or length > LARGEST_HEADER or head[8:9] != b"{":
        return "is not a safetensors file"
    if 8 + length > size:
        return f"is cut off: it has {size:,} bytes, and its table alone needs {8 + length:,}"
    table = _table(path)
    if table is None:
        return "is not a safetensors file"
    ends = [each["data_offsets"][1] for name, each in table.items() if name != "__metadata__"]
    needed = 8 + length + max(ends, default=0)
    return f"is cut off: it has {size:,} of {needed:,} bytes" if size < needed else None


def _table(path: Path) -> dict[str, Any] | None:
    """The table of a safetensors file, or None if it is not one."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        data = stream.read(length if length <= LARGEST_HEADER else 0)
    try:
        table = json.loads(data)
    except (ValueError, RecursionError):
        return None
    entries = [each for name, each in table.items() if name != "__metadata__"] if isinstance(table, dict) else [None]
    return table if all(map(_has_offsets, entries)) else None


def _has_offsets(entry: Any) -> bool:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    return isinstance(offsets, list) and len(offsets) == 2 and all(type(each) is int for each in offsets)


def weight_names(path: Path) -> list[str]:
    """The names of the weights in a safetensors file, none if it is not one. Raises ModelError as `fault_of`."""
    return [] if fault_of(path) else [name for name in _table(path) or () if name != "__metadata__"]


def kind_of(names: Iterable[str]) -> str | None:
    """What weights of these names are, if they are of a model that makes images."""
    known = list(names)
    for kind, beginnings, parts in KINDS:
        if any(name.startswith(beginnings) or any(part in name for part in parts) for name in known):
            return kind
    return None
