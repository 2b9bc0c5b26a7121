"""The stdout and stderr of the command, on which no file name or message can control the terminal.

`printing` wraps both in a `Printer`, so that everything passes through it, also what a library prints.
"""

from __future__ import annotations

import json
import os
import re
import sys
import textwrap
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

import click

from sdprep.errors import SdprepError
from sdprep.sanitize import escape, printable

# What tqdm writes for a bar, in one piece without a line end: to the start of the line, or up some lines.
BAR = re.compile(r"\r[^\r\n]*|(\x1b\[A)+")
# Characters of a message, which may quote a whole file.
LONGEST_MESSAGE = 10_000


class Printer:
    """A text stream that prints invisible characters as escapes such as `\\x1b`, except line ends.

    Characters that the stream's encoding lacks are escaped too, and only `write_styled` prints colors. With `is_talk`,
    a message is truncated, and dropped if it cannot be written: a run goes on when nobody reads its messages. Otherwise
    writing raises SdprepError, and later output is discarded. No library can bypass it through a `buffer`.
    """

    def __init__(self, stream: TextIO, *, is_talk: bool) -> None:
        self._stream, self._is_talk = stream, is_talk
        self.encoding = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text: str | bytes) -> int:
        """Write a text. Raises TypeError for anything else, as text streams do."""
        if isinstance(text, bytes) and text:
            # click prints shell completions as bytes, to any stream.
            text = text.decode("utf-8", "backslashreplace")
        if not isinstance(text, str):
            raise TypeError(f"a string is needed, not {type(text).__name__}")
        length = len(text)
        if not text:
            # click tests in this way whether it is a text stream, and ignores every error.
            return 0
        bar = BAR.fullmatch(text) and self.isatty()
        if not bar:
            text = self._shown(text)
        elif text[0] == "\r":
            text = "\r" + self._shown(text[1:])
        self._try(lambda: self._stream.write(text))
        return length

    def write_line(self, text: str, *, head: str = "", style: str = "") -> None:
        """Write a message in one piece; its head has a color if the stream shows colors."""
        self.write_styled([(head, style), (text, "")])

    def write_styled(self, parts: Iterable[tuple[str, str]]) -> None:
        """Write a line in one piece, each part with its style if the stream shows colors."""
        colored = has_color(self._stream)
        shown = [(self._shown(text), style if colored else "") for text, style in parts]
        line = "".join(f"\x1b[{style}m{text}\x1b[0m" if text and style else text for text, style in shown)
        self._try(lambda: self._stream.write(f"{line}\n"))
        self.flush()

    def _shown(self, text: str) -> str:
        """The text with escapes for what does not reach a terminal."""
        if self._is_talk and len(text) > LONGEST_MESSAGE:
            text = f"{text[:LONGEST_MESSAGE]}...\n"
        text = escape(printable(text))
        return text.encode(self.encoding, "backslashreplace").decode(self.encoding)

    def flush(self) -> None:
        """Write what is buffered."""
        self._try(self._stream.flush)

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Return the descriptor of the stream. Raises OSError if it has none."""
        return self._stream.fileno()

    def _try(self, write: Callable[[], object]) -> None:
        try:
            write()
        except (OSError, ValueError) as error:
            # What is buffered, and would be written when Python exits, is discarded.
            with suppress(OSError, ValueError), open(os.devnull, "wb") as null:  # noqa: PTH123
                os.dup2(null.fileno(), self._stream.fileno())
            if not self._is_talk:
                if isinstance(error, BrokenPipeError):
                    raise
                raise SdprepError(f"stdout cannot be written: {getattr(error, 'strerror', None) or error}") from error


def has_color(stream: TextIO) -> bool:
    """Whether to print colors: on a terminal, unless NO_COLOR is set; everywhere if FORCE_COLOR is set."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (stream.isatty() and os.environ.get("TERM") != "dumb")


@contextmanager
def printing() -> Iterator[None]:
    """Inside, stdout and stderr are printers; output to a stream that was closed at the start is discarded."""
    _open_closed()
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as null:  # noqa: PTH123
        sys.stdout = cast("TextIO", Printer(sys.stdout or null, is_talk=False))
        sys.stderr = cast("TextIO", Printer(sys.stderr or null, is_talk=True))
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


def _open_closed() -> None:
    """Open the null device for closed streams, so that a file opened later does not become stdout."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # This is the lowest free descriptor, since those below are open.
            os.open(os.devnull, os.O_RDWR)


def print_json(value: Any, schema: int = 1) -> None:
    """Print a result (a mapping, dataclass or struct) as one JSON object with a schema number.

    It is ASCII, and a control character is an escape that JSON knows.
    """
    import msgspec

    data = {"schema": schema, **msgspec.to_builtins(value, enc_hook=str)}
    click.echo(json.dumps(data, ensure_ascii=True, indent=2).replace("\x7f", r"\u007f"))


def print_styled(parts: Iterable[tuple[str, str]]) -> None:
    """Print a line on stdout, each part with its style if stdout shows colors."""
    if isinstance(sys.stdout, Printer):
        sys.stdout.write_styled(parts)
    else:
        click.echo("".join(text for text, _ in parts))


def print_table(
    rows: Sequence[Sequence[str]],
    *,
    right: Container[int] = (),
    width: int | None = None,
    echo: Callable[[str], None] = click.echo,
) -> None:
    """Print rows in columns, those in `right` flush right; the last column is wrapped to a line of `width`."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    indent = sum(widths[:-1]) + 2 * len(widths[:-1])
    for row in rows:
        cells = [
            cell.rjust(size) if column in right else cell.ljust(size)
            for column, (cell, size) in enumerate(zip(row, widths, strict=True))
        ]
        lines = textwrap.wrap(row[-1], width - indent, break_on_hyphens=False) if width else cells[-1:]
        echo("  ".join([*cells[:-1], *lines[:1]]).rstrip())
        for line in lines[1:]:
            echo(" " * indent + line)
