"""The settings files in dataset folders, and what they may set: they come with the images, and are not trusted."""

from __future__ import annotations

import os.path
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from sdprep.cli import param_types
from sdprep.cli.param_types import hyphenate
from sdprep.cli.settings_files import CONFIG_NAME, read_table, setting_options
from sdprep.config import SETTINGS, table_of
from sdprep.files import real_path
from sdprep.paths import is_inside, is_safe_relative
from sdprep.tasks.options.untrusted import untrusted_fault

# The largest file, in bytes. Some TOML takes time in proportion to the square of its size to parse.
LARGEST = 16 << 10
# The largest list of tags, in bytes. One of 14 MB takes half a minute and 1 GB of memory.
LARGEST_LIST = 1 << 20
# Files that an error names besides the one it is about.
MOST_FILES = 3


def restrict(ctx: click.Context, table: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Return the values of a file that was found among images, as a run uses them, with paths joined to its folder.

    Raises UsageError if a setting could do harm, or if its option refuses it.
    """
    found = {}
    for name, option in setting_options(ctx.command).items():
        if name not in table:
            continue
        value = table[name]
        if isinstance(option.type, click.Path) or (name == "tag_thresholds" and value != "model"):
            value = str(_below(ctx, name, value, file))
        found[name] = param_types.value_used(ctx, option, value, f"{file}: {hyphenate(name)}")
        if (fault := untrusted_fault(SETTINGS[table_of(str(ctx.info_name))], name, found[name])) is not None:
            raise click.UsageError(f"{file}: {hyphenate(name)} {fault}\n{_advice(ctx)}")
    return found


class FolderSettings:
    """Reads the `sdprep.toml` of single folders for one command; a file that --config names is read by that alone.

    `stated` names the options of which no file counts, since the command line states them.
    """

    def __init__(self, ctx: click.Context, config: Path | None, stated: Container[str]) -> None:
        self._ctx, self._stated = ctx, stated
        self._config = None if config is None else real_path(config)
        self._names: dict[Path, list[str]] = {}

    def __call__(self, folder: Path) -> dict[str, Any]:
        """What the file of a folder sets; nothing if there is none. Raises UsageError naming the file."""
        file = folder / CONFIG_NAME
        if not os.path.isfile(file) or real_path(file) == self._config:  # noqa: PTH113
            return {}
        found = restrict(self._ctx, read_table(self._ctx, file, LARGEST) or {}, file)
        self.add(file, (name for name in found if name not in self._stated))
        return found

    def add(self, file: Path, names: Iterable[str]) -> None:
        """Take a file with the options of it that count."""
        self._names[file] = [hyphenate(name) for name in names]

    def origin(self, message: str) -> str:
        """Return a line for each of some files with the options that it sets, unless the message names it already."""
        named = [(file, names) for file, names in self._names.items() if names and str(file) not in message]
        lines = [f"\n{file} sets {', '.join(names)}" for file, names in named]
        return "".join(lines[:MOST_FILES])


def _advice(ctx: click.Context) -> str:
    """What helps against a setting that a file among images may not have."""
    trust = ", or pass this file with --config if you trust it" if "config" in ctx.params else ""
    return f"Set it on the command line{trust}"


def _below(ctx: click.Context, name: str, value: str, file: Path) -> Path:
    """Return a path joined to the folder of a file. Raises UsageError if it leaves it, or is a pipe or device."""
    path = file.parent / value
    if not is_safe_relative(value) or any(part.startswith(".") for part in path.relative_to(file.parent).parts):
        raise click.UsageError(f"{file}: {name} is hidden or outside the folder of the file: {value!r}\n{_advice(ctx)}")
    if not is_inside(path, file.parent):
        raise click.UsageError(f"{file}: {name} is outside the folder of the file: {value!r}\n{_advice(ctx)}")
    # Reading a pipe or a device could block forever.
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):  # noqa: PTH110, PTH113, PTH112
        raise click.UsageError(f"{file}: {name} is not a regular file: {value!r}\n{_advice(ctx)}")
    if os.path.isfile(path) and os.path.getsize(path) > LARGEST_LIST:  # noqa: PTH113, PTH202
        raise click.UsageError(f"{file}: {name} is larger than {LARGEST_LIST:,} bytes: {value!r}\n{_advice(ctx)}")
    return path
