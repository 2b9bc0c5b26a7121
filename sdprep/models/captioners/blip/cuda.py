"""What runs only on CUDA: steps recorded as graphs, copies beside the work, a vision tower compiled in long runs.

A recorded step knows addresses, not values. So whatever it reads and writes stays in the same tensors, and texts join
and leave between two steps. A step must first run unrecorded, since libraries initialise themselves at first use, which
cannot be recorded.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import torch


Step = Callable[[], None]
# Takes a step, which it does not run, and gives what runs it.
Capture = Callable[[Step], Step]


class StepShape(NamedTuple):
    """How much of the tensors of a step is in use: what fixes the shapes of all that it computes.

    `images` looked at, with `each` rows of queries; `groups` of texts; `longest`, the positions of the cache.
    """

    images: int
    each: int
    groups: int
    longest: int


def bucket(images: int, capacity: int) -> int:
    """The places of a recorded step for so many images: a power of two, or all that there are.

    So the recordings are few, and no more than half of the places of a step are idle.
    """
    return min(capacity, 1 << (images - 1).bit_length())


class RecordedSteps:
    """Runs steps over one set of tensors: as they are at the first of an extent, recorded from the second on."""

    def __init__(self, recorder: GraphCapturer) -> None:
        self._recorder = recorder
        self._recorded: dict[StepShape, Step | None] = {}

    def run(self, extent: StepShape, step: Step) -> None:
        """Run a step of this extent. All steps of an extent must be the same function of the tensors' contents."""
        if extent not in self._recorded:
            step()
            self._recorded[extent] = None
            return
        recorded = self._recorded[extent]
        if recorded is None:
            recorded = self._recorded[extent] = self._recorder.record(step)
        recorded()


class GraphCapturer:
    """Records steps by `capture`; after one that fails, which is told to `note`, steps stay as they are."""

    def __init__(self, capture: Capture, note: Callable[[str], None]) -> None:
        self.active = True
        self._capture, self._note = capture, note

    def record(self, step: Step) -> Step:
        """What runs the step. Raises OutOfMemoryError if the memory does not suffice."""
        import torch

        if not self.active:
            return step
        try:
            return self._capture(step)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self.stop(str(error).partition("\n")[0])
            return step

    def stop(self, reason: str) -> None:
        """Record no more, and say why."""
        self.active = False
        self._note(f"going on without CUDA graphs, which is slower: {reason}")


class CudaCapture:
    """Captures steps as CUDA graphs of a device.

    They share one pool of memory, no larger than the largest of them needs, for none leaves anything there.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool: Any = None

    def __call__(self, step: Step) -> Step:
        import torch

        with torch.cuda.device(self._device):
            if self._pool is None:
                self._pool = torch.cuda.graph_pool_handle()
            graph = torch.cuda.CUDAGraph()
            # torch's own stream for captures belongs to whatever device was the first to capture.
            own = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            with torch.cuda.graph(graph, pool=self._pool, stream=own):
                step()
        replay: Step = graph.replay
        return replay


class Event(Protocol):
    """A point in a card's work."""

    def synchronize(self) -> None:
        """Wait until the card has come to it."""


class CopyStream(Protocol):
    """What copies to a card beside the card's other work."""

    def buffer(self, like: torch.Tensor) -> torch.Tensor:
        """Memory of the same shape from which the card copies by itself."""

    def send(self, pixels: torch.Tensor) -> tuple[torch.Tensor, Event]:
        """The same pixels on the card, for work that is asked of it from now on, and when they are all there."""


class CudaCopyStream:
    """Copies to a CUDA device from pinned memory, on a stream of its own."""

    def __init__(self, device: torch.device) -> None:
        import torch

        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def buffer(self, like: torch.Tensor) -> torch.Tensor:
        import torch

        return torch.empty_like(like, pin_memory=True)

    def send(self, pixels: torch.Tensor) -> tuple[torch.Tensor, Event]:
        import torch

        work = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._stream):
            sent = pixels.to(self._device, non_blocking=True)
            there = self._stream.record_event()
        work.wait_event(there)
        # Else the memory could be given to another tensor of the copying stream while the work still reads it.
        sent.record_stream(work)
        return sent, there


class DoubleBuffer:
    """Sends batches through two buffers in turn: one is filled while the card still copies from the other."""

    def __init__(self, lane: CopyStream) -> None:
        self._lane = lane
        self._buffers: list[torch.Tensor | None] = [None, None]
        self._copied: list[Event | None] = [None, None]
        self._turn = 0

    def send(self, pixels: torch.Tensor) -> torch.Tensor:
        """The same pixels, uint8[n, ...], on the card; those given may be written to at once."""
        turn, self._turn = self._turn, 1 - self._turn
        buffer, copied = self._buffers[turn], self._copied[turn]
        if copied is not None:
            copied.synchronize()
        if buffer is None or len(buffer) < len(pixels):
            buffer = self._buffers[turn] = self._lane.buffer(pixels)
        filled = buffer[: len(pixels)].copy_(pixels)
        sent, self._copied[turn] = self._lane.send(filled)
        return sent


Tower = Callable[["torch.Tensor"], "torch.Tensor"]

# Compiling takes about a minute and saves perhaps a tenth, so it pays for itself in ten minutes. How many images are
# still to come is not known here; but who waits until as much time has gone by loses at most a tenth if the run then
# ends, whatever the card.
SECONDS = 600


class LazyCompile:
    """A vision tower that is compiled for a size of batch when `SECONDS` have gone by after batches of that size.

    The time from one batch to the next counts for the first of them. A tower that cannot be compiled goes on as it is,
    which is told to `note`.
    """

    def __init__(
        self,
        tower: Tower,
        note: Callable[[str], None],
        *,
        backend: str | Callable[..., Any] = "inductor",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tower, self._note, self._backend, self._clock = tower, note, backend, clock
        self._spent: dict[int, float] = {}
        self._last: tuple[int, float] | None = None
        self._compiled: Tower | None = None
        self._failed = False

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        import torch

        if not self._has_worked(len(pixels)) or self._failed:
            return self._tower(pixels)
        try:
            # A shape at a time: kernels for any number of images would be slower.
            self._compiled = self._compiled or torch.compile(self._tower, dynamic=False, backend=self._backend)
            return self._compiled(pixels)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ImportError) as error:
            self._failed = True
            # torch says first that there was an error, and only then which one.
            reason = str(getattr(error, "inner_exception", error)).partition("\n")[0]
            self._note(f"going on with a vision tower that is not compiled, which is slower: {reason}")
            return self._tower(pixels)

    def _has_worked(self, size: int) -> bool:
        now = self._clock()
        if self._last is not None:
            before, since = self._last
            self._spent[before] = self._spent.get(before, 0.0) + now - since
        self._last = size, now
        return self._spent.get(size, 0.0) >= SECONDS
