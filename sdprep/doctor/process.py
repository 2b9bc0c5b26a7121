"""Other programs, given a limited time."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

# Seconds for a killed process to go away; one that hangs inside a driver may never do so.
KILL_TIMEOUT = 5.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended: `code` is None if its time ran out. What it had said until then is there in any case."""

    code: int | None
    out: str
    err: str


def run_bounded(command: Sequence[str], seconds: float) -> Ended:
    """Run a program for at most `seconds`. Raises OSError if it cannot be started."""
    # Files and not pipes: what a killed program leaves running could hold a pipe open.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        code: int | None = None
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        finally:
            _end(process)
        return Ended(code, _written_to(out), _written_to(err))


def _written_to(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode("utf-8", "replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        try:
            process.wait(KILL_TIMEOUT)
        except subprocess.TimeoutExpired:
            # Left behind: the kernel ends it when the driver lets go of it.
            process.returncode = -9
