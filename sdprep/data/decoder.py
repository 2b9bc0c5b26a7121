"""The bytes of a picture, and which decoder reads them; importing this loads no decoder."""

from __future__ import annotations

from pathlib import Path

from PIL import __version__ as pillow_version

from sdprep import __version__ as sdprep_version
from sdprep.errors import ImageError
from sdprep.types import FailureCode

# What remembered decode failures depend on: a newer decoder may read what an older one could not.
DECODER = f"sdprep-{sdprep_version}/pillow-{pillow_version}"


def decoder_advice() -> str | None:
    """What a person should know of an old Pillow; None if there is nothing."""
    if int(pillow_version.split(".")[0]) >= 13:
        return None
    return (
        f"Pillow {pillow_version} has known holes in its decoders; 13 mends them but needs Python 3.11. "
        "Prepare only pictures that you trust, or use a newer Python"
    )


def read_file(path: Path) -> bytes:
    """The bytes of a file. Raises ImageError `unreadable`."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ImageError(FailureCode.UNREADABLE, error.strerror or str(error)) from error
