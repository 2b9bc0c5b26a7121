"""What the settings of a command shape, and which of them are remembered: each field of a settings class says so."""

from __future__ import annotations

import json
from dataclasses import field, fields, is_dataclass
from typing import Any, Literal, TypeVar

Shapes = Literal["text", "result", "model"]
T = TypeVar("T")


def setting(default: T, *, shapes: Shapes | None, remembered: bool = False) -> T:
    """A field of a settings class, with what it shapes; other values leave that as it is.

    "result": what the model answers, and with it the text. "model": the same, but through the description or the files
    of the model, which stand for it where results are stored. "text": the text that is made of a result.
    What shapes anything is remembered for the next run, and so are `remembered` fields, as the names of sidecars.
    """
    made: T = field(default=default, metadata={"shapes": shapes, "remembered": remembered or shapes is not None})
    return made


def values_that_shape(settings: Any, shapes: Shapes) -> dict[str, Any]:
    """The fields of a settings object that shape this, by name, with their values as JSON has them.

    The fields of its groups of settings, such as `rules`, are among them.
    """
    found: dict[str, Any] = {}
    for each in fields(settings):
        value = getattr(settings, each.name)
        if is_dataclass(value):
            found |= values_that_shape(value, shapes)
        elif each.metadata["shapes"] == shapes:
            found[each.name] = json.loads(json.dumps(value, default=str))
    return found
