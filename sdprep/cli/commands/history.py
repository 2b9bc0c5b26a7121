"""`sdprep log`, `sdprep undo` and `sdprep restore`."""

from __future__ import annotations

from pathlib import Path

import click

from sdprep.cli import options as shared
from sdprep.cli import param_types
from sdprep.cli.output import print_json
from sdprep.cli.report import Terminal, print_report, run_task
from sdprep.sanitize import printable_time

catalog_option = shared.option("--catalog", type=shared.FILE, help="The catalog file, if it has a place of its own.")


@click.command(cls=shared.Command, example="sdprep log ./imgs", short_help="List past runs, or the texts of a file.")
@click.argument("path", type=click.Path(path_type=Path), default=".")
@catalog_option
@shared.option("--json", "json_report", is_flag=True, help="Print the list as JSON on stdout.")
def log(path: Path, catalog: Path | None, json_report: bool) -> None:
    """List the runs over the folder PATH, or the texts that the sidecar PATH has held, oldest first."""
    from sdprep.tasks import history

    if path.is_dir():
        rows = [
            {
                "run": entry.uid,
                "command": entry.command,
                "changed": entry.changed,
                "model": entry.model,
                "started": printable_time(entry.started),
                "finished": entry.ended is not None,
            }
            for entry in history.log(path, catalog=catalog)
        ]
    else:
        found = history.file_versions(path, catalog=catalog)
        rows = [
            {"version": number, "origin": each.origin, "text": each.excerpt}
            for number, each in enumerate(found, start=1)
        ]
    if json_report:
        print_json(rows)
        return
    for row in rows:
        shown = [_cell(name, value) for name, value in row.items() if value is not None or name == "text"]
        click.echo("  ".join(shown).rstrip())


def _cell(name: str, value: object) -> str:
    if name == "finished":
        return "" if value else "(not finished)"
    if name == "text":
        return "(no file)" if value is None else f"{value!s:.60}"
    return {"command": f"{value!s:8}", "changed": f"{value!s:>6} files"}.get(name, str(value))


@click.command(cls=shared.Command, example="sdprep undo --dir ./imgs", short_help="Take back what a run wrote.")
@click.argument("run", required=False)
@shared.option("--dir", "directory", type=shared.DIRECTORY, default=".", help="The folder of the run [.].")
@shared.option("--force", is_flag=True, help="Take back files too that were changed after the run.")
@catalog_option
@shared.report_options
def undo(run: str | None, directory: Path, force: bool, catalog: Path | None, json_report: bool) -> None:
    """Give every file that RUN wrote (default: the last run) the bytes from before it.

    A file that was changed since is refused and named. An undo is a run too: undo it and its work is back.
    """
    from sdprep.tasks import history

    run_task(history.undo, directory, run, force=force, catalog=catalog, json_report=json_report)


@click.command(
    cls=shared.Command, example="sdprep restore ./imgs/a.txt", short_help="Give a sidecar an earlier text again."
)
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
@shared.option("--version", type=param_types.Int64(1), help="The text of this number in `sdprep log PATH`.")
@catalog_option
@shared.report_options
def restore(path: Path, version: int | None, catalog: Path | None, json_report: bool) -> None:
    """Give the sidecar PATH the text that it held before the present one, or its last text if it is gone."""
    from sdprep.tasks import history

    print_report(history.restore(path, version, catalog=catalog, listener=Terminal()), json_report=json_report)
