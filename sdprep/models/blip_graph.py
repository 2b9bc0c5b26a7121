"""Steps of fixed shape, recorded once as CUDA graphs and repeated: a launch for a whole step, not for every kernel.

A recorded step knows addresses, not values. So whatever it reads and writes lies in tensors that stay where they are,
and texts join and leave between two steps. What was not recorded yet must first run as it is, for libraries set
themselves up at first use, which no recording bears.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

Step = Callable[[], None]
# Takes a step, which it does not run, and gives what runs it.
Capture = Callable[[Step], Step]


class Extent(NamedTuple):
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

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._recorded: dict[Extent, Step | None] = {}

    def run(self, extent: Extent, step: Step) -> None:
        """Run a step of this extent. All steps of an extent must be the same function of the tensors' contents."""
        if extent not in self._recorded:
            step()
            self._recorded[extent] = None
            return
        recorded = self._recorded[extent]
        if recorded is None:
            recorded = self._recorded[extent] = self._recorder.record(step)
        recorded()


class Recorder:
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
