"""What a settings file may say that lies among pictures: whoever made the folder wrote it, and not who runs sdprep."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from sdprep.confine import is_inside, stays_below
from sdprep.rules.exclude import is_regex, parse_exclusions

# A setting that is a file unless it is this word.
FILE_OR_WORD = ("tag_thresholds", "model")
TRUSTED = "allow_pickle"
ADVICE = "Say it on the command line, or name this file with --config if you trust it"


def confined(command: click.Command, table: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The settings of a file that was found in DIR, paths joined to its folder.

    Raises UsageError if one leaves the folder, is a pipe, a device, a model of the folder or a regular expression, or
    says whom to trust.
    """
    found = dict(table)
    for param in command.params:
        name, value = str(param.name), table.get(str(param.name))
        if value is None:
            continue
        if isinstance(param.type, click.Path) or (name == FILE_OR_WORD[0] and value != FILE_OR_WORD[1]):
            found[name] = str(file.parent / value)
            if not stays_below(value) or not is_inside(Path(found[name]), file.parent):
                raise click.UsageError(f"{file}: {name} leaves the folder of the file: {value!r}\n{ADVICE}")
            if _is_special(Path(found[name])):
                raise click.UsageError(f"{file}: {name} is no ordinary file: {value!r}\n{ADVICE}")
        if name == "model" and (value.lower().endswith(".toml") or value.startswith("~") or Path(value).is_dir()):
            raise click.UsageError(f"{file}: model is no name of one: {value!r}\n{ADVICE}")
        if name == "exclude" and any(map(is_regex, parse_exclusions(value) if isinstance(value, str) else value)):
            # One that is made to take a lifetime would hold up the run.
            raise click.UsageError(f"{file}: a folder of pictures cannot bring regular expressions\n{ADVICE}")
        if name == TRUSTED and value:
            raise click.UsageError(f"{file}: a folder of pictures cannot allow pickles, which can run code\n{ADVICE}")
    return found


def _is_special(path: Path) -> bool:
    """Whether a path is that of a pipe or device, which a reader may wait for without end."""
    return path.exists() and not (path.is_file() or path.is_dir())
