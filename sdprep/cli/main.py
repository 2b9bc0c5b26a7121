"""The `sdprep` command. Nothing here imports a framework, numpy or Pillow."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import click

from sdprep import __version__
from sdprep.cli.commands.bench import bench
from sdprep.cli.commands.caption import caption
from sdprep.cli.commands.check import check
from sdprep.cli.commands.completion import completion, show_help
from sdprep.cli.commands.demo import demo
from sdprep.cli.commands.doctor import doctor
from sdprep.cli.commands.export import export, import_
from sdprep.cli.commands.history import diff, log, restore, retry, undo
from sdprep.cli.commands.merge import merge
from sdprep.cli.commands.models import models
from sdprep.cli.commands.quantize import quantize
from sdprep.cli.commands.settings import settings
from sdprep.cli.commands.tag import tag
from sdprep.cli.output import printing
from sdprep.cli.param_types import hyphenate
from sdprep.cli.results.results import results
from sdprep.cli.talk import RED, Level, current, talking
from sdprep.cli.texts.clean import clean
from sdprep.cli.texts.edit import edit
from sdprep.cli.texts.review import review
from sdprep.cli.texts.stats import stats
from sdprep.errors import SdprepError, lacks_memory
from sdprep.sanitize import redact

# A variable that asks for the traceback of an internal error.
TRACEBACK = "SDPREP_TRACEBACK"
# What click 8.2 and newer raise for a command that has commands of its own and was given none; 8.1 prints the help.
NO_COMMAND = getattr(click.exceptions, "NoArgsIsHelpError", ())


class Interrupted(Exception):  # noqa: N818 - it is no error
    """Ctrl-C ended a command; the text tells what it has kept."""


class Commands(click.Group):
    """The commands of sdprep."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; click itself would end the line and lose the text of an interrupt."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            raise Interrupted(str(interrupt)) from interrupt


@click.group(
    cls=Commands,
    context_settings={
        "token_normalize_func": hyphenate,
        "auto_envvar_prefix": "SDPREP",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 120,
        "color": True,
    },
)
@click.version_option(__version__, "-V", "--version", prog_name="sdprep")
def cli() -> None:
    """Caption and tag images for Stable Diffusion fine-tuning, and merge them, without ever losing your edits."""


models.add_command(quantize)
for _command in (caption, tag, merge, review, edit, clean, check, stats, export, import_, demo, bench, doctor, models):
    cli.add_command(_command)
for _command in (results, log, diff, settings, undo, restore, retry, completion, show_help):
    cli.add_command(_command)


def main() -> None:
    """The console script."""
    _find_home()
    # Without color=True, click removes what looks like an escape sequence before it could be printed as an escape.
    with printing(), talking(), click.Context(cli, color=True):
        handle_errors(partial(cli, standalone_mode=False))


def _find_home() -> None:
    """Use / as the home folder of a user without one, as in some containers: every library asks for it."""
    if sys.platform != "win32":
        if not os.environ.get("HOME", "/").startswith("/"):
            del os.environ["HOME"]
        if os.path.expanduser("~") == "~":  # noqa: PTH111
            os.environ["HOME"] = "/"


def handle_errors(function: Callable[[], Any]) -> None:
    """Run the command line; an error becomes a few lines on stderr and an exit code."""
    try:
        function()
    except NO_COMMAND as error:
        current().say(error.format_message(), level=Level.ERROR)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f"\nTry '{context.command_path} --help' for help." if context else ""
        # click lists choices with tabs, which would be shown as escapes.
        message = error.format_message().replace("\n\t", "\n  ")
        _leave(f"{message}{hint}", error.exit_code)
    except SdprepError as error:
        _leave(redact(str(error)), error.exit_code)
    except BrokenPipeError:
        # Nobody reads the output any more.
        sys.exit(1)
    except OSError as error:
        _leave(str(error) if _current_folder_exists() else "the current folder was deleted; change to another one", 1)
    except (Interrupted, KeyboardInterrupt, click.Abort) as error:
        current().interrupted(str(error) if isinstance(error, Interrupted) else "")
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - no error is shown as a traceback unless asked for
        if os.environ.get(TRACEBACK):
            current().say(redact(traceback.format_exc()), level=Level.ERROR)
        _leave(_plain_message(error), 1)


def _leave(message: str, code: int) -> NoReturn:
    current().end_bar()
    current().say(f" {message}", head="sdprep: error:", style=RED, level=Level.ERROR)
    sys.exit(code)


def _current_folder_exists() -> bool:
    try:
        Path.cwd()
    except OSError:
        return False
    return True


def _plain_message(error: Exception) -> str:
    """The message for an error that is not sdprep's own."""
    if isinstance(error, MemoryError):
        return "not enough memory"
    if lacks_memory(error):
        return f"not enough memory, or its limit is too low (ulimit -v): {_last_line(error)}"
    if isinstance(error, RecursionError):
        return "a file or a setting is nested too deeply to be read"
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return "the system does not let this process start more threads (ulimit -u)"
    what = ": ".join(filter(None, [type(error).__name__, _last_line(error)]))
    return f"this is a bug in sdprep: {what}\nPlease report it with the output of the same command with {TRACEBACK}=1"


def _last_line(error: Exception) -> str:
    return "".join(redact(str(error)).strip().splitlines()[-1:])
