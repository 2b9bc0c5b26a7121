"""A process that kills another one some time after SIGTERM, whatever that one is doing.

Python handles a signal between two bytecodes. A call into a C library may take longer than the sender of the signal
waits, and may hold the interpreter lock, so that no thread can act either. But Python's C handler writes the number of
each signal to a file descriptor at once, and the process at the other end of that pipe can act on it.

This file is also the program of that process, so it imports nothing but the standard library.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def watchdog(seconds: float) -> Iterator[None]:
    """Inside, this process is killed `seconds` after SIGTERM. It must be the main thread, and SIGTERM have a handler.

    If no process can be started, Python alone handles the signal, as on Windows, which has no SIGTERM.
    """
    import subprocess

    words = [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(seconds)]
    try:
        if sys.platform == "win32" or not sys.executable or getattr(sys, "frozen", False):
            raise OSError("no Python interpreter for the watchdog")
        null = subprocess.DEVNULL
        process = subprocess.Popen(
            # Its own session, so that Ctrl-C and a closed terminal do not reach it.
            words, stdin=subprocess.PIPE, stdout=null, stderr=null, cwd="/", start_new_session=True,
        )  # fmt: skip
    except OSError:
        yield
        return
    with process:
        descriptor = process.stdin.fileno() if process.stdin else -1
        os.set_blocking(descriptor, False)
        before = signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            process.kill()


def _watch(process: int, seconds: float) -> None:
    """Read signal numbers from stdin until the other process ends and closes the pipe."""
    import select

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    deadline: float | None = None
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([0], [], [], left)[0]:
            # The pipe is still open, so the process id still belongs to that process.
            os.kill(process, signal.SIGKILL)
            return
        numbers = os.read(0, 64)
        if not numbers:
            return
        if signal.SIGTERM in numbers and deadline is None:
            deadline = time.monotonic() + seconds


if __name__ == "__main__":
    _watch(int(sys.argv[1]), float(sys.argv[2]))
