"""A decoder that does what the end of an image says: end the actor that decodes it, or hold the actor."""

import json
import os
import signal
import time
from pathlib import Path

from sdprep.images import decode as image

DECODER = "tests.tasks.shards.deadly:decode"
MARK = b"\n@@"


def always(data: bytes) -> bytes:
    """An image that kills each actor."""
    return data + MARK + b"always "


def once(data: bytes, place: Path) -> bytes:
    """An image that kills the first actor."""
    return data + MARK + b"once " + os.fsencode(place)


def held(data: bytes, place: Path) -> bytes:
    """An image that waits for a file `go` in a folder, after it has written `held` there, as JSON."""
    return data + MARK + b"held " + os.fsencode(place)


def decode(item, fit):
    """Decode an image, after what it asks for."""
    data = item.path.read_bytes()
    kind, _, rest = (data.partition(MARK)[2] or b" ").partition(b" ")
    place = Path(os.fsdecode(rest))
    # The parent of a worker is its actor.
    if kind == b"always" or (kind == b"once" and not place.exists()):
        if kind == b"once":
            place.touch()
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    if kind == b"held" and not (place / "go").exists():
        found = {"actor": os.getppid(), "spool": str(item.path.parent)}
        (place / "new").write_text(json.dumps(found))
        (place / "new").replace(place / "held")
        while not (place / "go").exists():
            time.sleep(0.02)
    return image.decode(item, fit)
