"""Reading TOML and JSON files of models, with faults in a person's words."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from sdprep.errors import ModelError

T = TypeVar("T")

# msgspec names types in the words of a programmer.
WORDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}


def read_toml(path: Path, kind: type[T]) -> T:
    """The value of a TOML file. Raises ModelError naming the file and the field that is wrong."""
    return _read(path, lambda data: msgspec.toml.decode(data, type=kind))


def read_json(path: Path, kind: type[T]) -> T:
    """The value of a JSON file. Raises ModelError naming the file and the field that is wrong."""
    return _read(path, lambda data: msgspec.json.decode(data, type=kind))


def as_type(value: Any, kind: type[T], where: object) -> T:
    """A part of a file as a type, whole numbers as keys allowed. Raises ModelError naming the place and the field."""
    try:
        return msgspec.convert(value, kind, str_keys=True)
    except msgspec.ValidationError as error:
        raise ModelError(f"{where}: {reason(error)}") from error


def _read(path: Path, decode: Callable[[bytes], T]) -> T:
    try:
        return decode(path.read_bytes())
    except (OSError, UnicodeDecodeError, RecursionError, msgspec.MsgspecError) as error:
        raise ModelError(f"{path}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """What is wrong with a file: the field first, then what was found in it."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8 text (byte {error.start})"
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    if not isinstance(error, msgspec.ValidationError):
        return str(error)
    what, _, where = str(error).partition(" - at ")
    field = where.strip("`").removeprefix("key in ").lstrip("`$").lstrip(".")
    what = re.sub(r"`([a-z]+(?: \| [a-z]+)*)`", _in_plain_words, what)
    what = re.sub(r"^Invalid (?:enum )?value (.*)$", r"\1 is not known here", what)
    what = what.replace("Object contains unknown field", "unknown field")
    what = what.replace("Object missing required field", "missing required field")
    what = what[0].lower() + what[1:]
    return f"{field}: {what}" if field else what


def _in_plain_words(types: re.Match[str]) -> str:
    words = [word for word in types[1].split(" | ") if word != "null" or types[1] == "null"]
    return " or ".join(WORDS[word] for word in words) if WORDS.keys() >= set(words) else types[0]
