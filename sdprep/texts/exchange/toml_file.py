"""TOML files for trainers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sdprep.texts.exact_json import quote
from sdprep.texts.exchange.sample import NewFile


def toml_file(name: str, tables: Sequence[tuple[str, Mapping[str, Any]]]) -> NewFile:
    """A TOML file of tables with their headings; values are texts, booleans, numbers and lists of these."""
    blocks = []
    for heading, table in tables:
        lines = [heading] if heading else []
        blocks.append("\n".join([*lines, *(f"{key} = {_value(value)}" for key, value in table.items())]))
    return NewFile(name, [("\n\n".join(blocks) + "\n").encode()])


def _value(value: Any) -> str:
    return f"[{', '.join(map(_value, value))}]" if isinstance(value, list) else quote(value)
