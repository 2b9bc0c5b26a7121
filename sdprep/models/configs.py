"""The configuration files of a captioner's folder, refused where they ask for code of their own."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

from sdprep.errors import ModelError
from sdprep.models.parse import LARGEST_FILE, read_json

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
                "Use a model that needs none: BLIP is part of transformers"
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
