"""The progress of a run: a bar on a terminal, elsewhere a line every 30 seconds."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable

from sdprep.cli.talk import Level, current

# Seconds between two lines where no bar is shown.
INTERVAL = 30.0
# Columns after a bar in which a terminal shows ^C.
ECHO = 4
BAR_FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}, {rate_noinv_fmt}, {remaining} left"


class Terminal:
    """A listener that prints notes, and shows each stage of the run with its rate and the time that is left."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._talk, self._clock = current(), clock
        self._name, self._unit = "", ""
        self._total: int | None = None
        self._done, self._began, self._said = 0, 0.0, 0.0

    def note(self, message: str) -> None:
        """Print a message, above the bar if there is one."""
        self._talk.say(message)

    def stage(self, name: str, total: int | None = None, unit: str = "images") -> None:
        """Show the name of the stage that begins, with a bar if it has a total."""
        self.close()
        self._name, self._total, self._unit, self._done = name, total, unit, 0
        self._began = self._said = self._clock()
        shows_bar = sys.stderr.isatty() and self._talk.level > Level.ERROR
        what = name if total is None else f"{name}: {total} {unit if total != 1 else unit.removesuffix('s')}"
        self._talk.say(what, level=Level.NOTE if total is None and not shows_bar else Level.DETAIL)
        if shows_bar:
            self._show_bar()

    def advance(self, count: int = 1) -> None:
        """Count images that have an outcome."""
        self._done += count
        if self._talk.bar is not None:
            self._talk.bar.update(count)
        now = self._clock()
        if now - self._said >= INTERVAL:
            self._said = now
            if self._talk.bar is None:
                self._talk.say(self._line(now))
            else:
                self._talk.log(self._line(now))

    def close(self) -> None:
        """Remove the bar."""
        self._talk.end_bar()

    def _show_bar(self) -> None:
        from tqdm import tqdm

        # Its thread would redraw bars that do not advance.
        tqdm.monitor_interval = 0
        self._talk.bar = bar = tqdm(
            desc=self._name,
            total=self._total,
            unit="B" if self._unit == "bytes" else f" {self._unit}",
            unit_scale=self._unit == "bytes",
            bar_format="{desc}" if self._total is None else BAR_FORMAT,
            miniters=1,
            leave=False,
            file=sys.stderr,
            ncols=_columns() - ECHO,
        )
        # As with dynamic_ncols, which leaves no room for the echo.
        bar.dynamic_ncols = lambda _: (_columns() - ECHO, None)

    def _line(self, now: float) -> str:
        """How far the stage is."""
        seconds = now - self._began
        if self._total is None or not self._done:
            return f"{self._name}: {seconds:.0f} s"
        rate = self._done / seconds
        left = max(0, self._total - self._done) / rate
        done, total, speed = (_amount(value, self._unit) for value in (self._done, self._total, rate))
        return f"{self._name}: {done} of {total} {self._unit}, {speed} {self._unit} per second, {_time(left)} left"


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except OSError:
        return shutil.get_terminal_size().columns


def _amount(value: float, unit: str) -> str:
    return f"{value:,.0f}" if unit == "bytes" or value == int(value) else f"{value:.1f}"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
