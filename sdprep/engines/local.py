"""The engine of one machine: the pipeline in this process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from sdprep.data.image import decode
from sdprep.models.base import Model
from sdprep.pipeline import QUEUE_BYTES, decode_ahead, predict
from sdprep.types import Failure, ImageItem, Predicted, Stop


def run(
    items: Iterable[ImageItem], model: Model, *, batch_size: int, workers: int, stop: Stop
) -> Iterator[Predicted | Failure]:
    """The outcome of every item that was reached; after a wish to stop, the batch in hand is the last."""
    ahead = max(1, min(2 * max(workers, batch_size), QUEUE_BYTES // (3 * model.fit.size**2)))
    pictures = decode_ahead(items, partial(decode, fit=model.fit), workers, ahead)
    return predict(pictures, model, batch_size, stop)
