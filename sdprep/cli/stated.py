"""What is stated for a run of caption, tag or merge: on the command line, in the environment and in settings files."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from sdprep.catalog.session import find_catalog
from sdprep.cli.folder_settings import FolderSettings
from sdprep.cli.param_types import hyphenate
from sdprep.cli.settings_files import (
    CONFIG_NAME,
    own_settings,
    read_preset,
    read_table,
    read_user_config,
    setting_options,
    typed,
    user_config,
)
from sdprep.cli.talk import current
from sdprep.config import SETTINGS, PathOptions, from_options, remembered_options, table_of, value_of
from sdprep.files import configs_folder, real_path
from sdprep.tasks.remembered import in_force
from sdprep.tasks.settings import Layers, Statement

BUILT_IN, CONFIG = "built-in", "--config"
ORIGINS = {ParameterSource.COMMANDLINE: "flag", ParameterSource.ENVIRONMENT: "environment"}


@dataclass(frozen=True, slots=True)
class Stated:
    """What is stated for a run over `directory`.

    `whole_run` has the options of the whole run, such as --batch-size, with what states each. `layers` has what
    settings of single images are made of.
    """

    directory: Path
    layers: Layers
    whole_run: dict[str, Statement] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, Any]:
        """The values of the options of the whole run that something states."""
        return {name: each.value for name, each in self.whole_run.items()}


def effective(ctx: click.Context, stated: Stated) -> dict[str, Statement]:
    """The settings of the folder of a run, in the order of the options, with what states each."""
    layers, command = stated.layers, str(ctx.info_name)
    kind = SETTINGS[command]
    found = {name: Statement(value_of(kind(), name), BUILT_IN) for name in setting_options(ctx.command)}
    rows = in_force(stated.directory, command, from_options(PathOptions, stated.values)) if layers.remembered else []
    places: dict[str, Statement] = {}
    for above, folder in reversed([*enumerate(reversed(folders_above(stated.directory)))]):
        origin = str(folder / CONFIG_NAME)
        places |= {name: Statement(value, origin) for name, value in layers.folder(folder).items()}
        places |= {row.option: Statement(row.value, f"run {row.run}") for row in rows if row.above == above}
    merged = {**places, **layers.now}
    preset = layers.preset(merged["preset"].value) if "preset" in merged else {}
    found |= {name: Statement(value, f"preset {merged['preset'].value}") for name, value in preset.items()}
    found |= {name: Statement(value, str(user_config())) for name, value in layers.user.items()}
    found |= {**merged, **stated.whole_run}
    return {name: found[name] for name in setting_options(ctx.command)}


def gather(ctx: click.Context, directory: Path) -> Stated:
    """What is stated for a run over a folder. Raises UsageError for a wrong file, and notes what has no effect."""
    now = _stated_now(ctx)
    files = ctx.meta["folder_settings"] = FolderSettings(ctx, ctx.params.get("config"), now)
    cascading = remembered_options(SETTINGS[table_of(str(ctx.info_name))]) | {"preset"}
    user = read_user_config(ctx)
    files.add(user_config(), (name for name in user if name not in now))
    if ctx.params.get("config") is not None:
        files.add(ctx.params["config"], (name for name, each in now.items() if each.origin == CONFIG))
    preset = now["preset"].value if "preset" in now else None
    tables = [(f"preset {preset}", _read_preset(ctx, preset) if preset else {}), (str(user_config()), user)]
    tables += [(str(folder / CONFIG_NAME), files(folder)) for folder in folders_above(directory)]
    stated = {name: Statement(value, origin) for origin, table in tables for name, value in table.items()} | now
    whole_run = {name: each for name, each in stated.items() if name not in cascading}
    layers = Layers(
        preset=lambda name: _read_preset(ctx, name),
        user=user,
        folder=_Noting(files, real_path(directory), cascading),
        now={name: each for name, each in now.items() if name in cascading},
        remembered=not ctx.params["no_remembered"],
        whole_run=frozenset(now) - cascading,
    )
    _note_unknown_variables(ctx)
    return Stated(directory, layers, whole_run)


def gather_anywhere(ctx: click.Context) -> tuple[dict[str, Any], dict[str, Any]]:
    """All settings that are stated for a run over no folder of this machine, and of them those that are stated now."""
    now = {name: each.value for name, each in _stated_now(ctx).items()}
    preset = _read_preset(ctx, now["preset"]) if "preset" in now else {}
    _note_unknown_variables(ctx)
    return {**preset, **read_user_config(ctx), **now}, now


def folders_above(directory: Path) -> list[Path]:
    """The folders whose settings files count for a whole run over a folder: from its catalog's folder down to it."""
    directory = real_path(directory)
    catalog = find_catalog(directory)
    top = directory if catalog is None else catalog.parent.parent
    return [each for each in (*reversed(directory.parents), directory) if each == top or each.is_relative_to(top)]


class _Noting:
    """Reads the settings file of a folder, and notes options of the whole run in those below the folder of the run."""

    def __init__(self, files: FolderSettings, directory: Path, cascading: frozenset[str]) -> None:
        self._files, self._directory, self._cascading = files, directory, cascading

    def __call__(self, folder: Path) -> dict[str, Any]:
        found = self._files(folder)
        names = [hyphenate(name) for name in found if name not in self._cascading]
        if names and folder != self._directory and folder.is_relative_to(self._directory):
            where = folder / CONFIG_NAME
            current().say(f"{where}: {', '.join(names)} counts only for runs over that folder itself")
        return {name: value for name, value in found.items() if name in self._cascading}


def _stated_now(ctx: click.Context) -> dict[str, Statement]:
    """What --config, the environment and flags state; a later one replaces an earlier one."""
    config = ctx.params.get("config")
    found: dict[str, Statement] = {}
    if config is not None:
        table = read_table(ctx, config)
        if table is None:
            current().say(f"{config} has no table [{ctx.info_name}], so --config has no effect in this run")
        found = {name: Statement(value, CONFIG) for name, value in typed(ctx, table or {}, config).items()}
    for name in (*setting_options(ctx.command), "preset"):
        if (origin := ORIGINS.get(ctx.get_parameter_source(name) or ParameterSource.DEFAULT)) is not None:
            found[name] = Statement(ctx.params[name], origin)
    return found


def _read_preset(ctx: click.Context, name: str) -> dict[str, Any]:
    path = configs_folder("presets") / f"{name}.toml"
    return typed(ctx, own_settings(ctx, read_preset(name).get(table_of(str(ctx.info_name)), {})), path)


def _note_unknown_variables(ctx: click.Context) -> None:
    """Name variables of the environment that look like options of the command and are none."""
    names = [str(each.name).upper() for each in ctx.command.params if getattr(each, "allow_from_autoenv", True)]
    known = {f"{ctx.auto_envvar_prefix}_{name}" for name in names}
    for name in sorted(os.environ):
        if name.startswith(f"{ctx.auto_envvar_prefix}_") and name not in known:
            close = get_close_matches(name, known, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            current().say(f"the variable {name} is set, but {ctx.info_name} has no such option{hint}")
