"""Run a task, print its report, and exit with its exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from sdprep.cli.output import print_json, print_table
from sdprep.cli.progress import Terminal
from sdprep.cli.signals import run_signals
from sdprep.report import CancelToken, RunReport

MODEL_COMMANDS = ("caption", "tag")
# The most paths that are printed with one reason.
NAMED = 10


def run_task(task: Callable[..., RunReport], *args: Any, json_report: bool, **kwargs: Any) -> None:
    """Run a task, print its report, and exit with its exit code."""
    stop, terminal = CancelToken(), Terminal()
    with run_signals(stop):
        try:
            report = task(*args, listener=terminal, stop=stop, **kwargs)
        finally:
            terminal.close()
    print_report(report, json_report=json_report)


def print_report(report: RunReport, *, json_report: bool) -> None:
    """Print a report and exit with its exit code."""
    if json_report:
        print_json(report.as_dict())
    else:
        for tag, count in (report.tag_counts or {}).items():
            click.echo(f"{tag}: {count}")
    summarize(report)
    sys.exit(report.exit_code)


def summarize(report: RunReport) -> None:
    """Print the outcome of a run on stderr: first what needs your attention, then the counts."""

    def talk(text: str) -> None:
        # A file name may hold a line break.
        click.echo(text.replace("\n", r"\n"), err=True)

    for failure in report.failures:
        talk(f"failed: {failure['path']}: {failure['code']}: {failure['message']}")
    if report.command == "merge":
        # Where every image lacks one, a note says which kind.
        _name_some(talk, "lacks a sidecar:", report.missing_paths if report.missing < report.found else [])
    else:
        why = f"not written by sdprep {report.command}, or edited since"
        option = "use --existing overwrite or append to change it"
        _name_some(talk, "kept the sidecar of", report.kept_paths, f": {why} ({option})")
    for message in dict.fromkeys(flag["message"] for flag in report.flagged):
        _name_some(talk, f"{message}:", [flag["path"] for flag in report.flagged if flag["message"] == message])
    _name_some(talk, "kept although the image has changed:", report.image_changed)
    if report.other_settings:
        talk(f"{report.other_settings} were made with other settings; --update brings them in line")
    remaining = "would be written" if report.dry_run else "remaining"
    what = "file" if report.command in ("undo", "restore") else "image"
    found = f"{report.found} {what}{'' if report.found == 1 else 's'}"
    counts = f"{report.written} written, {report.current} up to date, {report.kept} kept, {report.failed} failed"
    lacking = f", {report.missing} lack a sidecar" if report.missing else ""
    talk(f"{report.command}: {found}: {counts}, {report.remaining} {remaining}{lacking} ({report.seconds:.1f} s)")
    if report.output:
        talk(f"{report.output}")
    elif report.command in MODEL_COMMANDS and report.current == report.found and not report.predicted:
        talk("nothing to do, and no model was loaded")
    if report.timings is not None:
        rows = [("stage", "images", "seconds", "CPU seconds")]
        for name, stage in report.timings.items():
            rows.append((name, str(stage["images"]), f"{stage['seconds']:.3f}", f"{stage['cpu_seconds']:.3f}"))
        print_table(rows, right=range(1, 4), err=True)


def _name_some(talk: Callable[[str], None], what: str, paths: list[str], why: str = "") -> None:
    for path in paths[:NAMED]:
        talk(f"{what} {path}{why}")
    if len(paths) > NAMED:
        talk(f"{what} {len(paths) - NAMED} more (--json names all)")
