"""Settings from files: presets, `--config` and the `sdprep.toml` of a folder; which of them a setting came from."""

from __future__ import annotations

import json
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from sdprep.cli import folder_settings
from sdprep.cli.param_types import check_kind, hyphenate
from sdprep.config import from_options, remembered_options
from sdprep.errors import UsageError
from sdprep.files import configs_folder, read_toml_bytes
from sdprep.images.inputs import settings_folder

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from sdprep.tasks.settings import Layers

T = TypeVar("T")
CONFIG_NAME = "sdprep.toml"
LARGEST_CONFIG = 1 << 20
TABLES = ("caption", "tag", "merge")
SOURCES = {
    ParameterSource.COMMANDLINE: "flag",
    ParameterSource.ENVIRONMENT: "environment",
    ParameterSource.DEFAULT_MAP: "sdprep.toml",
}
# Options that are not settings of the run.
ASIDE = ("help", "show_config", "config", "preset", "json_report", "files_from", "quiet", "verbose", "log_file")


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
        if name not in TABLES:
            raise UsageError(f"{path}: unknown table [{name}]; the tables are [caption], [tag] and [merge]")
    return {task: {name.replace("-", "_"): value for name, value in table.items()} for task, table in data.items()}


def load_settings(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """A callback that reads settings from a preset and from `sdprep.toml`: the one of --config, else the one in DIR.

    A setting in `sdprep.toml` replaces that of the preset.
    """
    if param.name == "preset" and value is not None:
        table = ctx.default_map or {}
        preset = read_preset(value).get(str(ctx.info_name), {})
        ctx.meta["preset"] = {name: each for name, each in preset.items() if name not in table}
        ctx.default_map = {**ctx.meta["preset"], **table}
        return value
    if param.name == "config" and value is not None:
        ctx.meta["config"] = value
    elif param.name == "inputs" and "config" not in ctx.meta:
        file = settings_folder(value or [Path()]) / CONFIG_NAME
        if not file.is_file():
            return value
        ctx.meta["config"] = file
    else:
        return value
    largest = folder_settings.LARGEST if param.name == "inputs" else LARGEST_CONFIG
    table = read_config(ctx.meta["config"], largest).get(str(ctx.info_name), {})
    known = {param.name for param in ctx.command.params if param.name} - set(ASIDE)
    for name in table:
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f"; did you mean '{hyphenate(close[0])}'?" if close else ""
            raise click.UsageError(f"{ctx.meta['config']}: [{ctx.info_name}] has no setting '{hyphenate(name)}'{hint}")
    for each in ctx.command.params:
        if isinstance(each, click.Option) and each.name in table:
            check_kind(each, table[each.name], f"{ctx.meta['config']}: [{ctx.info_name}] {hyphenate(each.name)}")
    if param.name == "inputs":
        table = folder_settings.restrict(ctx, table, ctx.meta["config"])
    ctx.default_map = {**ctx.meta.get("preset", {}), **table}
    # A setting of the file no longer comes from the preset.
    ctx.meta["preset"] = {name: each for name, each in ctx.meta.get("preset", {}).items() if name not in table}
    return value


def settings_and_layers(ctx: click.Context, kind: type[T]) -> tuple[T, Layers]:
    """The settings of the whole run, and the layers of those that images have each."""
    from sdprep.tasks.settings import Layers, Statement

    stated, files, whole = {}, {}, {}
    for name, value in ctx.params.items():
        source = ctx.get_parameter_source(name) or ParameterSource.DEFAULT
        if name not in remembered_options(kind):
            whole[name] = value
        elif source in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT):
            stated[name] = Statement(value, SOURCES[source])
        elif source == ParameterSource.DEFAULT_MAP:
            files[name] = value
    return from_options(kind, whole), Layers(user=files, now=stated)


def show_config(ctx: click.Context) -> None:
    """Print every setting, its value and where it comes from."""
    for param in ctx.command.params:
        name = str(param.name)
        if name in ASIDE or name == "inputs":
            continue
        value = ctx.params[name]
        source = SOURCES.get(ctx.get_parameter_source(name) or ParameterSource.DEFAULT, "built-in")
        if source == SOURCES[ParameterSource.DEFAULT_MAP] and name in ctx.meta.get("preset", {}):
            source = "preset"
        if isinstance(value, tuple):
            value = list(value)
        text = json.dumps(value, ensure_ascii=False, default=str)
        click.echo(f"{hyphenate(name)} = {text}  # {source}")
