"""What runs on CUDA with `--cuda-graphs` only: recorded decoder steps, overlapped copies, a compiled vision tower.

A recorded step knows addresses, not values. So everything it reads and writes stays in the same tensors, and sequences
are added and removed between two steps. A step must run once before it is recorded, because libraries initialise
themselves at first use, which cannot be recorded.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch


Step = Callable[[], None]
# Takes a step and returns what replays it.
Capture = Callable[[Step], Step]


class StepShape(NamedTuple):
    """How much of a step's tensors is in use, which fixes the shapes of all that it computes.

    `images` with `each` rows of queries; `groups` of sequences; `longest`, the positions of the cache.
    """

    images: int
    each: int
    groups: int
    longest: int


def bucket(images: int, capacity: int) -> int:
    """The slots of a recorded step for so many images: a power of two, or all of them.

    So there are few recordings, and at most half of the slots of a step are idle.
    """
    return min(capacity, 1 << (images - 1).bit_length())


class RecordedSteps:
    """Runs steps over one set of tensors: the first of a shape as it is, then recorded and replayed."""

    def __init__(self, capturer: GraphCapturer) -> None:
        self._capturer = capturer
        self._recorded: dict[StepShape, Step | None] = {}

    def run(self, shape: StepShape, step: Step) -> None:
        """Run a step of this shape. All steps of a shape must be the same function of the tensors' contents."""
        if shape not in self._recorded:
            step()
            self._recorded[shape] = None
            return
        replay = self._recorded[shape]
        if replay is None:
            replay = self._recorded[shape] = self._capturer.record(step)
        replay()


class GraphCapturer:
    """Records steps with `capture`. After a failure, which is passed to `note`, steps run as they are."""

    def __init__(self, capture: Capture, note: Callable[[str], None]) -> None:
        self.active = True
        self._capture, self._note = capture, note

    def record(self, step: Step) -> Step:
        """What runs the step. Raises OutOfMemoryError if memory runs out."""
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
        """Stop recording and report why."""
        self.active = False
        self._note(f"continuing without CUDA graphs, which is slower: {reason}")


class CudaCapture:
    """Captures steps as CUDA graphs of a device.

    The graphs share one memory pool, as large as the largest of them needs, because none keeps anything there.
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
            # torch's own capture stream belongs to the first device that captured.
            own = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            with torch.cuda.graph(graph, pool=self._pool, stream=own):
                step()
        replay: Step = graph.replay
        return replay


class CopyStream:
    """Copies batches to a CUDA device on a stream of its own, beside the device's other work.

    It uses two pinned buffers in turn: one is filled while the device still copies from the other.
    """

    def __init__(self, device: torch.device) -> None:
        import torch

        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._buffers: list[torch.Tensor | None] = [None, None]
        # Events at the end of the last copy from each buffer.
        self._copied: list[Any] = [None, None]
        self._turn = 0

    def send(self, pixels: torch.Tensor) -> torch.Tensor:
        """The same pixels, uint8[n, ...], on the device; the given tensor may be overwritten at once."""
        turn, self._turn = self._turn, 1 - self._turn
        buffer, copied = self._buffers[turn], self._copied[turn]
        if copied is not None:
            copied.synchronize()
        if buffer is None or len(buffer) < len(pixels):
            buffer = self._buffers[turn] = self._new_buffer(pixels)
        sent, self._copied[turn] = self._copy(buffer[: len(pixels)].copy_(pixels))
        return sent

    def _new_buffer(self, like: torch.Tensor) -> torch.Tensor:
        import torch

        return torch.empty_like(like, pin_memory=True)

    def _copy(self, pixels: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """Pixels on the device, for work that is queued from now on, and an event at the end of the copy."""
        import torch

        work = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._stream):
            sent = pixels.to(self._device, non_blocking=True)
            copied = self._stream.record_event()
        work.wait_event(copied)
        # Otherwise the copy stream could reuse the memory for another tensor while the work still reads it.
        sent.record_stream(work)
        return sent, copied


Tower = Callable[["torch.Tensor"], "torch.Tensor"]

# Compiling takes about a minute and saves perhaps a tenth, so it pays off after ten minutes. Nobody knows here how many
# images are left, but by waiting as long, a run that ends right after compiling loses at most a tenth on any GPU.
COMPILE_AFTER = 600


class LazyCompile:
    """A vision tower that is compiled for a batch size once batches of that size took `COMPILE_AFTER` seconds.

    The time between two batches counts for the first of them. A tower that cannot be compiled continues as it is,
    which is passed to `note`.
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
        self._announced = set[int]()

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        import torch

        if not self._is_due(len(pixels)) or self._failed:
            return self._tower(pixels)
        if len(pixels) not in self._announced:
            self._announced.add(len(pixels))
            self._note(f"compiling the vision tower for batches of {len(pixels)}, which takes about a minute")
        try:
            # One shape at a time: kernels for any number of images would be slower.
            self._compiled = self._compiled or torch.compile(self._tower, dynamic=False, backend=self._backend)
            return self._compiled(pixels)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ImportError) as error:
            self._failed = True
            # torch's own message only says that there was an error; the inner one says which.
            reason = str(getattr(error, "inner_exception", error)).partition("\n")[0]
            self._note(f"continuing with a vision tower that is not compiled, which is slower: {reason}")
            return self._tower(pixels)

    def _is_due(self, size: int) -> bool:
        now = self._clock()
        if self._last is not None:
            before, since = self._last
            self._spent[before] = self._spent.get(before, 0.0) + now - since
        self._last = size, now
        return self._spent.get(size, 0.0) >= COMPILE_AFTER
