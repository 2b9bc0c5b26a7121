"""A decoder that writes beside each image how many threads torch has in its worker."""

import os

from sdprep.images import decode as image


def decode(item, fit):
    """Decode an image, and tell."""
    # Importing it earlier would settle the number.
    import torch

    item.path.with_suffix(f".{os.getpid()}.threads").write_text(str(torch.get_num_threads()), "utf-8")
    return image.decode(item, fit)
