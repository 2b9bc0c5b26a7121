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
from sdprep.cli.talk import current

if TYPE_CHECKING:
    from sdprep.doctor.doctor import Diagnosis, Job

WIDTH = 80


@click.command(
    cls=shared.Command,
    example="sdprep doctor ./imgs --for caption --for tag",
    short_help="Check your setup and show how to fix what is missing.",
)
@click.argument("directory", metavar="[DIR]", type=shared.DIRECTORY, required=False)
@shared.option("--for", "asked", type=click.Choice(["caption", "tag", "tensorflow"]), multiple=True,
               help="Require that this job can run here (can be repeated); otherwise the exit code is 5.")  # fmt: skip
@shared.option("--fix", is_flag=True, help="Print only the commands that fix the problems, as a script.")
@shared.option("--json", "json_report", is_flag=True, help="Print everything as one JSON object on stdout.")
def doctor(directory: Path | None, asked: tuple[Job, ...], fix: bool, json_report: bool) -> None:
    """Check what is installed here: packages, devices, the Hub, and DIR if it is given.

    Each framework is tested in a separate process with a computation on every device. Nothing is installed or changed.
    """
    from sdprep.doctor import doctor as examine

    if fix and json_report:
        raise click.UsageError("--fix and --json cannot be combined; --json prints the commands too")
    current().say("testing everything that is installed; this can take a minute")
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
            current().say(f"no command fixes this: {problem.message} {problem.advice}".rstrip())


def _print_table(diagnosis: Diagnosis) -> None:
    # A shorter name leaves more of the line for the details.
    rows = [
        (row.part, row.item.replace("ExecutionProvider", " provider"), row.state, row.detail) for row in diagnosis.rows
    ]
    print_table([("PART", "ITEM", "STATE", "DETAIL"), *rows], width=WIDTH)
    for problem in diagnosis.problems:
        parts = [f"{problem.part}:", problem.message, problem.advice, f"({problem.code.value})"]
        message = " ".join(filter(None, parts))
        click.echo()
        click.echo("\n".join(textwrap.wrap(message, WIDTH, subsequent_indent="  ", break_on_hyphens=False)))
        for command in problem.commands:
            # Not wrapped, so that it can be copied.
            click.echo(f"    {command}")
    can, cannot = (
        ", ".join(part for part, works in diagnosis.works.items() if works is wanted) or "nothing"
        for wanted in (True, False)
    )
    click.echo(f"\npossible here: {can}; not possible here: {cannot}")
