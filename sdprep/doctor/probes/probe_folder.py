"""Writes a file into a folder and removes it again."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path

from sdprep.doctor.probes.probe import Emitter
from sdprep.files import real_path


def probe(tell: Emitter, folder: str) -> None:
    """Tell whether sdprep may write in a folder, and how much room it has."""
    tell.step("read")
    path = real_path(Path(folder))
    status = path.stat()
    # Modes mean nothing to root (0), so they are not what stops it.
    mine = not hasattr(os, "getuid") or (os.getuid() != 0 and status.st_uid == os.getuid())
    locked = not status.st_mode & stat.S_IWUSR
    tell.about(path=str(path), free=shutil.disk_usage(path).free, chmod_helps=mine and locked)
    tell.step("write")
    try:
        with tempfile.NamedTemporaryFile(dir=path, prefix=".sdprep-doctor-", suffix=".tmp") as file:
            file.write(b"doctor\n")
    except OSError as error:
        tell.about(writable=False, reason=error.strerror or str(error))
    else:
        tell.about(writable=True)
