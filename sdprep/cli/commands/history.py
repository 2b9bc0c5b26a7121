"""`sdprep log`, `sdprep undo`, `sdprep restore` and `sdprep retry`."""

from __future__ import annotations

from pathlib import Path

import click

from sdprep.cli import options as shared
from sdprep.cli import param_types
from sdprep.cli.output import print_json
from sdprep.cli.progress import Terminal
from sdprep.cli.report import print_report, run_task
from sdprep.cli.talk import current
from sdprep.sanitize import printable_time

catalog_option = shared.option("--catalog", type=shared.FILE, help="Catalog file, if it is outside the folder.")
json_option = shared.option("--json", "json_report", is_flag=True, help="Print the list as one JSON object on stdout.")


@click.command(
    cls=shared.Command, example="sdprep log ./imgs", short_help="List past runs, or the versions of a sidecar."
)
@click.argument("path", type=param_types.UserPath(path_type=Path), default=".")
@catalog_option
@json_option
def log(path: Path, catalog: Path | None, json_report: bool) -> None:
    """List the runs in the folder PATH, or the versions of the sidecar PATH, oldest first."""
    from sdprep.tasks import history

    if path.is_dir():
        name, rows = (
            "runs",
            [
                {
                    "run": entry.uid,
                    "command": entry.command,
                    "changed": entry.changed,
                    "model": entry.model,
                    "started": printable_time(entry.started),
                    "finished": entry.ended is not None,
                    "stated": entry.stated,
                }
                for entry in history.log(path, catalog=catalog)
            ],
        )
    else:
        found = history.file_versions(path, catalog=catalog)
        name, rows = (
            "versions",
            [
                {"version": number, "origin": each.origin, "text": each.excerpt}
                for number, each in enumerate(found, start=1)
            ],
        )
    if json_report:
        print_json({"command": "log", name: rows})
        return
    for row in rows:
        shown = [_cell(name, value) for name, value in row.items() if value is not None or name == "text"]
        click.echo("  ".join(shown).rstrip())


def _cell(name: str, value: object) -> str:
    if name == "finished":
        return "" if value else "(not finished)"
    if name == "stated" and isinstance(value, dict):
        from sdprep.tasks.option_values import as_flags

        return " ".join(as_flags(option, each) for option, each in value.items())
    if name == "text":
        return "(no file)" if value is None else f"{value!s:.60}"
    if name == "changed":
        return f"{value!s:>6} {'file ' if value == 1 else 'files'}"
    return f"{value!s:8}" if name == "command" else str(value)


@click.command(cls=shared.Command, example="sdprep undo --dir ./imgs", short_help="Undo what a run wrote.")
@click.argument("run", required=False)
@shared.option("--dir", "directory", type=shared.DIRECTORY, default=".", help="Folder to undo a run in [.].")
@shared.option("--force", is_flag=True, help="Also restore files that were changed after the run.")
@shared.option("--dry-run", is_flag=True, help="List the files that would be restored or deleted; change nothing.")
@catalog_option
@shared.report_options
def undo(run: str | None, directory: Path, force: bool, dry_run: bool, catalog: Path | None, json_report: bool) -> None:
    """Restore every file below the folder that RUN (default: the last run) wrote to what it was before.

    The last run is that of the dataset that the folder belongs to. Files changed since then are left alone and named.
    An undo is a run too, so you can undo it.
    """
    from sdprep.tasks import history

    run_task(history.undo, directory, run, force=force, dry_run=dry_run, catalog=catalog, json_report=json_report)


@click.command(
    cls=shared.Command, example="sdprep restore ./imgs/a.txt", short_help="Restore an earlier version of a sidecar."
)
@click.argument("path", type=param_types.UserPath(dir_okay=False, path_type=Path))
@shared.option("--version", type=param_types.Int64(1), help="Version number, as listed by `sdprep log PATH`.")
@catalog_option
@shared.report_options
def restore(path: Path, version: int | None, catalog: Path | None, json_report: bool) -> None:
    """Restore the previous version of the sidecar PATH, or its last version if the file is gone."""
    from sdprep.tasks import history

    report = history.restore(path, version, catalog=catalog, listener=Terminal())
    print_report(report, json_report=json_report)


@click.command(
    cls=shared.Command,
    example="sdprep retry --quarantined ./imgs",
    short_help="Forget failures, so that the next run tries those images again.",
)
@click.argument("directory", metavar="[DIR]", type=shared.DIRECTORY, default=".")
@shared.option("--quarantined", is_flag=True, help="Only images that crashed or timed out.")
@catalog_option
@json_option
@shared.talk_options
def retry(directory: Path, quarantined: bool, catalog: Path | None, json_report: bool) -> None:
    """Forget which images in DIR failed, so that the next caption or tag run tries them again.

    A failed image is skipped until its file or the decoder changes. This command decodes nothing.
    """
    from sdprep.tasks.history import retry as task

    rows = [
        {"path": str(each.path), "code": each.code.value, "message": each.message}
        for each in task(directory, quarantined=quarantined, catalog=catalog, listener=Terminal())
    ]
    if json_report:
        print_json({"command": "retry", "images": rows})
    else:
        for row in rows:
            click.echo(f"{click.format_filename(row['path'])}: {row['code']}: {row['message']}")
    current().say(f"retry: {len(rows)} image{'' if len(rows) == 1 else 's'} will be tried again by the next run")
