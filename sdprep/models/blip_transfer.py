"""Pixels on their way to a card, while the card works on those before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch


class Event(Protocol):
    """A point in a card's work."""

    def synchronize(self) -> None:
        """Wait until the card has come to it."""


class Lane(Protocol):
    """What copies to a card beside the card's other work."""

    def buffer(self, like: torch.Tensor) -> torch.Tensor:
        """Memory of the same shape from which the card copies by itself."""

    def send(self, pixels: torch.Tensor) -> tuple[torch.Tensor, Event]:
        """The same pixels on the card, for work that is asked of it from now on, and when they are all there."""


class CudaLane:
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

    def __init__(self, lane: Lane) -> None:
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
