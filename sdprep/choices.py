"""The values that an option takes: stated once, as the `Literal` type of a settings field."""

from __future__ import annotations

from functools import cache
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from sdprep.errors import UsageError


@cache
def choices(settings: type, name: str) -> tuple[str, ...]:
    """The values that a field of a settings class takes, in the order of its type; none if it takes any."""
    return literals(_types(settings)[name])


def check_choices(settings: object) -> None:
    """Raise UsageError, with the option and its choices, if a field holds a value that is not one of them."""
    kind: type = type(settings)
    for name, hint in _types(kind).items():
        allowed, value = choices(kind, name), getattr(settings, name)
        if not allowed or (value is None and NoneType in get_args(hint)):
            continue
        wrong = [each for each in (value if isinstance(value, tuple) else (value,)) if each not in allowed]
        if wrong:
            listed = f"{', '.join(allowed[:-1])} or {allowed[-1]}"
            raise UsageError(f"--{name.replace('_', '-')} takes {listed}, not {wrong[0]!r}")


@cache
def _types(settings: type) -> dict[str, Any]:
    return get_type_hints(settings)


def literals(hint: Any) -> tuple[str, ...]:
    """The choices of a type, also where it is one of several."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    return tuple(each for part in get_args(hint) for each in literals(part))
