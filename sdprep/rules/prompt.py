"""Prompts with variables: `{tags}`, or `{tags|none}` with what stands for tags that are missing; `{{` is a brace."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from sdprep.errors import UsageError

VARIABLES = ("tags", "characters", "general", "rating", "caption", "name", "folder", "trigger")
# A doubled brace, a variable with or without a substitute, or a brace that belongs to neither.
PIECE = re.compile(r"\{\{|\}\}|\{(?P<name>[A-Za-z_]+)(?:\|(?P<substitute>[^{}]*))?\}|[{}]")

PRESET = re.compile(r"\{preset:([^{}]*)\}")


class MissingValue(Exception):  # noqa: N818 - it says what an image lacks
    """An image has no value for a variable, and the prompt names no substitute; `args` has the variable."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable in a prompt, and the text that stands for a missing value, if there is one."""

    name: str
    substitute: str | None


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as texts and variables in their order."""

    pieces: tuple[str | Variable, ...]

    @property
    def variables(self) -> tuple[str, ...]:
        """The names of its variables, each once."""
        return tuple(dict.fromkeys(piece.name for piece in self.pieces if isinstance(piece, Variable)))

    def render(self, values: Mapping[str, str]) -> str:
        """The prompt for one image; a blank value counts as missing. Raises MissingValue."""
        return "".join(piece if isinstance(piece, str) else _value(piece, values) for piece in self.pieces)


def parse_prompt(text: str) -> Prompt:
    """Read a prompt. Raises UsageError for an unknown variable and for a single brace."""
    pieces: list[str | Variable] = []
    end = 0
    for found in PIECE.finditer(text):
        pieces.append(text[end : found.start()])
        end = found.end()
        if found[0] in ("{{", "}}"):
            pieces.append(found[0][0])
        elif found["name"] is None:
            raise UsageError(f"the prompt has a single {found[0]}: write {found[0] * 2} for a brace\n{_known()}")
        elif found["name"] not in VARIABLES:
            raise UsageError(f"the prompt has an unknown variable {found[0]}\n{_known()}")
        else:
            pieces.append(Variable(found["name"], found["substitute"]))
    pieces.append(text[end:])
    return Prompt(tuple(piece for piece in pieces if piece))


def variables_in(text: str) -> list[str]:
    """The variables of a prompt as they are written; all other braces are text."""
    return [found[0] for found in PIECE.finditer(text) if found["name"] in VARIABLES]


def with_presets(text: str, presets: Mapping[str, str]) -> str:
    """A prompt with those of the model's presets that it names as `{preset:name}`. Raises UsageError for others."""

    def preset(found: re.Match[str]) -> str:
        if found[1] not in presets:
            has = f"It has: {', '.join(presets)}" if presets else "It has none"
            raise UsageError(f"the model has no prompt preset '{found[1]}'\n{has}")
        return presets[found[1]]

    return PRESET.sub(preset, text)


def prompt_hash(prompt: str) -> str:
    """What tells rendered prompts apart in the record of a caption."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]


def _known() -> str:
    return "Variables: " + ", ".join(f"{{{name}}}" for name in VARIABLES)


def _value(variable: Variable, values: Mapping[str, str]) -> str:
    value = values.get(variable.name, "")
    if value.strip():
        return value
    if variable.substitute is None:
        raise MissingValue(variable.name)
    return variable.substitute
