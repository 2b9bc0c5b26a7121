"""`sdprep demo`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from sdprep.cli import options as shared
from sdprep.cli import param_types
from sdprep.cli.progress import Terminal
from sdprep.cli.report import print_failures, summarize
from sdprep.cli.signals import run_signals
from sdprep.cli.talk import YELLOW, current
from sdprep.report import CancelToken, RunReport

SHOWN = "red-hair-hat.jpg"
SIDECARS = {"captions": ".caption", "tag files": ".txt", "chat captions": ".chat"}


@click.command(cls=shared.Command, example="sdprep demo ./sdprep-demo", short_help="Try everything on bundled images.")
@click.argument(
    "directory", metavar="[DIR]", type=param_types.UserPath(file_okay=False, path_type=Path), default="sdprep-demo"
)
@shared.talk_options
def demo(directory: Path) -> None:
    """Copy sample images to DIR (default ./sdprep-demo) and caption, tag and merge them with tiny bundled models.

    They are captioned twice: by BLIP, and by a chat model that gets the tags. The demo models know the bundled cartoon
    drawings only; for your own images take the real ones. Without torch, the images are tagged and not captioned.
    """
    from sdprep.tasks.demo import demo as task

    stop, terminal = CancelToken(), Terminal()
    try:
        with run_signals(stop):
            shown = task(directory, listener=terminal, stop=stop)
    finally:
        terminal.close()
    for name, reason in shown.missing.items():
        current().say(f" sdprep {name}. {reason}", head="not shown:", style=YELLOW)
    if stop:
        for report in shown.reports.values():
            summarize(report)
    else:
        for report in shown.reports.values():
            print_failures(report.failures)
        _show(directory, shown.reports)
    sys.exit(max(report.exit_code for report in shown.reports.values()))


def _show(directory: Path, reports: dict[str, RunReport]) -> None:
    """Print what was made, one image with its texts, where the files are, and what to type for your own folder."""
    found = max(report.found for report in reports.values())
    made = [f"{report.found - report.failed - report.remaining} {what}" for what, report in reports.items()]
    click.echo(f"{found} images in {directory} have {', '.join(made)}")
    image = directory / SHOWN
    click.echo(f"\n{image}")
    for what in reports:
        sidecar = image.with_suffix(SIDECARS.get(what, ""))
        if what in SIDECARS and sidecar.is_file():
            click.echo(f"  {sidecar.name}: {sidecar.read_text(encoding='utf-8').strip()}")
    click.echo(f"\nThe texts are beside the images, all of them together in {reports['entries'].output}")
    click.echo("\nFor your own folder (the models are downloaded once):")
    for command in dict.fromkeys(report.command for report in reports.values()):
        click.echo(f"  sdprep {command} ./your-images")
