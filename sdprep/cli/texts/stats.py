"""`sdprep stats`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdprep.cli import options as shared
from sdprep.cli import param_types
from sdprep.cli.output import print_json, print_table
from sdprep.cli.progress import Terminal
from sdprep.cli.report import print_failures
from sdprep.cli.talk import GREEN, RED, current
from sdprep.config import MergeSettings, from_options
from sdprep.errors import UsageError, WriteError
from sdprep.images.inputs import settings_folder

if TYPE_CHECKING:
    from sdprep.tasks.texts.stats import Stats

STDOUT = Path("-")


def output(name: str, metavar: str, *endings: str, help_text: str) -> Any:
    """An option for a file to write, whose name has one of these endings, or is - if "-" is one."""

    def check(_: click.Context, __: click.Parameter, path: Path | None) -> Path | None:
        if path is None or path.suffix.lower() in endings or (path == STDOUT and "-" in endings):
            return path
        raise click.BadParameter(f"'{path}' does not end in {' or '.join(each for each in endings if each != '-')}")

    kind = param_types.UserPath(dir_okay=False, allow_dash="-" in endings, path_type=Path)
    return shared.option(name, f"{name[2:]}_file", metavar=metavar, type=kind, callback=check, help=help_text)


@click.command(
    cls=shared.Command,
    example="sdprep stats ./imgs --resolution 1024 --html stats.html",
    short_help="Count tags, tokens, sizes, buckets, sources and what is missing.",
)
@shared.inputs_argument()
@shared.options(
    "What to count",
    shared.option("--resolution", callback=param_types.size, default="1024", show_default=True, metavar="N|W,H",
                  help="Resolution of the training, for its buckets."),
)  # fmt: skip
@shared.options(
    "Output",
    output("--csv", "FILE.csv|-", ".csv", "-",
           help_text="Write all tags and their counts to this file, or to stdout instead of the tables."),
    output("--html", "FILE.html", ".html", ".htm",
           help_text="Write one page with all tables and small images of what stands out."),
    output("--plot", "FILE.png|FILE.svg", ".png", ".svg", help_text="Draw charts (needs the extra plot)."),
    shared.option("--json", "json_report", is_flag=True, help="Print the counts as one JSON object on stdout."),
)  # fmt: skip
@shared.sidecar_options
@shared.merge_path_options
@shared.memory_options
@shared.talk_options
@click.pass_context
def stats(ctx: click.Context, /, json_report: bool, csv_file: Path | None, **_: Any) -> None:
    """Count what the images of a dataset have: tags, lengths in tokens, sizes, buckets, sources, what is missing.

    Each INPUT is a folder, an image or a pattern such as "imgs/*.png". Nothing is written but the files that you name.

    The exit code is 3 if a file cannot be read.
    """
    from sdprep.cli.stated import gather
    from sdprep.tasks.texts.stats import stats as task

    if json_report and csv_file == STDOUT:
        raise UsageError("--json and --csv - both print on stdout; give one of them, or --csv a file")
    inputs = shared.inputs_of(ctx)
    stated = gather(ctx, settings_folder(inputs))
    terminal = Terminal()
    try:
        found = task(
            inputs,
            from_options(MergeSettings, stated.values),
            resolution=ctx.params["resolution"],
            layers=stated.layers,
            listener=terminal,
        )
    finally:
        terminal.close()
    _write_files(found, csv_file, ctx.params["html_file"], ctx.params["plot_file"])
    if json_report:
        print_json(found.as_dict())
    elif csv_file != STDOUT:
        _print_tables(found)
    print_failures(found.unreadable)
    images = "1 image" if found.images == 1 else f"{found.images:,} images"
    current().say(f" {images} ({found.seconds:.1f} s)", head="stats:", style=RED if found.unreadable else GREEN)
    sys.exit(found.exit_code)


def _write_files(found: Stats, csv_file: Path | None, html_file: Path | None, plot_file: Path | None) -> None:
    """Write the files that are asked for, or print the CSV. Raises WriteError, MissingExtra."""
    from sdprep.files import replace_file
    from sdprep.tasks.texts.stats_page import page
    from sdprep.tasks.texts.stats_plot import plot
    from sdprep.tasks.texts.stats_tables import csv_of_tags

    if csv_file == STDOUT:
        click.echo(csv_of_tags(found), nl=False)
    try:
        if csv_file is not None and csv_file != STDOUT:
            replace_file(csv_file, [csv_of_tags(found).encode()])
        if html_file is not None:
            replace_file(html_file, [page(found).encode()])
        if plot_file is not None:
            replace_file(plot_file, [plot(found, plot_file.suffix.lower()[1:])])
    except OSError as error:
        raise WriteError(error) from error


def _print_tables(found: Stats) -> None:
    from sdprep.tasks.texts.stats_tables import tables

    for number, table in enumerate(tables(found)):
        click.echo(f"{'' if number == 0 else chr(10)}{table.title}")
        print_table([*([table.head] if any(table.head) else []), *table.rows], right=table.right)
        if table.note:
            click.echo(table.note)
