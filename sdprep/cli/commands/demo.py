"""`sdprep demo`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from sdprep.cli import options as shared
from sdprep.cli import param_types
from sdprep.cli.progress import Terminal
from sdprep.cli.report import summarize
from sdprep.cli.signals import run_signals
from sdprep.report import CancelToken

SHOWN = "red-hair-hat.jpg"


@click.command(cls=shared.Command, example="sdprep demo ./sdprep-demo", short_help="Try everything on bundled images.")
@click.argument(
    "directory", metavar="[DIR]", type=param_types.UserPath(file_okay=False, path_type=Path), default="sdprep-demo"
)
@shared.talk_options
def demo(directory: Path) -> None:
    """Copy sample images to DIR (default ./sdprep-demo) and caption, tag and merge them with tiny bundled models.

    The demo models know the bundled cartoon drawings only; for your own images take the real ones.
    """
    from sdprep.tasks.demo import demo as task

    stop, terminal = CancelToken(), Terminal()
    with run_signals(stop):
        shown = task(directory, listener=terminal, stop=stop)
    for report in (shown.caption, shown.tag, shown.merge):
        summarize(report)
    _show_tree(directory)
    image = directory / SHOWN
    for extension, what in ((".caption", "caption"), (".txt", "tags")):
        click.echo(f"{what} of {SHOWN}: {image.with_suffix(extension).read_text(encoding='utf-8').strip()}")
    entries = json.loads(Path(str(shown.merge.output)).read_text(encoding="utf-8"))
    click.echo(f"{shown.merge.output} has {len(entries)} entries")
    sys.exit(max(report.exit_code for report in (shown.caption, shown.tag, shown.merge)))


def _show_tree(folder: Path, indent: str = "") -> None:
    if not indent:
        click.echo(f"{folder}/")
    for entry in sorted(folder.iterdir()):
        if not entry.name.startswith("."):
            click.echo(f"{indent}  {entry.name}{'/' if entry.is_dir() else ''}")
            if entry.is_dir():
                _show_tree(entry, indent + "  ")
