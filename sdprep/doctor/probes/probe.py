"""What runs in a process of its own, started by `gather.py`, to try one thing.

It says what it finds as JSON, one object a line, as it goes: what it said before a crash is not lost. This file and
the probes beside it import nothing but the standard library and the framework that they try.
"""

from __future__ import annotations

import importlib
import json
import os
import traceback
from typing import TextIO


class Emitter:
    """Says what a probe finds."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def step(self, name: str) -> None:
        """What is about to be tried; the last one is to blame for a crash."""
        self._tell({"step": name})

    def about(self, **values: str | int | bool | None) -> None:
        """Facts by name."""
        self._tell({"about": values})

    def device(self, name: str, ok: bool, detail: str = "") -> None:
        """A device, and whether it computed what it should have."""
        self._tell({"device": {"name": name, "ok": ok, "detail": detail}})

    def error(self, error: BaseException) -> None:
        """What ended the probe."""
        self._tell({"error": describe(error)})

    def _tell(self, value: object) -> None:
        self._stream.write(json.dumps(value, ensure_ascii=True) + "\n")
        self._stream.flush()


def describe(error: BaseException) -> str:
    """The class and the first lines of an error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:3])}"[:500]


def main(name: str, *arguments: str) -> int:
    """Run one probe; the exit code of its process."""
    # Frameworks print on stdout as they please; the facts keep it for themselves.
    stream = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    tell = Emitter(stream)
    try:
        module = importlib.import_module(f"sdprep.doctor.probes.probe_{name}")
        module.probe(tell, *arguments)
        tell.step("done")
    except BaseException as error:  # noqa: BLE001 - whatever a broken installation leads to is the finding
        traceback.print_exc()
        tell.error(error)
        return 1
    return 0
