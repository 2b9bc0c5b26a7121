"""Paths that strangers have written: in model descriptions, metadata and settings that came with images."""

from __future__ import annotations

import re
import sys
from pathlib import Path

# What Windows takes for a device in any folder and with any extension.
DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*([.:].*)?", re.IGNORECASE | re.DOTALL)


def is_safe_relative(name: str) -> bool:
    """Whether a name means a file below whatever folder it is joined to, on every system; links are not looked at.

    Absolute paths, `..`, backslashes, drives and shares, streams, NUL and names of devices do not.
    """
    parts = name.split("/")
    return (
        bool(name.strip("./"))
        and not re.search(r"[\\:\0]", name)
        and all(part not in ("", "..") and not DEVICE.fullmatch(part) for part in parts)
    )


def is_inside(path: Path, root: Path) -> bool:
    """Whether a path lies in a folder when all links are followed. Shares and devices are not looked at."""
    # A folder that is itself on a share is one that a person has named.
    if not is_local_path(str(path.relative_to(root) if path.is_relative_to(root) else path)):
        return False
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, ValueError, RuntimeError):
        return False


def is_local_path(name: str) -> bool:
    """Whether asking the system about a path only ever asks this machine's disks."""
    if "\0" in name or re.match(r"[\\/]{2}", name):
        return False
    return sys.platform != "win32" or not any(DEVICE.fullmatch(part) for part in re.split(r"[\\/]", name))
