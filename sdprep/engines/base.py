"""What an engine is to a task: a loaded model, wherever it runs, and all that is needed to open it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from sdprep.models.base import ModelFiles, ModelSpec, import_named
from sdprep.models.captioners.generation import CaptionOptions
from sdprep.models.execution import Execution
from sdprep.report import CancelToken, StageTime
from sdprep.types import MAX_PIXELS, Failure, ImageItem, Result

# The function that decodes an image for a model, or returns the failure of that image.
DECODE = "sdprep.images.decode:decode"
# A worker process for each device, or this process alone. Named and not imported: a process with workers decodes
# nothing, so it loads neither numpy nor Pillow.
WORKERS = "sdprep.engines.pool:WorkerPool"
INLINE = "sdprep.engines.runner:StageRunner"


class Engine(Protocol):
    """A model that is ready, and what runs it; `timings` are of the last run, empty unless they were asked for."""

    provider: str
    timings: dict[str, StageTime]

    def run(self, items: Sequence[ImageItem], cancel: CancelToken) -> Iterator[Result | Failure]:
        """The outcome of every item that was reached; once cancelled, the current batch is the last."""

    def close(self) -> None:
        """Free the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeOptions:
    """How images are decoded for a model: limits, and the function that does it.

    `memory` is in MB, for images in flight. `image_timeout` is in seconds; only an engine with workers can enforce it.
    """

    memory: int = 512
    image_timeout: float = 60.0
    max_pixels: int = MAX_PIXELS
    allow_truncated: bool = False
    exact: bool = False
    function: str = field(default_factory=lambda: DECODE)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """All that is needed to open a model and show it images. `captions` is for captioners, `engine` names a class.

    A run ends when more than `most_deaths` workers have died; without it, when more die than images explain.
    """

    spec: ModelSpec
    files: ModelFiles
    execution: Execution = Execution()
    decode: DecodeOptions = field(default_factory=DecodeOptions)
    captions: CaptionOptions | None = None
    engine: str = WORKERS
    timings: bool = False
    most_deaths: int | None = None


@contextmanager
def open_engine(
    config: EngineConfig, note: Callable[[str], None], *, sharers: int = 1, most_deaths: int | None = None
) -> Iterator[Engine]:
    """The engine of a configuration, with the model loaded.

    So many engines as `sharers` share this machine, and each takes its part of the threads and of the memory for
    images. `most_deaths` is that of the configuration.
    It calls `note` with what the user should know about the model, then and while it runs.
    Raises SdprepError if the model cannot be opened; every engine raises the same.
    """
    execution = replace(config.execution, num_processes=sharers)
    config = replace(config, execution=execution, most_deaths=most_deaths)
    engine: Engine = import_named(config.engine)(config, note)
    try:
        yield engine
    finally:
        engine.close()
