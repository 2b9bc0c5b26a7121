"""`sdprep log`, `sdprep diff`, `sdprep undo`, `sdprep restore` and `sdprep retry`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
@shared.option(
    "--settings",
    "show_settings",
    is_flag=True,
    help="Also show all settings of each run that are not the built-in ones.",
)
@shared.option("--all", "show_all", is_flag=True, help="Show each run of a session of sdprep review on its own line.")
@catalog_option
@json_option
def log(path: Path, show_settings: bool, show_all: bool, catalog: Path | None, json_report: bool) -> None:
    """List the runs in the folder PATH, or the versions of the sidecar PATH, oldest first.

    All runs of one session of `sdprep review` are one line, with an id that `sdprep undo` takes too.
    """
    name, rows = (
        ("runs", _runs(path, catalog, show_settings, show_all, json_report))
        if path.is_dir()
        else ("versions", _versions(path, catalog))
    )
    if json_report:
        print_json({"command": "log", name: rows})
        return
    for row in rows:
        settings = row.pop("settings", {})
        shown = [_cell(name, value) for name, value in row.items() if value is not None or name == "text"]
        click.echo("  ".join(shown).rstrip())
        for option, value in settings.items():
            from sdprep.tasks.option_values import as_flags

            click.echo(f"    {as_flags(option, value)}")


def _runs(
    folder: Path, catalog: Path | None, show_settings: bool, show_all: bool, json_report: bool
) -> list[dict[str, Any]]:
    from sdprep.tasks.history.runs import changed_settings, folded, stated_options
    from sdprep.tasks.history.runs import log as task

    entries = task(folder, catalog=catalog, listener=Terminal())
    return [
        {
            "run": entry.uid,
            "command": entry.command,
            "changed": entry.changed,
            "model": entry.model,
            "served": entry.served,
            "started": printable_time(entry.started),
            "finished": entry.ended is not None,
            "stated": entry.stated if json_report else stated_options(entry),
            "session": entry.session,
            "runs": len(entry.uids),
            **({"settings": changed_settings(entry)} if show_settings else {}),
        }
        for entry in (entries if show_all else folded(entries))
    ]


def _versions(path: Path, catalog: Path | None) -> list[dict[str, Any]]:
    from sdprep.tasks.history.restore import file_versions

    return [
        {"version": number, "origin": each.origin, "text": each.excerpt}
        for number, each in enumerate(file_versions(path, catalog=catalog), start=1)
    ]


def _cell(name: str, value: object) -> str:
    if name == "finished":
        return "" if value else "(not finished)"
    if name == "stated" and isinstance(value, list):
        from sdprep.tasks.option_values import as_flags

        return " ".join(as_flags(option, each) for option, each in value)
    if name == "session":
        return ""
    if name == "runs":
        return "" if value == 1 else f"({value} runs)"
    if name == "served" and isinstance(value, dict):
        return f"(served: {', '.join(value)})" if value else ""
    if name == "text":
        return "(no file)" if value is None else f"{value!s:.60}"
    if name == "changed":
        return f"{value!s:>6} {'file ' if value == 1 else 'files'}"
    return f"{value!s:8}" if name == "command" else str(value)


@click.command(
    cls=shared.Command, example="sdprep diff --dir ./imgs", short_help="Show what a run changed in each file."
)
@click.argument("run", required=False)
@shared.option("--dir", "directory", type=shared.DIRECTORY, default=".", help="Folder in which the run was [.].")
@catalog_option
@json_option
@shared.talk_options
def diff(run: str | None, directory: Path, catalog: Path | None, json_report: bool) -> None:
    """Show what RUN (default: the last run that changed a file) took out of each file and put into it.

    The texts are those that the run found and wrote; what was edited later is not in them.
    """
    from sdprep.cli.texts.diff import print_change
    from sdprep.tasks.history.diff import diff as task
    from sdprep.tasks.history.runs import described

    with task(directory, run, catalog=catalog, listener=Terminal()) as (entry, changes):
        if json_report:
            files = [{"path": str(each.path), "before": each.before, "after": each.after} for each in changes]
            print_json({"command": "diff", "run": entry.uid, "files": files})
            return
        current().say(f"run {described(entry)}")
        for each in changes:
            print_change(click.format_filename(each.path), each.before, each.after)


@click.command(cls=shared.Command, example="sdprep undo --dir ./imgs", short_help="Undo what a run wrote.")
@click.argument("run", required=False)
@shared.option("--dir", "directory", type=shared.DIRECTORY, default=".", help="Folder to undo a run in [.].")
@shared.option("--force", is_flag=True, help="Also restore files that were changed after the run.")
@shared.option("--dry-run", is_flag=True, help="List the files that would be restored or deleted; change nothing.")
@catalog_option
@shared.report_options
def undo(run: str | None, directory: Path, force: bool, dry_run: bool, catalog: Path | None, json_report: bool) -> None:
    """Restore every file below the folder that RUN (default: the last run) wrote to what it was before.

    RUN may be a session of `sdprep review`: then all that was done in it is undone.

    The last run is that of the dataset that the folder belongs to. Files changed since then are left alone and named.
    An undo is a run too, so you can undo it.
    """
    from sdprep.tasks.history.undo import undo as task

    run_task(task, directory, run, force=force, dry_run=dry_run, catalog=catalog, json_report=json_report)


@click.command(
    cls=shared.Command, example="sdprep restore ./imgs/a.txt", short_help="Restore an earlier version of a sidecar."
)
@click.argument("path", type=param_types.UserPath(dir_okay=False, path_type=Path))
@shared.option("--version", type=param_types.Int64(1), help="Version number, as listed by `sdprep log PATH`.")
@catalog_option
@shared.report_options
def restore(path: Path, version: int | None, catalog: Path | None, json_report: bool) -> None:
    """Restore the previous version of the sidecar PATH, or its last version if the file is gone."""
    from sdprep.tasks.history.restore import restore as task

    report = task(path, version, catalog=catalog, listener=Terminal())
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
    from sdprep.tasks.history.retry import retry as task

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
