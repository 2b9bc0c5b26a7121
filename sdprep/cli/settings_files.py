"""Settings in files: presets, the user-wide `config.toml`, `--config`, and the `sdprep.toml` of dataset folders."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
from platformdirs import user_config_path

from sdprep.cli.param_types import check_kind, hyphenate, value_used
from sdprep.config import SETTINGS, option_names, table_of
from sdprep.errors import UsageError
from sdprep.files import configs_folder, read_toml_bytes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONFIG_NAME = "sdprep.toml"
LARGEST_CONFIG = 1 << 20


def read_preset(name: str) -> dict[str, dict[str, Any]]:
    """The tables of a preset that comes with sdprep. Raises UsageError with the names of the presets."""
    known = {path.stem: path for path in sorted(configs_folder("presets").glob("*.toml"))}
    if name not in known:
        raise UsageError(f"unknown preset '{name}'; available: {', '.join(known)}")
    return read_config(known[name])


def read_config(path: Path, limit: int = LARGEST_CONFIG) -> dict[str, dict[str, Any]]:
    """Return the tables of an `sdprep.toml`, one per command, with hyphens in names turned into underscores.

    Raises UsageError naming the file if it is larger than `limit` bytes, or is not TOML with tables of settings.
    """
    try:
        data = tomllib.loads(read_toml_bytes(path, limit).decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        deep = isinstance(error, RecursionError) and "nested too deeply to be read"
        raise UsageError(f"{path}: {deep or (isinstance(error, OSError) and error.strerror) or error}") from error
    for name, table in data.items():
        if not isinstance(table, dict):
            raise UsageError(f"{path}: '{name}' is outside a table; put it under [caption], [tag] or [merge]")
        if name not in SETTINGS:
            raise UsageError(f"{path}: unknown table [{name}]; the tables are [caption], [tag] and [merge]")
    return {task: {name.replace("-", "_"): value for name, value in table.items()} for task, table in data.items()}


def user_config() -> Path:
    """The settings file of the user, for all datasets."""
    return user_config_path("sdprep") / "config.toml"


def setting_options(command: click.Command) -> dict[str, click.Option]:
    """The options of a command that are settings, which files may hold, by name."""
    names = option_names(SETTINGS[table_of(str(command.name))])
    return {str(each.name): each for each in command.params if isinstance(each, click.Option) and each.name in names}


def read_table(ctx: click.Context, path: Path, limit: int = LARGEST_CONFIG) -> dict[str, Any] | None:
    """The table of a settings file for a command, None if it has none; its values are as TOML has them.

    Raises UsageError for an unknown setting, with the name that may be meant, and for values of a wrong type.
    """
    command = table_of(str(ctx.info_name))
    table = read_config(path, limit).get(command)
    table = None if table is None else own_settings(ctx, table)
    options = setting_options(ctx.command)
    for name, value in (table or {}).items():
        where = f"{path}: [{command}]"
        if name not in options:
            close = get_close_matches(name, options, 1)
            hint = f"; did you mean '{hyphenate(close[0])}'?" if close else ""
            raise click.UsageError(f"{where} has no setting '{hyphenate(name)}'{hint}")
        check_kind(options[name], value, f"{where} {hyphenate(name)}")
    return table


def own_settings(ctx: click.Context, table: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in a table of another command, without those that the command itself does not have."""
    others = option_names(SETTINGS[table_of(str(ctx.info_name))]) - setting_options(ctx.command).keys()
    return {name: value for name, value in table.items() if name not in others}


def typed(ctx: click.Context, table: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The values of a trusted settings file as a run uses them. Raises UsageError if an option refuses one."""
    options = setting_options(ctx.command)
    return {name: value_used(ctx, options[name], value, f"{path}: {hyphenate(name)}") for name, value in table.items()}


def read_user_config(ctx: click.Context) -> dict[str, Any]:
    """What the settings file of the user says for a command; relative paths in it start at its folder."""
    path = user_config()
    if not path.is_file():
        return {}
    values = typed(ctx, read_table(ctx, path) or {}, path)
    paths = {name: value for name, value in values.items() if isinstance(value, Path)}
    return values | {name: path.parent / value.expanduser() for name, value in paths.items()}
