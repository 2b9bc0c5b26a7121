"""`sdprep retry`."""

from __future__ import annotations

from pathlib import Path

import click

from sdprep.cli import options as shared
from sdprep.cli.output import print_json
from sdprep.cli.report import Terminal


@click.command(
    cls=shared.Command,
    example="sdprep retry --quarantined ./imgs",
    short_help="Let images that failed be tried again.",
)
@click.argument("directory", metavar="[DIR]", type=shared.DIRECTORY, default=".")
@shared.option("--quarantined", is_flag=True, help="Only those that crashed or timed out.")
@shared.option("--catalog", type=shared.FILE, help="The catalog file, if it has a place of its own.")
@shared.option("--json", "json_report", is_flag=True, help="Print the list as JSON on stdout.")
def retry(directory: Path, quarantined: bool, catalog: Path | None, json_report: bool) -> None:
    """Forget which images in DIR failed, so that the next run of caption or tag tries them again.

    An image that failed is passed over until its file or the decoder changes. Nothing is decoded now.
    """
    from sdprep.tasks.history import retry as task

    rows = [
        {"path": str(each.path), "code": each.code.value, "message": each.message}
        for each in task(directory, quarantined=quarantined, catalog=catalog, listener=Terminal())
    ]
    if json_report:
        print_json(rows)
    else:
        for row in rows:
            click.echo(f"{click.format_filename(row['path'])}: {row['code']}: {row['message']}")
    click.echo(f"retry: {len(rows)} image{'' if len(rows) == 1 else 's'} will be tried again by the next run", err=True)
