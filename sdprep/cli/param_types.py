"""What kinds of values options take, on the command line and from settings files."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import click

from sdprep.errors import UsageError

# What a message to a worker holds of a whole number.
MOST = 2**63 - 1
# How much of a wrong value a message repeats: entries of a list, characters of a text.
MOST_SHOWN, LONGEST_SHOWN = 5, 200


class Raw(click.types.UnprocessedParamType):
    """The type of an option that a callback reads; a settings file may give it one of `kinds`, which `words` say."""

    def __init__(self, words: str, *kinds: type) -> None:
        self.words, self.kinds = words, kinds


class Int64(click.IntRange):
    """A whole number within bounds, and of 64 bits at most."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number. Raises BadParameter for any other text, and for larger ones."""
        number: int = super().convert(value, param, ctx)
        if abs(number) > MOST:
            self.fail(f"{value} is too large a number.", param, ctx)
        return number


class FiniteFloat(click.FloatRange):
    """A number within bounds that is one: neither `nan`, which passes every bound, nor `inf`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number. Raises BadParameter for any other text."""
        try:
            number: float = super().convert(value, param, ctx)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            self.fail(f"{value} is not a number that can be used.", param, ctx)
        return number


TEXTS = Raw("text or a list of texts", str, list)


def comma_list(_: click.Context, __: click.Parameter, value: Any) -> tuple[str, ...]:
    r"""A callback that takes text parted by commas, or a list in a settings file; `\,` is a comma of the text."""
    parts = [part.replace(r"\,", ",") for part in re.split(r"(?<!\\),", value)] if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)) or not all(isinstance(part, str) for part in parts):
        raise click.BadParameter(f"{value!r} is neither text nor a list of texts")
    found = tuple(part.strip() for part in parts if part.strip())
    if not found and "," in value:
        raise click.BadParameter(rf"{value!r} holds no text; a comma itself is written \,")
    return found


def check_kind(option: click.Option, value: Any, where: str) -> None:
    """Raise UsageError unless a value of a settings file is of a kind that its option takes.

    click would turn some others into text, or cut their decimals off.
    """
    words, kinds = _taken(option)
    texts = all(isinstance(part, str) for part in value) if isinstance(value, list) else True
    if type(value) not in kinds or not texts:
        raise click.UsageError(f"{where} takes {words}, not {_shown(value)}")


def value_used(ctx: click.Context, option: click.Option, value: Any, where: str) -> Any:
    """Return what a run uses for a value of a settings file. Raises UsageError if the option refuses it."""
    try:
        return option.process_value(ctx, value)
    except (click.UsageError, UsageError) as error:
        said = error.message if isinstance(error, click.UsageError) else str(error)
        raise click.UsageError(f"{where}: {said}") from error


def _shown(value: Any) -> str:
    """Return the beginning of a value as TOML has it. A table may be nested deeper than Python can follow."""
    if isinstance(value, dict):
        return "{...}"
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value[:MOST_SHOWN]))}{', ...' if len(value) > MOST_SHOWN else ''}]"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _taken(option: click.Option) -> tuple[str, tuple[type, ...]]:
    """What a settings file may give for an option, in words and as Python's types."""
    if option.multiple:
        return "a list of texts", (list,)
    if isinstance(option.type, Raw):
        return option.type.words, option.type.kinds
    if option.is_flag:
        return "true or false", (bool,)
    if isinstance(option.type, click.types.IntParamType):
        return "a whole number", (int,)
    if isinstance(option.type, click.types.FloatParamType):
        return "a number", (int, float)
    return "text", (str,)
