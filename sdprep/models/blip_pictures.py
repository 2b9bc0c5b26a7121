"""Pictures as the network takes them, and where the decode loop reads them."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch


class Pictures(NamedTuple):
    """Images for the network: `pixels` is normalised [n, 3, H, W]; `digests` seed the random streams of samples."""

    keys: tuple[Hashable, ...]
    digests: tuple[bytes, ...]
    pixels: torch.Tensor

    def part(self, start: int, stop: int | None) -> Pictures:
        """Some of them."""
        return Pictures(self.keys[start:stop], self.digests[start:stop], self.pixels[start:stop])


class PictureSource:
    """Batches that can be read in smaller parts, and to which pictures can be given back."""

    def __init__(self, batches: Iterable[Pictures]) -> None:
        self._batches, self._rest = iter(batches), deque[Pictures]()

    def read(self, most: int) -> Pictures | None:
        """The next pictures, of one batch; those that were given back come first. None at the end."""
        pictures = self._rest.popleft() if self._rest else next(self._batches, None)
        if pictures is not None and len(pictures.keys) > most:
            self._rest.appendleft(pictures.part(most, None))
            return pictures.part(0, most)
        return pictures

    def read_ahead(self) -> None:
        """Fetch a batch before it is asked for, unless one is there."""
        if not self._rest and (pictures := next(self._batches, None)) is not None:
            self._rest.append(pictures)

    def give_back(self, pictures: Sequence[Pictures]) -> None:
        """Put these before all others, in this order."""
        self._rest.extendleft(reversed(pictures))
