"""The families of chat models that are loaded: those whose code is part of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sdprep.errors import ModelError
from sdprep.models.base import ModelSpec
from sdprep.models.captioners.trust import read_configs

# For each `model_type` of a config.json, the class of transformers that prepares images and text for it.
PROCESSORS = {
    "gemma3": "Gemma3Processor",
    "gemma4": "Gemma4Processor",
    "llava": "LlavaProcessor",
    "qwen2_vl": "Qwen2VLProcessor",
    "qwen2_5_vl": "Qwen2_5_VLProcessor",
    "qwen3_5": "Qwen3VLProcessor",
    "qwen3_vl": "Qwen3VLProcessor",
    "smolvlm": "SmolVLMProcessor",
}


def check_family(spec: ModelSpec, folder: Path) -> str:
    """The `model_type` of a folder's config.json.

    Raises ModelError if it is none of `PROCESSORS` or not that of the description, and for configurations that would
    run code or load another model.
    """
    path = folder / "config.json"
    found = _model_type(read_configs(folder).get(path.name, {}))
    if found not in PROCESSORS:
        raise ModelError(
            f"{path} describes a {found!r:.60} model, which sdprep does not load\n"
            f"It loads: {', '.join(PROCESSORS)}. Run others in a server and use --server"
        )
    if spec.model_type not in (None, found):
        raise ModelError(f"{path} describes a {found} model, but {spec.name} is described as {spec.model_type}")
    return found


def _model_type(config: dict[str, Any]) -> str | None:
    found = config.get("model_type")
    return found if isinstance(found, str) else None
