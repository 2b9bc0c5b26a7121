"""A decoder that an image with a mark at its end kills, as a bug in a library of C would."""

import os
import signal

from sdprep.images import decode as image

DECODER = "tests.tasks.shards.poison:decode"
MARK = b"poison"


def decode(item, fit):
    """Decode an image, unless it has the mark."""
    if item.path.read_bytes().endswith(MARK):
        os.kill(os.getpid(), signal.SIGKILL)
    return image.decode(item, fit)
