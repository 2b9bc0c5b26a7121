"""Names of files, and checks of untrusted paths: those in model descriptions, metadata and settings of others."""

from __future__ import annotations

import re
import sys
from pathlib import Path

# Names that mean a device on Windows, in any folder and with any extension.
DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*([.:].*)?", re.IGNORECASE | re.DOTALL)


def stem_of(image: str) -> str:
    """The name or path of an image, with forward slashes, without its extension."""
    dot = image.rfind(".")
    return image[:dot] if dot > image.rfind("/") + 1 else image


def is_safe_relative(name: str) -> bool:
    """Whether a name stays below any folder that it is joined to, on every system, links aside.

    Absolute paths, `..`, backslashes, drives, shares, streams, NUL and device names do not.
    """
    parts = name.split("/")
    return (
        bool(name.strip("./"))
        and not re.search(r"[\\:\0]", name)
        and all(part not in ("", "..") and not DEVICE.fullmatch(part) for part in parts)
    )


def is_inside(path: Path, root: Path) -> bool:
    """Whether a path is in a folder after following all links. Shares and devices are never accessed."""
    # The folder itself may be on a share, since the user named it.
    if not is_local_path(str(path.relative_to(root) if path.is_relative_to(root) else path)):
        return False
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, ValueError, RuntimeError):
        return False


def is_local_path(name: str) -> bool:
    """Whether the system can look up a path on this machine's disks alone."""
    if "\0" in name or re.match(r"[\\/]{2}", name):
        return False
    return sys.platform != "win32" or not any(DEVICE.fullmatch(part) for part in re.split(r"[\\/]", name))
