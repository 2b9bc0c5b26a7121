"""The `sdprep` command: parse, call the task, report. Nothing here imports a framework, numpy or Pillow."""

from __future__ import annotations

import os
import sys
from functools import partial

import click

from sdprep import __version__
from sdprep.cli.commands.bench import bench
from sdprep.cli.commands.caption import caption
from sdprep.cli.commands.demo import demo
from sdprep.cli.commands.doctor import doctor
from sdprep.cli.commands.history import log, restore, retry, undo
from sdprep.cli.commands.merge import merge
from sdprep.cli.commands.models import models
from sdprep.cli.commands.quantize import quantize
from sdprep.cli.commands.tag import tag
from sdprep.cli.options import handle_errors, hyphenate
from sdprep.cli.output import printing


@click.group(
    context_settings={
        "token_normalize_func": hyphenate,
        "auto_envvar_prefix": "SDPREP",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 120,
        "color": True,
    }
)
@click.version_option(__version__, prog_name="sdprep")
def cli() -> None:
    """Caption, tag and merge images for Stable Diffusion fine-tuning, without ever losing your text."""


models.add_command(quantize)
for _command in (caption, tag, merge, demo, bench, doctor, models, log, undo, restore, retry):
    cli.add_command(_command)


def main() -> None:
    """The console script."""
    _find_home()
    # click removes what looks like an escape sequence, also from a name, before it is printed as escapes: unless told
    # that colors are wanted.
    with printing(), click.Context(cli, color=True):
        handle_errors(partial(cli, standalone_mode=False))


def _find_home() -> None:
    """Give a user without a home folder the root as one, as containers do: every library asks for it."""
    if sys.platform != "win32":
        if not os.environ.get("HOME", "/").startswith("/"):
            del os.environ["HOME"]
        if os.path.expanduser("~") == "~":  # noqa: PTH111
            os.environ["HOME"] = "/"
