"""The values of options: as a catalog remembers them, and as a user writes them on the command line."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import msgspec

from sdprep.catalog.stated import StatedRow
from sdprep.choices import literals
from sdprep.models.registry.registry import model_path
from sdprep.paths import is_inside, is_safe_relative
from sdprep.sanitize import strip_invisible

# How the value of a path below the catalog's folder begins; it moves with the dataset.
BELOW = "./"
# Options that are repeated for several values.
REPEATED = ("model", "server", "pack", "add", "remove", "replace", "regex", "move")


class OptionValues:
    """Converts values between the fields of a settings class and the rows of catalogs."""

    def __init__(self, kind: type) -> None:
        self._types: dict[str, Any] = {"preset": str, **_types(kind)}

    def to_row(self, option: str, value: Any, root: Path) -> Any:
        """The JSON of a value. Paths are those below the catalog's folder, or absolute."""
        if option == "model" and isinstance(value, tuple):
            return [self.to_row(option, each, root) for each in value]
        path = _path_in(option, value)
        if path is None:
            return msgspec.to_builtins(value)
        absolute = Path(os.path.abspath(path))  # noqa: PTH100 - links stay
        return f"{BELOW}{absolute.relative_to(root).as_posix()}" if absolute.is_relative_to(root) else str(absolute)

    def from_row(self, row: StatedRow, root: Path) -> Any:
        """The typed value of a row. Raises ValueError if the option takes no such value."""
        value = row.value
        if row.option in PATHS:
            is_list = row.option == "model" and isinstance(value, list)
            value = [_placed(each, root) for each in value] if is_list else _placed(value, root)
        return self.typed(row.option, value)

    def from_user(self, option: str, value: Any) -> Any:
        """A value of Python, where one text stands for a list of it, and a dictionary for pairs. Raises ValueError."""
        if get_origin(self._types[option]) is tuple:
            value = [value] if isinstance(value, str) else value
            value = list(value.items()) if isinstance(value, Mapping) else value
        return self.typed(option, value)

    def typed(self, option: str, value: Any) -> Any:
        """A value with the type of its field. Raises ValueError if the option takes no such value."""
        allowed = literals(self._types[option])
        if allowed and isinstance(value, str) and value not in allowed:
            raise ValueError(f"it takes {', '.join(allowed[:-1])} or {allowed[-1]}, not {value!r}")
        return msgspec.convert(value, self._types[option], dec_hook=_as_path)

    def path_fault(self, row: StatedRow, root: Path) -> str | None:
        """Why the path in a row that came with the folder may not be used: it has to stay below that folder."""
        values = row.value if isinstance(row.value, list) else [row.value]
        for value in values if row.option in PATHS else ():
            if not isinstance(value, str) or _path_in(row.option, value) is None:
                continue
            name = value.removeprefix(BELOW)
            if not (value.startswith(BELOW) and is_safe_relative(name) and is_inside(root / name, root)):
                return "is a path outside the folder"
        return None


# The options whose values are paths, or may be.
PATHS = frozenset({"model", "model_dir", "aliases", "implications", "tag_thresholds"})


def _placed(value: Any, root: Path) -> Any:
    """A value of a row, in which a path below the catalog's folder is absolute."""
    is_below = isinstance(value, str) and value.startswith(BELOW)
    return str(root / value.removeprefix(BELOW)) if is_below else value


def _types(kind: type) -> dict[str, Any]:
    """The types of all options of a settings class."""
    found: dict[str, Any] = {}
    for name, hint in get_type_hints(kind).items():
        found |= _types(hint) if is_dataclass(hint) else {name: hint}  # type: ignore[arg-type]
    return found


def _path_in(option: str, value: Any) -> Path | None:
    """The path that a value is, if it is one."""
    if option not in PATHS or value is None or (option == "tag_thresholds" and value == "model"):
        return None
    return model_path(value) if option == "model" else Path(value)


def _as_path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, (str, os.PathLike)):
        return Path(value)
    raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")


def spelt(option: str) -> str:
    """An option as it is written on the command line."""
    return f"--{option.replace('_', '-')}"


def as_argument(value: object) -> str:
    """A value as one argument of a command line."""
    return shlex.quote(str(value))


def as_flags(option: str, value: Any) -> str:
    """An option with its value as it is written on the command line, such as `--exclude 1girl,solo`.

    A value that the option does not take is shown as JSON.
    """
    name = spelt(option)
    if isinstance(value, bool):
        return name if value else f"--no-{name[2:]}"
    try:
        if option in REPEATED and isinstance(value, (tuple, list)):
            return " ".join(f"{name} {as_argument(each)}" for each in value)
        if option == "category_threshold" and value:
            return " ".join(f"{name} {as_argument(f'{category}={each:g}')}" for category, each in dict(value).items())
        text = _as_text(value)
        if option == "caption_separator":
            # As the option takes it; a line break itself would be lost in a message.
            text = text.replace("\n", r"\n").replace("\t", r"\t")
    except (TypeError, ValueError, AttributeError):
        text = json.dumps(value, default=str)
    return f"{name} {as_argument(text)}"


def _as_text(value: Any) -> str:
    """A value as one text. Raises TypeError or AttributeError for lists of anything but texts or pairs of them."""
    if isinstance(value, Mapping):
        value = tuple(value.items())
    if isinstance(value, (tuple, list)):
        if value and all(isinstance(each, (tuple, list)) for each in value):
            return ";".join(",".join(pair) for pair in value)
        return ",".join(each.replace(",", r"\,") for each in value)
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)


def kept_settings_note(task: str, rows: Iterable[StatedRow]) -> str | None:
    """What images that were moved keep of the settings that their former folders had for a task; None for nothing."""
    own = [row for row in rows if row.task == task]
    if not own:
        return None
    count, flags = len({row.place for row in own}), dict.fromkeys(as_flags(row.option, row.value) for row in own)
    keep = "1 image keeps settings of its" if count == 1 else f"{count} images keep settings of their"
    return strip_invisible(f"{keep} former folder: {' '.join(flags)}")
