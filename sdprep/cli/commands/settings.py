"""`sdprep settings`."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from sdprep.cli import options as shared
from sdprep.cli.commands.history import catalog_option, json_option
from sdprep.cli.output import print_json, print_table
from sdprep.cli.param_types import UserPath, hyphenate
from sdprep.errors import UsageError


@click.command(
    cls=shared.Command,
    example="sdprep settings ./imgs\nsdprep settings ./imgs --forget prefix exclude",
    short_help="List the settings that runs remember, or forget them.",
    # An option to forget may be written as it is stated.
    context_settings={"ignore_unknown_options": True},
)
@click.argument("directory", metavar="[DIR]", type=UserPath(exists=True, path_type=Path), default=".")
@click.argument("options", metavar="[OPTION...]", nargs=-1)
@shared.option("--forget", is_flag=True, help="Forget all settings of DIR and its subfolders, or only the OPTIONs.")
@catalog_option
@json_option
def settings(directory: Path, options: tuple[str, ...], forget: bool, catalog: Path | None, json_report: bool) -> None:
    """List the settings that earlier runs stated for DIR, its subfolders and the folders above it.

    The next run uses what is listed, unless you state another value. A forgotten setting goes back to what applies
    without it, and the next run rewrites what sdprep wrote with it. DIR may be an image, for the settings that runs
    over it alone stated.
    """
    from sdprep.tasks import remembered as task

    found = task.remembered(directory, catalog=catalog)
    if forget:
        names = {hyphenate(each.lstrip("-_")) for each in options}
        _check_names(names, found)
        chosen = task.forget(directory, {each.replace("-", "_") for each in names} or None, catalog=catalog)
    elif options:
        raise UsageError(f"{' '.join(options)}: name options after --forget, to forget them")
    else:
        chosen = found
    _print(chosen, json_report=json_report)
    if forget or not chosen:
        many = f"{len(chosen)} setting{'' if len(chosen) == 1 else 's'}"
        click.echo(f"{many} {'forgotten' if forget else 'remembered'}", err=True)


def _check_names(names: set[str], found: Sequence[Any]) -> None:
    """Raise UsageError for names of options that are not remembered at DIR or below."""
    here = {hyphenate(each.option) for each in found if not each.above}
    for name in sorted(names - here):
        above = [each for each in found if each.above and hyphenate(each.option) == name]
        if above:
            raise UsageError(f"{name} is remembered for {above[0].place}; forget it there")
        close = get_close_matches(name, here, 1)
        hint = f"; did you mean {close[0]}?" if close else f", only {', '.join(sorted(here))}" if here else ""
        raise UsageError(f"no setting {name} is remembered here{hint}")


def _print(rows: Sequence[Any], *, json_report: bool) -> None:
    if json_report:
        values = [
            {
                "place": str(each.place),
                "command": each.task,
                "option": hyphenate(each.option),
                "value": each.value,
                "origin": each.origin,
                "run": each.run,
                "trusted": each.is_signed,
            }
            for each in rows
        ]
        print_json({"command": "settings", "settings": values})
    elif rows:
        print_table([(str(each.place), each.task, each.flags, _origin(each)) for each in rows])


def _origin(setting: Any) -> str:
    return f"{setting.origin}, run {setting.run}" if setting.is_signed else "came with the folder"
