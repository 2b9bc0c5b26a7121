"""`sdprep results`: what runs over shards have made."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdprep.cli import options as shared
from sdprep.cli.output import print_json, print_table
from sdprep.cli.progress import Terminal
from sdprep.cli.report import print_failures
from sdprep.cli.talk import GREEN, RED, YELLOW, current
from sdprep.config import PathOptions, from_options
from sdprep.types import FailureCode

if TYPE_CHECKING:
    from sdprep.tasks.shards.export import Format
    from sdprep.tasks.shards.status import ResultsStatus

# Shards that are named in full; --json names all.
NAMED = 20

url_argument = click.argument("url", metavar="RESULTS")
json_option = shared.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object on stdout.")


@click.group(short_help="Show, export, import and retry the results of shards.")
def results() -> None:
    """Show what runs with --results have made, and take it to trainers or into a dataset folder.

    RESULTS is what --results was: a folder, or s3://bucket/folder, gs:// or az://, with credentials from the
    environment.
    """


@results.command(
    cls=shared.Command, example="sdprep results status s3://bucket/tags", short_help="Show how far a run is."
)
@url_argument
@json_option
@shared.talk_options
def status(url: str, as_json: bool) -> None:
    """Show how far the run of RESULTS is: its shards, its images by outcome, its rate, and what each host has done.

    The rate is that of the last hour in which shards ended. The exit code is 3 if shards were given up.
    """
    from sdprep.shards.results import Results
    from sdprep.tasks.shards.status import status as task

    terminal = Terminal()
    found = task(Results.at(url), listener=terminal)
    terminal.close()
    if as_json:
        print_json(found)
    else:
        _print_status(found)
    sys.exit(3 if found.failed else 0)


def _print_status(found: ResultsStatus) -> None:
    counts = found.shards
    click.echo(f"{found.task} with {found.model}")
    done = f"{counts.done:,} done" + (f" ({counts.damaged:,} damaged)" if counts.damaged else "")
    click.echo(f"shards: {counts.found:,}: {done}, {counts.failed:,} given up, {counts.remaining:,} remaining")
    total = sum(found.images.values())
    outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in found.images.items())
    click.echo(f"images: {total:,}{': ' if outcomes else ''}{outcomes}")
    if found.rate:
        left = "" if found.seconds_left is None else f", {_duration(found.seconds_left)} left at this rate"
        click.echo(f"rate: {found.rate:,.1f} images per second{left}")
    if found.hosts:
        click.echo()
        rows = [
            (each.host or "unknown", f"{each.shards:,}", f"{each.images:,}", f"{each.rate:,.1f}")
            for each in found.hosts
        ]
        print_table([("host", "shards", "images", "images per second of a process"), *rows], right=(1, 2, 3))
    for each in found.failed[:NAMED]:
        current().say(f" {each.id} ({each.url}): {each.error}", head="given up:", style=RED)
    if len(found.failed) > NAMED:
        current().say(f"{len(found.failed) - NAMED} more shards were given up (--json names all)")
    if found.failed:
        current().say(f"sdprep results retry {found.results} has the next run try them again")


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


@results.command(
    cls=shared.Command,
    example="sdprep results export s3://bucket/tags -o meta.parquet",
    short_help="Export the results for trainers and other tools.",
)
@url_argument
@shared.options(
    "Export",
    shared.option("-o", "--output", required=True,
                  help="File to write; for webdataset a folder or a URL, such as s3://bucket/folder."),
    shared.option("--format", "kind", type=click.Choice(["parquet", "jsonl", "json", "webdataset"]),
                  help="Format; json is the metadata of kohya-style trainers [by the end of the name of the file]."),
    shared.option("--extension",
                  help="Extension of the texts in webdataset [that of the run: .caption or .txt]."),
    shared.option("--overwrite", is_flag=True, help="Replace the file if it exists."),
)  # fmt: skip
@json_option
@shared.talk_options
def export(url: str, output: str, kind: Format | None, extension: str | None, overwrite: bool, as_json: bool) -> None:
    """Export the images with a result from all shards of RESULTS that are done.

    Parquet and JSON Lines have file_name, text, width, height, key, shard and sha256. A metadata JSON has the images
    under their names. webdataset copies each tar of the run, with all bytes of its members, and adds the text of each
    image as a member after it; tars that are there already are left.
    """
    from sdprep.shards.results import Results
    from sdprep.shards.store import open_store
    from sdprep.tasks.shards.copies import copy_tars
    from sdprep.tasks.shards.export import export as task
    from sdprep.tasks.shards.export import format_of

    chosen, terminal = format_of(output, kind, extension), Terminal()
    if chosen == "webdataset":
        found = copy_tars(Results.at(url), open_store(output), extension=extension, listener=terminal)
    else:
        found = task(Results.at(url), Path(output), chosen, overwrite=overwrite, listener=terminal)
    terminal.close()
    if as_json:
        print_json(found)
    for shard, reason in found.not_copied.items():
        current().say(f" {shard}: {reason}", head="not copied:", style=RED)
    if found.remaining:
        lacks = (
            "1 shard is not done, so its"
            if found.remaining == 1
            else f"{found.remaining:,} shards are not done, so their"
        )
        current().say(f" {lacks} images are missing", head="incomplete:", style=YELLOW)
    if found.without_result:
        codes = ", ".join(f"{count:,} {code}" for code, count in found.without_result.most_common())
        current().say(f" {codes}", head="images without a result:", style=YELLOW)
    existing = f", {_count(found.existing, 'shard')} {_were(found.existing)} there already" if found.existing else ""
    counts = f"{_count(found.images, 'image')} of {_count(found.shards, 'shard')}{existing}"
    current().say(f" {counts}: {found.output}", head="results export:", style=GREEN)
    sys.exit(3 if found.not_copied else 0)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


@results.command(
    "import",
    cls=shared.Command,
    example="sdprep results import s3://bucket/tags ./imgs",
    short_help="Import results into the catalog of a dataset folder.",
)
@url_argument
@click.argument("directory", metavar="DIR", type=shared.DIRECTORY)
@shared.options(
    "Files",
    shared.option("--recursive/--no-recursive", default=True, show_default=True, help="Include subfolders."),
    shared.option("--follow-links", is_flag=True, help="Include images and folders behind links."),
    shared.option("--catalog", type=shared.FILE,
                  help="Use this catalog file instead of the nearest .sdprep/catalog.sqlite."),
)  # fmt: skip
@json_option
@shared.talk_options
@click.pass_context
def import_(ctx: click.Context, /, url: str, directory: Path, as_json: bool, **_: Any) -> None:
    """Store the results of the images in DIR in its catalog. Images are known by their content, whatever their names.

    No sidecar is written: sdprep tag or sdprep caption then does that without running a model, and sdprep undo takes it
    back. The command for it is printed.
    """
    from sdprep.shards.results import Results
    from sdprep.tasks.shards.import_ import import_ as task

    terminal = Terminal()
    found = task(Results.at(url), directory, from_options(PathOptions, ctx.params), listener=terminal)
    terminal.close()
    if as_json:
        print_json(found)
    print_failures(found.unreadable)
    if found.missing:
        names = ", ".join(found.missing[:NAMED]) + (", ..." if len(found.missing) > NAMED else "")
        current().say(f" {_count(len(found.missing), 'image')} ({names})", head="without a result:", style=YELLOW)
    failed = f", {found.failed:,} failed in the run" if found.failed else ""
    current().say(
        f" {_count(found.found, 'image')}: {found.imported:,} imported{failed}", head="results import:", style=GREEN
    )
    if found.imported:
        current().say(f"write the sidecars with: {found.command}")
    sys.exit(3 if found.unreadable else 0)


@results.command(
    cls=shared.Command,
    example="sdprep results retry s3://bucket/tags --outcome timed_out",
    short_help="Have the next run try shards again.",
)
@url_argument
@shared.option("--outcome", "outcomes", type=click.Choice([code.value for code in FailureCode]), multiple=True,
               help="Also shards with images that failed so; may be repeated.")  # fmt: skip
@shared.option("--dry-run", is_flag=True, help="List the shards; change nothing.")
@json_option
@shared.talk_options
def retry(url: str, outcomes: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Have the next run of the same command try again the shards that were given up.

    With --outcome, shards that are done count as not done if images in them failed so: the next run does all images of
    these shards again. Their rows are kept in _sdprep/before.
    """
    from sdprep.shards.results import Results
    from sdprep.tasks.shards.retry import retry as task

    terminal = Terminal()
    codes = [FailureCode(code) for code in outcomes]
    found = task(Results.at(url), codes, dry_run=dry_run, listener=terminal)
    terminal.close()
    if as_json:
        print_json({"command": "results retry", "shards": found})
    else:
        for each in found:
            click.echo(f"{each.id}: {each.reason}")
    current().say(f"{_count(len(found), 'shard')} {'would' if dry_run else 'will'} be tried again by the next run")
