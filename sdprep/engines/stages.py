"""The stages between an image and a prediction: decode ahead in threads, batch, predict."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import takewhile

import numpy as np

from sdprep.errors import starting_threads
from sdprep.images.decoder import failure_of
from sdprep.models.base import Model
from sdprep.report import CancelToken
from sdprep.types import (
    Batch,
    Decoded,
    Failure,
    FailureCode,
    ImageItem,
    ImageWarning,
    NoAnswer,
    Predicted,
    Prediction,
    TagScores,
)

Decode = Callable[[ImageItem], Decoded | Failure]


def contained(decode: Decode) -> Decode:
    """The same decoding, of which no exception about an image comes out: each becomes the failure of that image."""

    def within(item: ImageItem) -> Decoded | Failure:
        try:
            return decode(item)
        except BaseException as error:  # noqa: BLE001 - what is no fault of the image is raised again
            return failure_of(item, error)

    return within


def decode_ahead(items: Iterable[ImageItem], decode: Decode, workers: int, ahead: int) -> Iterator[Decoded | Failure]:
    """Decode in `workers` threads, at most `ahead` images before the consumer, in the order of the items.

    Pillow releases the interpreter's lock while it decodes and resizes. With no workers, the caller's thread decodes.
    """
    if workers == 0:
        yield from map(decode, items)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    waiting: deque[Future[Decoded | Failure]] = deque()
    try:
        for item in items:
            with starting_threads():
                waiting.append(pool.submit(decode, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def batched(decoded: Iterable[Decoded], size: int, *, keep_shapes: bool = False) -> Iterator[Batch]:
    """Batches of up to `size` images, keyed by their items; with `keep_shapes` they need not be of one size."""
    held: list[Decoded] = []
    for image in decoded:
        held.append(image)
        if len(held) == size:
            yield _batch(held, keep_shapes=keep_shapes)
            held = []
    if held:
        yield _batch(held, keep_shapes=keep_shapes)


def _batch(decoded: list[Decoded], *, keep_shapes: bool) -> Batch:
    keys, digests = tuple(image.item for image in decoded), tuple(image.digest for image in decoded)
    pixels = tuple(image.pixels for image in decoded)
    return Batch(keys, digests, pixels if keep_shapes else np.stack(pixels), tuple(item.prompt for item in keys))


def predict(
    decoded: Iterable[Decoded | Failure], model: Model, batch_size: int, stop: CancelToken
) -> Iterator[Predicted | Failure]:
    """Run a model over decoded images; failures pass by the model and keep flowing.

    After a wish to stop, the model is given no further batch.
    """
    failures: deque[Failure] = deque()
    shown: dict[ImageItem, tuple[bytes, tuple[ImageWarning, ...], tuple[int, int] | None]] = {}

    def good() -> Iterator[Decoded]:
        for image in decoded:
            if isinstance(image, Failure):
                failures.append(image)
            else:
                shown[image.item] = (image.digest, image.warnings, image.size)
                yield image

    keep_shapes = model.fit.mode == "inside"
    batches = takewhile(lambda _: not stop, batched(good(), batch_size, keep_shapes=keep_shapes))
    for key, prediction in model.predict(batches):
        while failures:
            yield failures.popleft()
        if not isinstance(key, ImageItem):
            raise TypeError(f"the model answered under a key that it was never given: {key!r}")
        digest, warnings, size = shown.pop(key)
        yield checked(key, digest, prediction, warnings, size)
    yield from failures


def checked(
    item: ImageItem,
    digest: bytes,
    prediction: Prediction,
    warnings: tuple[ImageWarning, ...] = (),
    size: tuple[int, int] | None = None,
) -> Predicted | Failure:
    """A prediction, or a failure if the model has no answer, or anything but numbers (`nonfinite`)."""
    if isinstance(prediction, NoAnswer):
        return Failure(item, prediction.code, prediction.message, digest)
    values = prediction.scores if isinstance(prediction, TagScores) else prediction.score
    if values is not None and not np.isfinite(values).all():
        return Failure(item, FailureCode.NONFINITE, "the model answered with NaN or infinity", digest)
    return Predicted(item, digest, prediction, warnings, size)
