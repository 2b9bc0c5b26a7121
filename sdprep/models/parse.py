"""Reading TOML and JSON files of models, with faults in a person's words."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from sdprep.errors import ModelError
from sdprep.files import read_limited, read_toml_bytes

T = TypeVar("T")

# The largest label files of published taggers have 10 MB.
LARGEST_FILE = 32 << 20
LONGEST_REASON = 300

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
    return _read(path, read_toml_bytes, lambda data: msgspec.toml.decode(data, type=kind))


def read_json(path: Path, kind: type[T]) -> T:
    """The value of a JSON file. Raises ModelError naming the file and the field that is wrong."""
    return _read(path, read_data, lambda data: msgspec.json.decode(data, type=kind))


def read_data(path: Path) -> bytes:
    """The bytes of a model's file that is held in memory. Raises OSError as `read_limited`."""
    return read_limited(path, LARGEST_FILE)


def as_type(value: Any, kind: type[T], where: object) -> T:
    """A part of a file as a type, whole numbers as keys allowed. Raises ModelError naming the place and the field."""
    try:
        return msgspec.convert(value, kind, str_keys=True)
    except msgspec.ValidationError as error:
        raise ModelError(f"{where}: {reason(error)}") from error


def _read(path: Path, read: Callable[[Path], bytes], decode: Callable[[bytes], T]) -> T:
    try:
        return decode(read(path))
    # ValueError: tomllib raises it as it is for a number of too many digits.
    except (OSError, ValueError, RecursionError, MemoryError, msgspec.MsgspecError) as error:
        raise ModelError(f"{path}: {reason(error)}") from error


def reason(error: Exception) -> str:
    """What is wrong with a file: the field first, then what was found in it."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8 text (byte {error.start})"
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    if isinstance(error, MemoryError):
        return "there is not enough memory to read it"
    if not isinstance(error, msgspec.ValidationError):
        return str(error)[:LONGEST_REASON]
    # It quotes what it found, however long that is.
    what, _, where = str(error).partition(" - at ")
    what = what[:LONGEST_REASON]
    field = where.strip("`").removeprefix("key in ").lstrip("`$").lstrip(".")
    what = re.sub(r"`([a-z]+(?: \| [a-z]+)*)`", _in_plain_words, what)
    what = re.sub(r"^Invalid (?:enum )?value (.*)$", r"\1 is not known here", what)
    what = what.replace("Object contains unknown field", "unknown field")
    what = what.replace("Object missing required field", "missing required field")
    what = what[0].lower() + what[1:]
    return f"{field}: {what}" if field else what


def cause(error: BaseException) -> str:
    """The class of an error of another library and the beginning of what it says, in one line."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {said[:LONGEST_REASON]}".removesuffix(": ")


def _in_plain_words(types: re.Match[str]) -> str:
    words = [word for word in types[1].split(" | ") if word != "null" or types[1] == "null"]
    return " or ".join(WORDS[word] for word in words) if WORDS.keys() >= set(words) else types[0]
