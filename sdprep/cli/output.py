"""What is printed: stdout and stderr of the command, on which nothing of a stranger can move a cursor.

`printing` puts both behind a `Printer`, so that every way to print passes here, also that of a library.
"""

from __future__ import annotations

import json
import os
import re
import sys
import textwrap
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

import click

from sdprep.sanitize import escape, printable

# What tqdm writes for a bar, as one piece without a line end: back to the begin of the line, or up some lines.
BAR = re.compile(r"\r[^\r\n]*|(\x1b\[A)+")
# Characters of a message; what it quotes may be a whole file.
LONGEST_MESSAGE = 10_000


class Printer:
    """A text stream on which what is not visible is printed as an escape such as `\\x1b`, line ends excepted.

    What the encoding of the stream lacks is escaped, too. With `is_talk`, a message is bounded, and dropped if it
    cannot be written: a run goes on when nobody reads its messages. Otherwise an OSError says so, and what is printed
    after it goes nowhere. It has no `buffer`, past which a library could write.
    """

    def __init__(self, stream: TextIO, *, is_talk: bool) -> None:
        self._stream, self._is_talk = stream, is_talk
        self.encoding = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text: str | bytes) -> int:
        """Write a text. Raises TypeError for anything else, as text streams do."""
        if isinstance(text, bytes) and text:
            # click prints what completes a command as bytes, to any stream.
            text = text.decode("utf-8", "backslashreplace")
        if not isinstance(text, str):
            raise TypeError(f"a text is written, not {type(text).__name__}")
        length = len(text)
        if not text:
            # click asks so whether this is a text stream, and ignores every error.
            return 0
        if self._is_talk and length > LONGEST_MESSAGE:
            text = f"{text[:LONGEST_MESSAGE]}...\n"
        bar = BAR.fullmatch(text) and self.isatty()
        if not bar:
            text = escape(printable(text))
        elif text[0] == "\r":
            text = "\r" + escape(printable(text[1:]))
        text = text.encode(self.encoding, "backslashreplace").decode(self.encoding)
        self._try(lambda: self._stream.write(text))
        return length

    def flush(self) -> None:
        """Write what is held back."""
        self._try(self._stream.flush)

    def isatty(self) -> bool:
        """Return whether a terminal shows what is printed."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Return the descriptor of the stream. Raises OSError if it has none."""
        return self._stream.fileno()

    def _try(self, write: Callable[[], object]) -> None:
        try:
            write()
        except (OSError, ValueError) as error:
            # What the stream holds back, and would write when Python ends, goes nowhere.
            with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:  # noqa: PTH123
                os.dup2(nowhere.fileno(), self._stream.fileno())
            if not self._is_talk:
                if isinstance(error, BrokenPipeError):
                    raise
                raise OSError(getattr(error, "errno", None) or 0, f"stdout cannot be written: {error}") from error


@contextmanager
def printing() -> Iterator[None]:
    """Inside, stdout and stderr are printers; a stream that was closed before the start leads nowhere."""
    _open_closed()
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123
        sys.stdout = cast("TextIO", Printer(sys.stdout or nowhere, is_talk=False))
        sys.stderr = cast("TextIO", Printer(sys.stderr or nowhere, is_talk=True))
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


def _open_closed() -> None:
    """Take the places of streams that are closed, lest a file that is opened later becomes stdout."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free descriptor is this one, as those below are open.
            os.open(os.devnull, os.O_RDWR)


def print_json(value: Any, schema: int = 1) -> None:
    """Print a result (a mapping, dataclass or struct) as one JSON object with a schema number.

    It is ASCII, and a control character is an escape that JSON knows.
    """
    import msgspec

    data = {"schema": schema, **msgspec.to_builtins(value, enc_hook=str)}
    click.echo(json.dumps(data, ensure_ascii=True, indent=2).replace("\x7f", r"\u007f"))


def print_table(rows: Sequence[Sequence[str]], *, right: Container[int] = (), width: int | None = None) -> None:
    """Print rows in columns, those in `right` flush right; the last column is wrapped to a line of `width`."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    indent = sum(widths[:-1]) + 2 * len(widths[:-1])
    for row in rows:
        cells = [
            cell.rjust(size) if column in right else cell.ljust(size)
            for column, (cell, size) in enumerate(zip(row, widths, strict=True))
        ]
        lines = textwrap.wrap(row[-1], width - indent, break_on_hyphens=False) if width else cells[-1:]
        click.echo("  ".join([*cells[:-1], *lines[:1]]).rstrip())
        for line in lines[1:]:
            click.echo(" " * indent + line)
