"""What a tagger's graph says of its input, and pixels as it wants them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sdprep.errors import ModelError

if TYPE_CHECKING:
    import numpy.typing as npt

    from sdprep.types import Pixels


@dataclass(frozen=True, slots=True)
class GraphInput:
    """The input of a graph: a fixed batch (None: any), whether channels come first, the side of the square."""

    batch: int | None
    channels_first: bool
    size: int

    @classmethod
    def of(cls, shape: Sequence[Any], path: object) -> GraphInput:
        """Read a shape of four dimensions. Raises ModelError if it is no batch of square RGB pictures."""
        if len(shape) == 4:
            batch = shape[0] if isinstance(shape[0], int) else None
            if shape[3] == 3 and shape[1] == shape[2] and isinstance(shape[1], int):
                return cls(batch, False, shape[1])
            if shape[1] == 3 and shape[2] == shape[3] and isinstance(shape[2], int):
                return cls(batch, True, shape[2])
        raise ModelError(f"{path} takes an input of shape {list(shape)}, which is no batch of square RGB pictures")

    def feed(self, pixels: Pixels, channels: str) -> npt.NDArray[np.float32]:
        """Pixels, uint8[n, H, W, 3] in RGB, as float32 from 0 to 255 in the order and layout of the graph.

        A short batch is filled up with its last picture where the graph fixes the batch.
        """
        if self.batch and len(pixels) < self.batch:
            pixels = np.concatenate([pixels, np.repeat(pixels[-1:], self.batch - len(pixels), axis=0)])
        if channels == "bgr":
            pixels = pixels[..., ::-1]
        if self.channels_first:
            pixels = pixels.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(pixels, dtype=np.float32)
