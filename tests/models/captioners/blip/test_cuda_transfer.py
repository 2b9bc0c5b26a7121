"""Copies of pixels to a GPU: complete, in order, from buffers that are only filled again when free."""

from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sdprep.models.base import ImageSpec
from sdprep.models.captioners.blip.cuda import CopyStream
from sdprep.models.captioners.blip.images import Normalizer
from sdprep.types import Batch


class LateCopy:
    """A copy that happens as late as allowed: when something waits for it."""

    def __init__(self, source: torch.Tensor) -> None:
        self._source, self._happened = source, False
        self.target = torch.zeros_like(source)

    def synchronize(self) -> None:
        if not self._happened:
            self.target.copy_(self._source)
        self._happened = True


class LateStream(CopyStream):
    """A copy stream to a slow device."""

    def __init__(self) -> None:
        with mock.patch("torch.cuda.Stream"):
            super().__init__(torch.device("cuda"))
        self.buffers: list[torch.Tensor] = []
        self.copies: list[LateCopy] = []

    def _new_buffer(self, like: torch.Tensor) -> torch.Tensor:
        self.buffers.append(torch.empty_like(like))
        return self.buffers[-1]

    def _copy(self, pixels: torch.Tensor) -> tuple[torch.Tensor, LateCopy]:
        copy = LateCopy(pixels)
        self.copies.append(copy)
        return copy.target, copy

    def finish(self) -> None:
        """Complete all copies."""
        for copy in self.copies:
            copy.synchronize()


def batches(*sizes: int) -> list[torch.Tensor]:
    noise = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (size, 8, 8, 3), dtype=torch.uint8, generator=noise) for size in sizes]


def test_every_batch_arrives_complete_and_in_order_however_late() -> None:
    stream, given = LateStream(), batches(4, 4, 4, 4, 2)
    sent = [stream.send(each) for each in given]
    stream.finish()
    assert all(torch.equal(*pair) for pair in zip(sent, given, strict=True))


def test_pixels_may_be_overwritten_as_soon_as_they_are_sent() -> None:
    stream, [given] = LateStream(), batches(3)
    before = given.clone()
    sent = stream.send(given)
    given.zero_()
    stream.finish()
    assert torch.equal(sent, before)


def test_two_copies_may_be_in_flight_and_the_third_waits_for_the_first() -> None:
    stream = LateStream()
    happened = []
    for each in batches(2, 2, 2, 2):
        stream.send(each)
        happened.append([copy._happened for copy in stream.copies])
    assert happened == [[False], [False, False], [True, False, False], [True, True, False, False]]


@pytest.mark.parametrize(("sizes", "buffers"), [((4, 4, 4, 3, 1), [4, 4]), ((1, 4, 4, 4), [1, 4, 4])])
def test_there_are_two_buffers_that_only_grow(sizes: tuple[int, ...], buffers: list[int]) -> None:
    stream = LateStream()
    for each in batches(*sizes):
        stream.send(each)
    assert [len(each) for each in stream.buffers] == buffers


def normalized(batch: Batch, **changes: Any) -> torch.Tensor:
    image = ImageSpec(fit="squash", mean=(0.5, 0.25, 0.0), std=(0.5, 1.0, 2.0), **changes)
    return Normalizer(image, torch.device("cpu"), torch.float32)(batch).pixels


def test_each_channel_loses_its_mean_and_is_divided_by_its_deviation() -> None:
    pixels = np.full((1, 2, 2, 3), 255, dtype=np.uint8)
    values = normalized(Batch(("a",), (b"",), pixels))
    assert values.shape == (1, 3, 2, 2)
    assert values[0, :, 0, 0].tolist() == [1.0, 0.75, 0.5]


class Copies(TorchDispatchMode):
    """Records the operations that make new bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if made.dtype == torch.uint8 and made.untyped_storage().data_ptr() != args[0].untyped_storage().data_ptr():
            self.seen.append(str(func))
        return made


def test_on_a_cpu_pixels_are_not_copied() -> None:
    batch, copies = Batch(("a",), (b"",), np.zeros((1, 2, 2, 3), dtype=np.uint8)), Copies()
    with copies:
        normalized(batch)
        assert copies.seen == []
        torch.from_numpy(batch.pixels).clone()
    assert copies.seen == ["aten.clone.default"]
