"""Messages: the one place where they are printed on stderr, and written to the log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any, TextIO

import click

from sdprep.cli.output import Printer
from sdprep.sanitize import escape, printable, printable_time

# How the head of a message looks on a terminal: parameters of the escape sequence "select graphic rendition".
RED, YELLOW, GREEN = "31", "33", "32"


class Level(IntEnum):
    """How much is printed: errors and failures with --quiet, everything with --verbose."""

    ERROR = 0
    NOTE = 1
    DETAIL = 2


class Talk:
    """The messages of one command. A progress bar, if there is one, is cleared before a message and drawn after it."""

    def __init__(self) -> None:
        self.level = Level.NOTE
        self.bar: Any = None
        self._log: TextIO | None = None

    def open_log(self, path: Path) -> None:
        """Append every message to this file too. Raises OSError."""
        self._log = path.open("a", encoding="utf-8", errors="backslashreplace", buffering=1)

    def say(self, text: str, *, head: str = "", style: str = "", level: Level = Level.NOTE) -> None:
        """Print a message whose head has a color, if the level asks for it, and log it in any case."""
        self.log(head + text)
        if level > self.level:
            return
        if self.bar is not None:
            self.bar.clear()
            _wipe(self.bar.ncols)
        if isinstance(sys.stderr, Printer):
            sys.stderr.write_line(text, head=head, style=style)
        else:
            click.echo(head + text, err=True)
        if self.bar is not None:
            self.bar.refresh()

    def log(self, text: str) -> None:
        """Write a message to the log file alone."""
        if self._log is None:
            return
        try:
            lines = escape(printable(text)).replace("\n", "\n    ")
            self._log.write(f"{printable_time(time.time())} {lines}\n")
        except OSError as error:
            # The run is worth more than its log.
            self._log = None
            self.say(f"the log file cannot be written: {error.strerror}", level=Level.ERROR)

    def close(self) -> None:
        """Remove the bar and close the log file."""
        self.end_bar()
        if self._log is not None:
            self._log.close()
            self._log = None

    def end_bar(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()
            _wipe(self.bar.ncols)
            self.bar = None

    def hide_ctrl_c(self) -> None:
        """Remove the ^C of a terminal where no bar is; with a bar, the next message does."""
        if self.bar is None and sys.stderr.isatty():
            _wipe()

    def interrupted(self, kept: str) -> None:
        """Print that the command was interrupted, and what it has kept."""
        self.end_bar()
        self.hide_ctrl_c()
        self.say("; ".join(filter(None, ("sdprep: interrupted", kept))), level=Level.ERROR)


def _wipe(columns: int = 0) -> None:
    """Remove the ^C that a terminal shows behind so many columns."""
    sys.stderr.write(f"\r{' ' * (columns + 2)}")
    sys.stderr.write("\r")


_current = Talk()


def current() -> Talk:
    """The messages of the command that runs."""
    return _current


@contextmanager
def talking() -> Iterator[Talk]:
    """Inside, a command has its own messages."""
    global _current
    before, _current = _current, Talk()
    try:
        yield _current
    finally:
        _current.close()
        _current = before
