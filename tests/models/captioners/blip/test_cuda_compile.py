"""The vision tower compiled: when, for which batches, with which numbers, and what happens if it cannot be."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from sdprep.models.captioners.blip.cuda import COMPILE_AFTER, LazyCompile
from sdprep.models.captioners.blip.layers import LinearLayer
from sdprep.models.captioners.blip.network import VisionTower
from sdprep.models.captioners.blip.weights import take_weights
from tests.models.captioners.blip.blip_models import images, one_thread, small_blip


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    with one_thread():
        yield


class Clock:
    """A clock that somebody else moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Compiler:
    """A backend that runs what it compiles as it is, and notes for how many images that was."""

    def __init__(self) -> None:
        self.compiled: list[int] = []

    def __call__(self, graph: Any, inputs: Any) -> Any:
        self.compiled.append(next(each.shape[0] for each in inputs if each.shape[1:] == (3, 96, 96)))
        return graph.forward


def tower() -> VisionTower:
    return VisionTower(take_weights(small_blip(), "5.23.0").vision, LinearLayer)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def compiler() -> Iterator[Compiler]:
    torch.compiler.reset()
    yield Compiler()
    torch.compiler.reset()


def look(compiled: LazyCompile, count: int) -> torch.Tensor:
    with torch.inference_mode():
        return compiled(images(count))


def test_a_tower_is_compiled_when_it_has_worked_long_enough(clock: Clock, compiler: Compiler) -> None:
    compiled = LazyCompile(tower(), [].append, backend=compiler, clock=clock)
    for clock.now in (0.0, COMPILE_AFTER - 1.0):
        look(compiled, 2)
    assert compiler.compiled == []
    for clock.now in (COMPILE_AFTER + 0.0, COMPILE_AFTER + 1.0, COMPILE_AFTER + 2.0):
        look(compiled, 2)
    assert compiler.compiled == [2]


def test_batches_of_a_size_that_comes_seldom_are_left_alone(clock: Clock, compiler: Compiler) -> None:
    compiled = LazyCompile(tower(), [].append, backend=compiler, clock=clock)
    look(compiled, 1)
    clock.now = 1.0
    for clock.now in (1.0, COMPILE_AFTER * 2.0):
        look(compiled, 3)
    look(compiled, 1)
    assert compiler.compiled == [3]


def test_a_size_that_a_lack_of_memory_brings_is_compiled_in_its_time(clock: Clock, compiler: Compiler) -> None:
    compiled = LazyCompile(tower(), [].append, backend=compiler, clock=clock)
    for clock.now in (0.0, 1.0 * COMPILE_AFTER):
        look(compiled, 4)
    for clock.now in (1.0 * COMPILE_AFTER, 2.0 * COMPILE_AFTER):
        look(compiled, 2)
    assert compiler.compiled == [4, 2]


def test_a_compiled_tower_gives_the_same_numbers(clock: Clock) -> None:
    said: list[str] = []
    # All of torch's compiler but its last stage, which wants a C compiler.
    compiled = LazyCompile(tower(), said.append, backend="aot_eager", clock=clock)
    before = look(compiled, 2)
    clock.now = COMPILE_AFTER + 1.0
    assert torch.allclose(look(compiled, 2), before, atol=1e-4)
    assert said == ["compiling the vision tower for batches of 2, which takes about a minute"]


def test_a_tower_that_cannot_be_compiled_goes_on_as_it_is_and_says_so_once(clock: Clock) -> None:
    torch.compiler.reset()
    asked = 0

    def broken(graph: Any, inputs: Any) -> Any:
        nonlocal asked
        asked += 1
        raise RuntimeError("Failed to find C compiler.\nPlease specify one.")

    said: list[str] = []
    compiled = LazyCompile(tower(), said.append, backend=broken, clock=clock)
    before = look(compiled, 2)
    for clock.now in (COMPILE_AFTER + 1.0, COMPILE_AFTER + 2.0):
        assert torch.equal(look(compiled, 2), before)
    assert asked == 1
    assert said[1:] == [
        "continuing with a vision tower that is not compiled, which is slower: Failed to find C compiler."
    ]
