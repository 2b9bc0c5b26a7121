"""`sdprep doctor`."""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sdprep.cli import options as shared
from sdprep.cli.output import print_json, print_table

if TYPE_CHECKING:
    from sdprep.doctor.doctor import Diagnosis, Job
    from sdprep.doctor.problems import Problem

WIDTH = 80


@click.command(
    cls=shared.Command,
    example="sdprep doctor ./imgs --for caption --for tag",
    short_help="Say what this machine can run, and what mends the rest.",
)
@click.argument("directory", metavar="[DIR]", type=shared.DIRECTORY, required=False)
@shared.option("--for", "asked", type=click.Choice(["caption", "tag", "tensorflow"]), multiple=True,
               help="A job that must be possible here (may be repeated); the exit code is 5 if it is not.")  # fmt: skip
@shared.option("--fix", is_flag=True, help="Print only the commands that mend what is wrong, as a script.")
@shared.option("--json", "json_report", is_flag=True, help="Print everything as one JSON object on stdout.")
def doctor(directory: Path | None, asked: tuple[Job, ...], fix: bool, json_report: bool) -> None:
    """Try what is installed here: packages, devices, the Hub, and DIR if it is given.

    Every framework is tried in a process of its own with a computation on each device. Nothing is installed or changed.
    """
    from sdprep.doctor import doctor as examine

    if fix and json_report:
        raise click.UsageError("--fix and --json both want stdout; --json has the commands too")
    click.echo("trying everything that is installed; this can take a minute", err=True)
    diagnosis = examine.doctor(directory, asked, cuda_visible=os.environ.get("CUDA_VISIBLE_DEVICES"))
    if json_report:
        print_json(diagnosis.as_dict())
    elif fix:
        _print_script(diagnosis)
    else:
        _print_table(diagnosis)
    sys.exit(diagnosis.exit_code)


def _print_script(diagnosis: Diagnosis) -> None:
    for command in diagnosis.commands:
        click.echo(command)
    for problem in diagnosis.problems:
        if not problem.commands:
            click.echo(f"no command mends this: {problem.says} {problem.advice}".rstrip(), err=True)


def _print_table(diagnosis: Diagnosis) -> None:
    rows = [
        ("PART", "ITEM", "STATE", "DETAIL"),
        *((row.part, _shown(row.item), row.state, row.detail) for row in diagnosis.rows),
    ]
    print_table(rows, width=WIDTH)
    for problem in diagnosis.problems:
        _print_problem(problem)
    click.echo(f"\npossible here: {_names(diagnosis, True)}; not possible here: {_names(diagnosis, False)}")


def _shown(item: str) -> str:
    """An item in few characters, which leaves more of the line to the details."""
    return item.replace("ExecutionProvider", " provider")


def _print_problem(problem: Problem) -> None:
    says = " ".join(filter(None, [f"{problem.part}:", problem.says, problem.advice, f"({problem.code.value})"]))
    click.echo()
    click.echo("\n".join(textwrap.wrap(says, WIDTH, subsequent_indent="  ", break_on_hyphens=False)))
    for command in problem.commands:
        # Not wrapped: it is to be copied.
        click.echo(f"    {command}")


def _names(diagnosis: Diagnosis, works: bool) -> str:
    return ", ".join(part for part, can in diagnosis.works.items() if can is works) or "nothing"
