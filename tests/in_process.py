"""Runs `sdprep` in the process of the tests, its model too, where the question is not about processes.

To start a worker takes half a second, and one that captions seconds, for torch and transformers.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from sdprep.cli.main import main
from sdprep.engines.base import INLINE
from sdprep.tasks.annotation import engine_config


@contextmanager
def model_in_process() -> Iterator[None]:
    """Inside, a run loads its model in this process, however many workers it asks for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_config, "WORKERS", INLINE)
        yield


def run_in_process(*words: str, folder: Path, environment: dict[str, str], out: StringIO, err: StringIO) -> int:
    """Run a command in a folder, with these variables besides, and return its exit code."""
    with pytest.MonkeyPatch.context() as patch, model_in_process(), redirect_stdout(out), redirect_stderr(err):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["sdprep", *words])
        for name in [name for name in os.environ if name.startswith("SDPREP_")]:
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        try:
            main()
        except SystemExit as leaving:
            return int(leaving.code or 0)
    return 0
