"""Images in the network's form, how they get there, and the source that the decode loop reads them from."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sdprep.models.base import ImageSpec
from sdprep.models.captioners.blip.cuda import CopyStream
from sdprep.types import Batch

if TYPE_CHECKING:
    import torch


class Images(NamedTuple):
    """A batch for the network: `pixels` is normalised [n, 3, H, W]; `digests` seed the random streams of samples."""

    keys: tuple[Hashable, ...]
    digests: tuple[bytes, ...]
    pixels: torch.Tensor

    def part(self, start: int, stop: int | None) -> Images:
        """Some of the images."""
        return Images(self.keys[start:stop], self.digests[start:stop], self.pixels[start:stop])


class Normalizer:
    """Moves pixels to the device as the weights expect them: channels first, 0 to 1, minus the mean, over the std."""

    def __init__(self, image: ImageSpec, device: torch.device, dtype: torch.dtype, *, async_copy: bool = False) -> None:
        import torch

        self._device, self._dtype = device, dtype
        # On the device: a copy from the host would wait for all queued work.
        self._mean, self._std = (torch.tensor(each, device=device).view(1, 3, 1, 1) for each in (image.mean, image.std))
        self._stream = CopyStream(device) if async_copy else None

    def __call__(self, batch: Batch) -> Images:
        """The images of a batch, whose pixels are uint8[N, H, W, 3]."""
        import torch

        pixels = torch.from_numpy(np.ascontiguousarray(batch.pixels))
        on_device = pixels.to(self._device) if self._stream is None else self._stream.send(pixels)
        values = on_device.permute(0, 3, 1, 2).float()
        return Images(batch.keys, batch.digests, ((values / 255 - self._mean) / self._std).to(self._dtype))


class ImageSource:
    """Batches that can be read in smaller parts, and to which images can be given back."""

    def __init__(self, batches: Iterable[Images]) -> None:
        self._batches, self._rest = iter(batches), deque[Images]()

    def read(self, most: int) -> Images | None:
        """The next images of one batch, at most `most`, starting with those given back. None at the end."""
        images = self._rest.popleft() if self._rest else next(self._batches, None)
        if images is not None and len(images.keys) > most:
            self._rest.appendleft(images.part(most, None))
            return images.part(0, most)
        return images

    def read_ahead(self) -> None:
        """Fetch the next batch before it is asked for, unless images are left."""
        if not self._rest and (images := next(self._batches, None)) is not None:
            self._rest.append(images)

    def give_back(self, images: Sequence[Images]) -> None:
        """Put these before all others, in this order."""
        self._rest.extendleft(reversed(images))
