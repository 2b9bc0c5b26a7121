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
    """The outcome of every item that was begun; after a wish to stop, no further item is."""
    ahead = max(1, min(max(2 * workers, 2 * batch_size), QUEUE_BYTES // (3 * model.fit.size**2)))
    pictures = decode_ahead(_until(items, stop), partial(decode, fit=model.fit), workers, ahead)
    yield from predict(pictures, model, batch_size)


def _until(items: Iterable[ImageItem], stop: Stop) -> Iterator[ImageItem]:
    for item in items:
        if stop:
            return
        yield item
