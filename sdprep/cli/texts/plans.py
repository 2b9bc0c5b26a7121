"""Show a plan of changes, ask where there are many, make them, and print the report."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sdprep.cli.progress import Terminal
from sdprep.cli.report import print_report
from sdprep.cli.signals import run_signals
from sdprep.cli.talk import Level, current
from sdprep.cli.texts.diff import print_change
from sdprep.report import CancelToken

if TYPE_CHECKING:
    from sdprep.tasks.texts.plan import Plan

T = TypeVar("T")
# Files whose changes are printed, unless --verbose is given.
SAMPLES = 10
# More files than this are changed on a terminal only after a question.
MOST_UNASKED = 100


def run_plan(
    make: Callable[..., Plan],
    *args: Any,
    dry_run: bool,
    yes: bool,
    json_report: bool,
    **kwargs: Any,
) -> None:
    """Make a plan, print samples of its changes, apply it, print the report, and exit with its exit code."""
    from sdprep.tasks.texts.plan import apply

    stop, terminal = CancelToken(), Terminal()
    with run_signals(stop):
        try:
            plan = make(*args, listener=terminal, **kwargs)
            terminal.close()
            if not json_report and current().level > Level.ERROR:
                print_samples(plan)
            if not (dry_run or yes):
                ask(plan)
            report = plan.report(dry_run=True) if dry_run else apply(plan, listener=terminal, stop=stop)
        finally:
            terminal.close()
    print_report(report, json_report=json_report)


def print_samples(plan: Plan) -> None:
    """Print the changes of some files, taken from all over the plan, and how many there are."""
    shown = [text for change in _samples(plan.changes) for text in change.shown()]
    for text in _samples(shown):
        print_change(text.name, text.before, text.after)
    if len(_samples(shown)) < max(len(shown), len(plan.changes)):
        current().say(f"these are samples of {max(len(shown), len(plan.changes))} changes; --verbose shows all")


def _samples(changes: Sequence[T]) -> Sequence[T]:
    step = 1 if current().level is Level.DETAIL else -(-len(changes) // SAMPLES)
    return changes[:: max(1, step)]


def ask(plan: Plan) -> None:
    """On a terminal, ask before many files are changed; exit if the answer is no."""
    if len(plan.changes) <= MOST_UNASKED or not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        return
    try:
        is_wanted = click.confirm(f"change {len(plan.changes)} files?", err=True)
    except click.Abort:
        # The message about it would be written over the question.
        click.echo(err=True)
        raise
    if not is_wanted:
        current().say("nothing was changed")
        sys.exit(1)
