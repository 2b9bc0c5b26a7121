"""Pixels on their way to a card: whole, in order, from buffers that are filled again only when free."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sdprep.models.base import ImageSpec
from sdprep.models.captioners.blip.cuda import DoubleBuffer
from sdprep.models.captioners.blip.images import Normalizer
from sdprep.types import Batch


class LateCopy:
    """A copy that happens at the last moment that is allowed: when somebody waits for it, or looks at what came."""

    def __init__(self, source: torch.Tensor) -> None:
        self._source, self._happened = source, False
        self.target = torch.zeros_like(source)

    def synchronize(self) -> None:
        if not self._happened:
            self.target.copy_(self._source)
        self._happened = True


class LateLane:
    """A lane to a card that takes its time."""

    def __init__(self) -> None:
        self.buffers: list[torch.Tensor] = []
        self.copies: list[LateCopy] = []

    def buffer(self, like: torch.Tensor) -> torch.Tensor:
        self.buffers.append(torch.empty_like(like))
        return self.buffers[-1]

    def send(self, pixels: torch.Tensor) -> tuple[torch.Tensor, LateCopy]:
        copy = LateCopy(pixels)
        self.copies.append(copy)
        return copy.target, copy

    def arrive(self) -> None:
        """Everything that is under way."""
        for copy in self.copies:
            copy.synchronize()


def batches(*sizes: int) -> list[torch.Tensor]:
    noise = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (size, 8, 8, 3), dtype=torch.uint8, generator=noise) for size in sizes]


def test_every_batch_arrives_whole_and_in_its_order_however_late() -> None:
    lane, given = LateLane(), batches(4, 4, 4, 4, 2)
    sender = DoubleBuffer(lane)
    sent = [sender.send(each) for each in given]
    lane.arrive()
    assert all(torch.equal(*pair) for pair in zip(sent, given, strict=True))


def test_pixels_may_change_as_soon_as_they_were_given() -> None:
    lane, [given] = LateLane(), batches(3)
    before = given.clone()
    sent = DoubleBuffer(lane).send(given)
    given.zero_()
    lane.arrive()
    assert torch.equal(sent, before)


def test_two_copies_may_be_under_way_and_the_third_waits_for_the_first() -> None:
    lane = LateLane()
    sender = DoubleBuffer(lane)
    happened = []
    for each in batches(2, 2, 2, 2):
        sender.send(each)
        happened.append([copy._happened for copy in lane.copies])
    assert happened == [[False], [False, False], [True, False, False], [True, True, False, False]]


@pytest.mark.parametrize(("sizes", "buffers"), [((4, 4, 4, 3, 1), [4, 4]), ((1, 4, 4, 4), [1, 4, 4])])
def test_there_are_two_buffers_which_only_grow(sizes: tuple[int, ...], buffers: list[int]) -> None:
    lane = LateLane()
    sender = DoubleBuffer(lane)
    for each in batches(*sizes):
        sender.send(each)
    assert [len(each) for each in lane.buffers] == buffers


def prepared(batch: Batch, **changes: Any) -> torch.Tensor:
    image = ImageSpec(fit="squash", mean=(0.5, 0.25, 0.0), std=(0.5, 1.0, 2.0), **changes)
    return Normalizer(image, torch.device("cpu"), torch.float32)(batch).pixels


def test_the_mean_goes_and_the_deviation_divides_channel_by_channel() -> None:
    pixels = np.full((1, 2, 2, 3), 255, dtype=np.uint8)
    values = prepared(Batch(("a",), (b"",), pixels))
    assert values.shape == (1, 3, 2, 2)
    assert values[0, :, 0, 0].tolist() == [1.0, 0.75, 0.5]


class Copies(TorchDispatchMode):
    """Notes what makes bytes that were not there before."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if made.dtype == torch.uint8 and made.untyped_storage().data_ptr() != args[0].untyped_storage().data_ptr():
            self.seen.append(str(func))
        return made


def test_on_a_processor_pixels_are_not_copied_on_the_way() -> None:
    batch, copies = Batch(("a",), (b"",), np.zeros((1, 2, 2, 3), dtype=np.uint8)), Copies()
    with copies:
        prepared(batch)
        assert copies.seen == []
        torch.from_numpy(batch.pixels).clone()
    assert copies.seen == ["aten.clone.default"]
