"""What stands for a card where there is none: steps recorded on a processor, and a watch over what a step does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from sdprep.models.captioners.blip.cuda import GraphCapturer, Step
from sdprep.models.captioners.blip.network import BlipNetwork
from sdprep.models.captioners.blip.weights import take_weights
from tests.models.captioners.blip.blip_models import small_blip


class Tape(TorchDispatchMode):
    """Writes down every operation with its tensors and numbers; can repeat them without the code that asked for them.

    This is what a CUDA graph does: what Python knew at the time of the recording is repeated as it was.
    """

    def __init__(self) -> None:
        super().__init__()
        self._operations: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self._operations.append((func, args, kwargs or {}, made))
        return made

    def repeat(self) -> None:
        """All of it once more, over the same tensors."""
        now: dict[int, torch.Tensor] = {}
        with torch.inference_mode():
            for func, args, kwargs, made in self._operations:
                args, kwargs = tree_map_only(torch.Tensor, lambda each: now.get(id(each), each), (args, kwargs))
                for old, new in zip(tensors(made), tensors(func(*args, **kwargs)), strict=True):
                    now[id(old)] = new


def tensors(made: Any) -> list[torch.Tensor]:
    parts = made if isinstance(made, tuple | list) else [made]
    return [each for each in parts if isinstance(each, torch.Tensor)]


def on_tape(step: Step) -> Step:
    """A capture for processors. The step runs while it is recorded, so its first repetition has happened already."""
    tape, ran = Tape(), True
    with tape:
        step()

    def repeat() -> None:
        nonlocal ran
        if not ran:
            tape.repeat()
        ran = False

    return repeat


def recording_network(
    absorbed: bool = True, capture: Callable[[Step], Step] = on_tape, said: list[str] | None = None
) -> BlipNetwork:
    """The small model, with a recorder as on a card."""
    network = BlipNetwork(take_weights(small_blip(), "5.23.0"), absorbed=absorbed)
    network.capturer = GraphCapturer(capture, (said if said is not None else []).append)
    return network


class HostTensorError(Exception):
    """A tensor was taken from the host, or brought there."""


class _NothingCrosses(TorchDispatchMode):
    """Raises where a tensor goes from one device to another, which waits for the host.

    With tensors on torch's meta device, which have no contents, whatever needs contents raises too: a number that is
    read, a shape that depends on them. What is left is what a CUDA graph can hold.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        given = [each for arg in args for each in tensors(arg)]
        if len({each.device.type for each in [*given, *tensors(made)]}) > 1:
            raise HostTensorError(str(func))
        return made


@contextmanager
def as_captured() -> Iterator[None]:
    """What runs here may do only what a CUDA graph can hold; its tensors are on the meta device."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise HostTensorError("torch.tensor")

    # On the meta device a list makes a tensor without an operation that could be watched.
    with mock.patch.object(torch, "tensor", refuse), mock.patch.object(torch, "as_tensor", refuse), _NothingCrosses():
        yield
