"""Notes and a progress bar while a run works, on stderr."""

from __future__ import annotations

import sys
from typing import Any

import click


class Terminal:
    """A listener that prints notes on stderr, and a progress bar if stderr is a terminal."""

    def __init__(self) -> None:
        self._bar: Any = None

    def note(self, message: str) -> None:
        """Print a message, above the bar if there is one."""
        if self._bar is not None:
            # One write: text without a line end would be taken for a part of the bar.
            self._bar.write(f"{message}\n", file=sys.stderr, end="")
        else:
            click.echo(message, err=True)

    def start(self, total: int) -> None:
        """Show the bar."""
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, unit="img", file=sys.stderr, dynamic_ncols=True)

    def advance(self) -> None:
        """Advance the bar by one image."""
        if self._bar is not None:
            self._bar.update()

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
