"""Recorded steps: the same captions as steps that are not, and nothing in a step that a CUDA graph cannot hold."""

from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from transformers import BlipForConditionalGeneration

from sdprep.models.captioners.blip.batch import ActiveImage, Waiting
from sdprep.models.captioners.blip.cuda import GraphCapturer, RecordedSteps, StepShape, bucket
from sdprep.models.captioners.blip.loop import CaptionEngine
from sdprep.models.captioners.blip.network import BlipNetwork, TextDecoder
from sdprep.models.captioners.blip.search import RowSearch, RowState
from sdprep.models.captioners.blip.verify import ReferenceDecoder, check_agreement
from sdprep.models.captioners.blip.weights import take_weights
from sdprep.models.captioners.generation import GenerationConfig
from tests.models.captioners.blip.blip_models import (
    SMALL_END,
    SMALL_PROMPT,
    assert_same,
    cut,
    engine,
    found,
    images,
    one_thread,
    pictures,
    small_blip,
)
from tests.models.captioners.blip.recorders import HostTensorError, as_captured, on_tape, recording_network

RULES: dict[str, Any] = {"repetition_penalty": 1.2, "no_repeat_ngram_size": 2, "bad_words": ((9,), (10, 11), (3,))}
WAYS = {
    "greedy": GenerationConfig(max_new_tokens=16),
    "3 beams": GenerationConfig(num_beams=3, max_new_tokens=16),
    "3 beams, stopping early": GenerationConfig(
        num_beams=3, max_new_tokens=16, early_stopping=True, num_return_sequences=2
    ),
    "never stopping early": GenerationConfig(num_beams=2, max_new_tokens=16, early_stopping="never"),
    "nucleus": GenerationConfig(sample=True, top_p=0.9, top_k=50, max_new_tokens=16, seed=3),
    "3 samples": GenerationConfig(sample=True, max_new_tokens=16, num_return_sequences=3, seed=5),
    "greedy with rules": GenerationConfig(max_new_tokens=16, min_new_tokens=4, **RULES),
    "beams with rules": GenerationConfig(num_beams=3, max_new_tokens=16, min_new_tokens=4, **RULES),
}
EVERY_WAY = pytest.mark.parametrize("decoding", WAYS.values(), ids=WAYS)
# Every way in both forms, at two of the three capacities; greedy, beams and samples each run at all three.
CASES = [
    pytest.param(decoding, (1, 3, 8)[(number + number // 6 + absorbed) % 3], absorbed, id=f"{way}, {form}")
    for number, (way, decoding) in enumerate(WAYS.items())
    for form, absorbed in (("absorbed", True), ("cached", False))
]


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    with one_thread():
        yield


# The same captions


@pytest.mark.parametrize(("decoding", "capacity", "absorbed"), CASES)
def test_recorded_steps_give_the_same_captions(decoding: GenerationConfig, capacity: int, absorbed: bool) -> None:
    whole = pictures(images(11))
    recorded = engine(decoding, capacity, recording_network(absorbed))
    assert_same(dict(recorded.captions(cut(whole, range(5), range(5, 6), range(6, 11)))), found(decoding, whole, 8))


def test_later_calls_repeat_what_the_first_have_recorded() -> None:
    captured = 0

    def counting(step: Callable[[], None]) -> Callable[[], None]:
        nonlocal captured
        captured += 1
        return on_tape(step)

    decoding, whole = WAYS["greedy"], pictures(images(6))
    recorded = engine(decoding, 4, recording_network(capture=counting))
    for _ in range(4):
        assert_same(dict(recorded.captions([whole])), found(decoding, whole))
    # With 1, 2 and 4 images.
    assert captured == 3


def test_a_call_that_is_left_early_does_not_disturb_the_next() -> None:
    decoding, whole = WAYS["greedy"], pictures(images(6))
    recorded = engine(decoding, 4, recording_network())
    abandoned = recorded.captions([whole])
    next(abandoned)
    assert_same(dict(recorded.captions([whole])), found(decoding, whole))
    assert len(list(abandoned)) == 5


def test_memory_that_runs_out_in_a_recording_halves_the_batch() -> None:
    calls = 0

    def short(step: Callable[[], None]) -> Callable[[], None]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return on_tape(step)

    said: list[str] = []
    decoding, whole = WAYS["greedy"], pictures(images(6))
    recorded = CaptionEngine(recording_network(capture=short), SMALL_PROMPT, SMALL_END, decoding, 4, said.append)
    assert_same(dict(recorded.captions([whole])), found(decoding, whole))
    assert said == ["out of memory on cpu: continuing with --batch-size 2"]


# Bookkeeping


@pytest.mark.parametrize(
    ("count", "capacity", "places"), [(1, 8, 1), (2, 8, 2), (3, 8, 4), (5, 8, 8), (5, 6, 6), (33, 64, 64)]
)
def test_places_are_rounded_up_to_a_power_of_two_or_to_all(count: int, capacity: int, places: int) -> None:
    assert bucket(count, capacity) == places


def test_a_step_first_runs_as_it_is_then_is_recorded_once_and_repeated() -> None:
    did: list[str] = []

    def capture(step: Callable[[], None]) -> Callable[[], None]:
        did.append("recorded")
        return lambda: did.append("repeated")

    steps = RecordedSteps(GraphCapturer(capture, did.append))
    for _ in range(4):
        steps.run(StepShape(1, 1, 1, 9), lambda: did.append("ran"))
    assert did == ["ran", "recorded", "repeated", "repeated", "repeated"]


def test_every_extent_has_a_recording_of_its_own() -> None:
    did: list[int] = []
    steps = RecordedSteps(GraphCapturer(lambda step: step, lambda _: None))
    for count in (1, 2, 1, 2, 1):
        steps.run(StepShape(count, 1, count, 9), lambda count=count: did.append(count))
    assert did == [1, 2, 1, 2, 1]


def test_the_extents_of_a_run_are_few() -> None:
    extents = set()

    class Watched(RecordedSteps):
        def run(self, extent: StepShape, step: Callable[[], None]) -> None:
            extents.add(extent)
            super().run(extent, step)

    recorded = engine(WAYS["3 samples"], 8, recording_network())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sdprep.models.captioners.blip.batch.RecordedSteps", Watched)
        list(recorded.captions([pictures(images(20))]))
    assert StepShape(8, 3, 24, 19) in extents
    assert extents <= {StepShape(count, 3, 3 * count, 19) for count in (1, 2, 4, 8)}


def test_a_recording_that_fails_is_told_once_and_steps_go_on_as_they_are() -> None:
    def fails(step: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    said: list[str] = []
    decoding, whole = WAYS["greedy"], pictures(images(6))
    recorded = engine(decoding, 4, recording_network(capture=fails, said=said))
    assert_same(dict(recorded.captions([whole])), found(decoding, whole))
    assert said == [
        "continuing without CUDA graphs, which is slower: operation not permitted when stream is capturing"
    ]  # fmt: skip


# The check on the first image


def agreement(recorded: CaptionEngine, decoding: GenerationConfig) -> None:
    check_agreement(recorded, ReferenceDecoder(small_blip(), SMALL_PROMPT, decoding), pictures(images(1)), "1.0")


CHECKED = pytest.mark.parametrize(
    "decoding",
    [
        GenerationConfig(min_new_tokens=8, max_new_tokens=9),
        GenerationConfig(sample=True, min_new_tokens=8, max_new_tokens=9),
    ],
    ids=["greedy", "sample"],
)


@CHECKED
def test_the_check_goes_through_recorded_steps(decoding: GenerationConfig) -> None:
    repeated = 0

    def counting(step: Callable[[], None]) -> Callable[[], None]:
        repeat = on_tape(step)

        def counted() -> None:
            nonlocal repeated
            repeated += 1
            repeat()

        return counted

    said: list[str] = []
    agreement(engine(decoding, 4, recording_network(capture=counting, said=said)), decoding)
    assert repeated > 2
    assert said == []


@CHECKED
def test_recorded_steps_that_answer_otherwise_are_given_up(decoding: GenerationConfig) -> None:
    real = TextDecoder.step

    def wrong(step: Callable[[], None]) -> Callable[[], None]:
        def otherwise() -> None:
            with mock.patch.object(TextDecoder, "step", lambda *arguments: -real(*arguments)):
                step()

        return otherwise

    said: list[str] = []
    whole = pictures(images(6))
    recorded = engine(decoding, 4, recording_network(capture=wrong, said=said))
    agreement(recorded, decoding)
    assert said == ["continuing without CUDA graphs, which is slower: they change the caption of the first image"]
    assert_same(dict(recorded.captions([whole])), found(decoding, whole))


# What a CUDA graph can hold


def write_a_step(decoding: GenerationConfig, precision: torch.dtype = torch.bfloat16) -> None:
    """One step of three images in four places, on tensors without contents."""
    with torch.device("meta"):
        model = BlipForConditionalGeneration(small_blip().config).to(precision).eval()
    network = BlipNetwork(take_weights(model, "5.23.0"), absorbed=False)
    whole = CaptionEngine(network, SMALL_PROMPT, SMALL_END, decoding, 4)
    pixels = torch.empty(3, 3, 96, 96, dtype=precision, device="meta")
    prefilled = whole.prefill(pixels)
    running, each = whole.take_batch(prefilled), decoding.num_return_sequences if decoding.sample else 1
    image = pictures(pixels).part
    running.add([Waiting(ActiveImage(image(row, row + 1), {}), prefilled, row) for row in range(3)])
    # In inference mode operations would not be taken apart to what runs on the device.
    with torch.no_grad(), as_captured():
        running.write(StepShape(4, each, 4 * each, len(SMALL_PROMPT) + decoding.max_new_tokens - 1))


@pytest.mark.parametrize("precision", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@EVERY_WAY
def test_a_step_waits_for_no_number_and_takes_nothing_from_the_host(
    decoding: GenerationConfig, precision: torch.dtype
) -> None:
    write_a_step(decoding, precision)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (lambda state: state.lengths.max().item(), "item"),
        (lambda state: bool(state.done.all()), "item"),
        (lambda state: state.done.nonzero(), "nonzero"),
        (lambda state: state.sums[state.done], "nonzero"),
        (lambda state: state.lengths + torch.ones(4), "device"),
        (lambda state: torch.ones(4).to(state.lengths.device), "_to_copy"),
        (lambda state: torch.tensor([1, 2], device=state.lengths.device), "torch.tensor"),
    ],
    ids=["a number", "a condition", "a shape", "a choice", "a tensor of the host", "a copy", "a list"],
)
def test_a_step_that_a_graph_cannot_hold_is_found_out(fault: Callable[[RowState], Any], said: str) -> None:
    advance = RowSearch.advance

    def faulty(self: RowSearch, state: RowState, logits: torch.Tensor, longest: int) -> None:
        advance(self, state, logits, longest)
        if longest > len(SMALL_PROMPT):
            fault(state)

    with (
        mock.patch.object(RowSearch, "advance", faulty),
        pytest.raises((RuntimeError, HostTensorError), match=said),
    ):
        write_a_step(WAYS["greedy"])


def test_a_step_that_leans_on_what_python_knows_gives_other_captions_on_tape() -> None:
    """Else the tape could not tell a step that a graph repeats rightly from one that it does not."""
    step, calls = TextDecoder.step, 0

    def leaning(*arguments: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return step(*arguments).roll(calls, dims=1)

    decoding, whole = GenerationConfig(min_new_tokens=8, max_new_tokens=8), pictures(images(2))
    with mock.patch.object(TextDecoder, "step", leaning):
        plain = dict(engine(decoding, 2, recording_network(capture=lambda step: step)).captions([whole]))
        calls = 0
        on_a_tape = dict(engine(decoding, 2, recording_network()).captions([whole]))
    assert {key: text[0].tokens for key, text in plain.items()} != {
        key: text[0].tokens for key, text in on_a_tape.items()
    }
