"""The engine of one machine: a supervised worker for each device, or the same stages in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from sdprep.config import CaptionSettings, TagSettings
from sdprep.engines.pool import WorkerPool
from sdprep.engines.protocol import EngineConfig
from sdprep.models.base import ModelFiles, ModelSpec
from sdprep.report import CancelToken
from sdprep.types import Failure, ImageItem, Result

# The function that makes an image or a failure of an image, by its module and name.
DECODE = "sdprep.images.decode:decode"


class Engine(Protocol):
    """A model that is ready, wherever it is, and what runs it."""

    provider: str

    def run(self, items: Sequence[ImageItem], stop: CancelToken) -> Iterator[Result | Failure]:
        """The outcome of every item that was reached; after a wish to stop, the batch in hand is the last."""

    def close(self) -> None:
        """Free the model."""


@contextmanager
def opened(
    spec: ModelSpec, files: ModelFiles, settings: TagSettings | CaptionSettings, note: Callable[[str], None]
) -> Iterator[Engine]:
    """An engine with the model loaded: a worker for each device, or with `workers` 0 this process.

    `note` is told what a person should know, of the model and while it works.
    Raises SdprepError where the model cannot be opened, alike for both.
    """
    order = EngineConfig(spec, files, settings, DECODE)
    engine = _inline(order, note) if settings.run.workers == 0 else WorkerPool(order, note)
    try:
        yield engine
    finally:
        engine.close()


def _inline(order: EngineConfig, note: Callable[[str], None]) -> Engine:
    # Imported here: a process with a worker decodes nothing, and so loads neither numpy nor Pillow.
    from sdprep.engines.runner import StageRunner

    return StageRunner(order, note)
