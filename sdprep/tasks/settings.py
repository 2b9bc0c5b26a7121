"""The settings of each image: a cascade of what was stated for it, from the weakest layer to the strongest.

built-in < preset < user-wide file < for each place from the catalog's folder down to the image: its `sdprep.toml`,
then what earlier runs stated there < stated now
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Statement:
    """A value that was stated for an option now: "flag", "environment" or "sdprep.toml" (a file given by --config)."""

    value: Any
    origin: str = "flag"


def no_settings(_: Path | str) -> Mapping[str, Any]:
    """Return no settings: for a run without presets and settings files."""
    return {}


def refused(option: str, _: Any) -> str | None:
    """Refuse an option that was not stated on this machine."""
    return f"{option.replace('_', '-')} was not stated by you on this machine"


@dataclass(frozen=True, slots=True)
class Layers:
    """What the settings of images are made of besides built-in values and what catalogs remember.

    Options have underscores in their names, values have the types of the fields of the settings classes. Only options
    of the kind that is remembered (`config.remembered_options`, and "preset") count here; those of the whole run, as of
    the machine, are in the settings that the task is given, where all other fields keep their built-in values.

    `preset` reads the preset of a name, for the command that runs. `user` has the values of the user-wide file.
    `folder` reads the `sdprep.toml` of one folder, and gives nothing if there is none; it raises UsageError for a wrong
    one, and is asked once per folder. `now` has what flags, the environment and --config state, and "preset". Without
    `remembered`, nothing is read from memory and nothing is written to it. `check` tells why an option and value that
    came with the folder are refused (those in a catalog without a valid signature), or None.
    """

    preset: Callable[[str], Mapping[str, Any]] = no_settings
    user: Mapping[str, Any] = field(default_factory=dict)
    folder: Callable[[Path], Mapping[str, Any]] = no_settings
    now: Mapping[str, Statement] = field(default_factory=dict)
    remembered: bool = True
    check: Callable[[str, Any], str | None] = refused
