"""Ctrl-C and SIGTERM: a run finishes its current batch, then reports the rest as remaining."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from sdprep.cli.talk import Level, current
from sdprep.cli.watchdog import watchdog
from sdprep.report import CancelToken

# Seconds after SIGTERM for the current batch, and for the process to write its report.
BATCH_SECONDS, LAST_SECONDS = 6.0, 9.0
# Seconds after these in which Python itself can still end the process, before it is killed.
GRACE = 0.5


@contextmanager
def run_signals(stop: CancelToken) -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM ask the run to finish its current batch; a second Ctrl-C ends it at once.

    While the run is not interruptible, as during a download, the first one ends it. Whoever sends SIGTERM (Slurm, a
    spot machine) soon kills the process, so the batch is abandoned after a while, and finally the process ends.
    """

    def ask(number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and (stop or not stop.interruptible):
            raise KeyboardInterrupt
        if number == signal.SIGTERM and stop.deadline == math.inf:
            stop.deadline = time.monotonic() + BATCH_SECONDS
            if hasattr(signal, "setitimer"):
                signal.setitimer(signal.ITIMER_REAL, LAST_SECONDS)
        if not stop.interruptible:
            current().say("sdprep: terminated", level=Level.ERROR)
            sys.exit(128 + number)
        stop.exit_code = 128 + number
        current().hide_ctrl_c()
        current().say("finishing the current batch; press Ctrl-C again to stop at once")

    handlers: dict[int, Any] = {signal.SIGINT: ask, signal.SIGTERM: ask}
    if hasattr(signal, "SIGALRM"):
        handlers[signal.SIGALRM] = lambda *_: os._exit(128 + signal.SIGTERM)
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        with watchdog(LAST_SECONDS + GRACE):
            yield
    finally:
        if stop.deadline != math.inf and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
