"""The vision tower compiled by `torch.compile`, once a run has proved long enough to pay for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Tower = Callable[["torch.Tensor"], "torch.Tensor"]

# Compiling takes about a minute and saves perhaps a tenth, so it pays for itself in ten minutes. How many pictures are
# still to come is not known here; but who waits until as much time has gone by loses at most a tenth if the run then
# ends, whatever the card.
SECONDS = 600


class CompiledInTime:
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
            # A shape at a time: kernels for any number of pictures would be slower.
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
