"""What a run tells a person: notes and a bar while it works, counts at its end, and how signals reach it."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

from sdprep.cli.output import print_json
from sdprep.cli.watchdog import watchdog
from sdprep.report import CancelToken, RunReport

MODEL_COMMANDS = ("caption", "tag")
# Seconds after SIGTERM that the batch in hand may take, and that the process may take to write what is there.
BATCH_SECONDS, LAST_SECONDS = 6.0, 9.0
# Seconds after these in which Python itself can still end the process, before it is killed.
GRACE = 0.5


class Terminal:
    """A listener that talks on stderr, with a progress bar where a person watches."""

    def __init__(self) -> None:
        self._bar: Any = None

    def note(self, message: str) -> None:
        """Print a message, above the bar if there is one."""
        if self._bar is not None:
            # In one piece: what is printed without a line end is taken for a part of the bar.
            self._bar.write(f"{message}\n", file=sys.stderr, end="")
        else:
            click.echo(message, err=True)

    def start(self, total: int) -> None:
        """Begin a bar."""
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, unit="img", file=sys.stderr, dynamic_ncols=True)

    def advance(self) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update()

    def close(self) -> None:
        """End the bar."""
        if self._bar is not None:
            self._bar.close()


@contextmanager
def run_signals(stop: CancelToken) -> Iterator[None]:
    """Ctrl-C and SIGTERM ask the run to finish the batch in hand; a second Ctrl-C ends it at once.

    While the run is not listening, as during a download, the first one does. Whoever sends SIGTERM ends what does not
    end soon (Slurm, a spot machine), so after a while the batch is given up, and at last the process.
    """

    def ask(number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and (stop or not stop.interruptible):
            raise KeyboardInterrupt
        if number == signal.SIGTERM and stop.deadline == math.inf:
            stop.deadline = time.monotonic() + BATCH_SECONDS
            if hasattr(signal, "setitimer"):
                signal.setitimer(signal.ITIMER_REAL, LAST_SECONDS)
        if not stop.interruptible:
            click.echo("sdprep: terminated", err=True)
            sys.exit(128 + number)
        stop.exit_code = 128 + number
        click.echo("finishing the batch in hand; Ctrl-C again stops at once", err=True)

    handlers: dict[int, Any] = {signal.SIGINT: ask, signal.SIGTERM: ask}
    if hasattr(signal, "SIGALRM"):
        handlers[signal.SIGALRM] = lambda *_: os._exit(128 + signal.SIGTERM)
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        with watchdog(LAST_SECONDS + GRACE):
            yield
    finally:
        if stop.deadline != math.inf and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def run_task(task: Callable[..., RunReport], *args: Any, json_report: bool, **kwargs: Any) -> None:
    """Run a task, report it, and leave with its exit code."""
    stop, terminal = CancelToken(), Terminal()
    with run_signals(stop):
        try:
            report = task(*args, listener=terminal, stop=stop, **kwargs)
        finally:
            terminal.close()
    print_report(report, json_report=json_report)


def print_report(report: RunReport, *, json_report: bool) -> None:
    """Print a report and leave with its exit code."""
    if json_report:
        print_json(report.as_dict())
    else:
        for tag, count in (report.tag_counts or {}).items():
            click.echo(f"{tag}: {count}")
    summarize(report)
    sys.exit(report.exit_code)


def summarize(report: RunReport) -> None:
    """Say on stderr what became of the images: first what needs a person, then the counts."""

    def talk(text: str) -> None:
        # A file name may hold a line break.
        click.echo(text.replace("\n", r"\n"), err=True)

    for failure in report.failures:
        talk(f"failed: {failure['path']}: {failure['code']}: {failure['message']}")
    if report.command == "merge":
        _name_some(talk, "lacks a sidecar", report.missing_paths)
    else:
        _name_some(talk, "kept, not written by sdprep or edited since", report.kept_paths)
    for message in dict.fromkeys(flag["message"] for flag in report.flagged):
        _name_some(talk, message, [flag["path"] for flag in report.flagged if flag["message"] == message])
    _name_some(talk, "kept although the image has changed", report.image_changed)
    if report.other_settings:
        talk(f"{report.other_settings} were made with other settings; --update brings them in line")
    remaining = "would be written" if report.dry_run else "remaining"
    what = "file" if report.command in ("undo", "restore") else "image"
    found = f"{report.found} {what}{'' if report.found == 1 else 's'}"
    counts = f"{report.written} written, {report.current} current, {report.kept} kept, {report.failed} failed"
    lacking = f", {report.missing} lack a sidecar" if report.missing else ""
    talk(f"{report.command}: {found}: {counts}, {report.remaining} {remaining}{lacking} ({report.seconds:.1f} s)")
    if report.output:
        talk(f"{report.output}")
    elif report.command in MODEL_COMMANDS and report.current == report.found and not report.predicted:
        talk("nothing to do, and no model was loaded")


def _name_some(talk: Callable[[str], None], what: str, paths: list[str], most: int = 10) -> None:
    for path in paths[:most]:
        talk(f"{what}: {path}")
    if len(paths) > most:
        talk(f"{what}: and {len(paths) - most} more (--json names all)")
