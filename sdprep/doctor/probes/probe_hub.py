"""Asks the Hub for an answer through the client that downloads use, and looks at its cache."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from urllib.parse import urlsplit

from sdprep.doctor.probes.probe import Emitter

# Seconds on the size of the cache, and of silence on the connection.
COUNTING, READ_TIMEOUT = 4.0, 5.0


def probe(tell: Emitter) -> None:
    """Tell where the cache is and how large, and whether the Hub answers; no token is sent and none is told."""
    tell.step("import")
    from huggingface_hub import constants, get_session

    cache = Path(constants.HF_HUB_CACHE)
    address = urlsplit(constants.ENDPOINT)
    endpoint = address._replace(netloc=address.netloc.rpartition("@")[2]).geturl()
    tell.about(endpoint=endpoint, offline=bool(constants.HF_HUB_OFFLINE), cache=str(cache))
    tell.step("cache")
    size, complete = _size(cache)
    place = next(folder for folder in (cache, *cache.parents) if folder.is_dir())
    tell.about(
        size=size, complete=complete, free=shutil.disk_usage(place).free, writable=os.access(place, os.W_OK | os.X_OK)
    )
    if constants.HF_HUB_OFFLINE:
        return
    tell.step("answer")
    with get_session().stream("GET", f"{constants.ENDPOINT}/api/models?limit=1", timeout=READ_TIMEOUT) as response:
        tell.about(status=response.status_code)


def _size(folder: Path) -> tuple[int, bool]:
    """Bytes in a folder, links not followed, and whether there was time for all of it."""
    end, total = time.monotonic() + COUNTING, 0
    for where, _, names in os.walk(folder):
        for name in names:
            if time.monotonic() > end:
                return total, False
            try:
                total += (Path(where) / name).lstat().st_size
            except OSError:
                continue
    return total, True
