"""The searches against transformers' `generate`, and what it lacks: texts that leave and do not disturb others."""

import random
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from transformers.generation import logits_process

from sdprep.errors import UsageError
from sdprep.models.captioners.blip.images import Images
from sdprep.models.captioners.blip.logits import sample, sampling_probabilities
from sdprep.models.captioners.blip.loop import CaptionEngine
from sdprep.models.captioners.blip.network import TextDecoder
from sdprep.models.captioners.generation import GenerationConfig
from tests.models.captioners.blip.blip_models import (
    SMALL_END,
    Found,
    assert_same,
    cut,
    engine,
    expected,
    found,
    images,
    one_thread,
    pictures,
    small_network,
)

BAD_WORDS = ((9,), (10, 11), (12, 13, 14), (3,))


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    with one_thread():
        yield


def agree(decoding: GenerationConfig, count: int = 8) -> None:
    whole = pictures(images(count))
    assert_same(found(decoding, whole), expected(decoding, whole))


# The same as generate


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize("length_penalty", [0.6, 1.0, 2.0, 0.0, -1.0])
@pytest.mark.parametrize("beams", range(2, 9))
def test_beams_are_those_of_generate(beams: int, length_penalty: float, early_stopping: Any) -> None:
    agree(
        GenerationConfig(
            num_beams=beams, length_penalty=length_penalty, early_stopping=early_stopping, max_new_tokens=14
        )
    )  # fmt: skip


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize(
    "rule",
    [
        {"min_new_tokens": 6},
        {"max_new_tokens": 1},
        {"repetition_penalty": 1.3},
        {"repetition_penalty": 0.8},
        {"no_repeat_ngram_size": 1},
        {"no_repeat_ngram_size": 2},
        {"no_repeat_ngram_size": 3},
        {"bad_words": BAD_WORDS},
        {"repetition_penalty": 1.2, "no_repeat_ngram_size": 2, "bad_words": BAD_WORDS, "min_new_tokens": 4},
    ],
    ids=lambda rule: ", ".join(rule),
)
def test_every_rule_is_that_of_generate(rule: dict[str, Any], beams: int) -> None:
    agree(GenerationConfig(num_beams=beams, **{"max_new_tokens": 20, **rule}))


def test_texts_here_end_at_many_lengths() -> None:
    """Else the comparisons would say little."""
    lengths = {
        len(texts[0].tokens) for texts in found(GenerationConfig(max_new_tokens=20), pictures(images(32))).values()
    }
    assert len(lengths) >= 6


@pytest.mark.parametrize("count", [1, 2, 5, 16, 32])
@pytest.mark.parametrize("beams", [1, 4])
def test_batches_of_every_size_are_those_of_generate(beams: int, count: int) -> None:
    agree(GenerationConfig(num_beams=beams, max_new_tokens=16), count)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("beams", [2, 5])
def test_several_captions_are_the_best_beams_of_generate(beams: int, early_stopping: bool) -> None:
    agree(
        GenerationConfig(num_beams=beams, num_return_sequences=beams, early_stopping=early_stopping, max_new_tokens=12)
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_random_settings_are_those_of_generate(seed: int) -> None:
    chosen = random.Random(seed)
    for _ in range(5):
        decoding = GenerationConfig(
            num_beams=chosen.randint(1, 6),
            length_penalty=chosen.choice([0.5, 1.0, 1.7]),
            early_stopping=chosen.choice([False, True, "never"]),
            min_new_tokens=chosen.choice([0, 3]),
            max_new_tokens=chosen.choice([4, 11, 19]),
            repetition_penalty=chosen.choice([1.0, 1.4]),
            no_repeat_ngram_size=chosen.choice([0, 2]),
            bad_words=chosen.choice([(), BAD_WORDS]),
        )
        whole = pictures(images(6, seed=seed))
        network = small_network(seed, absorbed=chosen.random() < 0.5)
        mine = dict(engine(decoding, chosen.randint(1, 6), network).captions([whole]))
        assert_same(mine, expected(decoding, whole, seed))


# Sampling


def filtered_by_transformers(scores: torch.Tensor, decoding: GenerationConfig) -> torch.Tensor:
    if decoding.temperature != 1.0:
        scores = logits_process.TemperatureLogitsWarper(decoding.temperature)(None, scores)
    if decoding.top_k:
        scores = logits_process.TopKLogitsWarper(decoding.top_k)(None, scores)
    if decoding.top_p < 1.0:
        scores = logits_process.TopPLogitsWarper(decoding.top_p)(None, scores)
    return scores.softmax(-1)


@pytest.mark.parametrize("temperature", [1.0, 0.7, 1.5])
@pytest.mark.parametrize("top_k", [0, 1, 50])
@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.1, 0.001])
def test_the_probabilities_of_a_draw_are_those_of_transformers(top_p: float, top_k: int, temperature: float) -> None:
    decoding = GenerationConfig(sample=True, top_p=top_p, top_k=top_k, temperature=temperature)
    scores = 3 * torch.randn(4, 500, generator=torch.Generator().manual_seed(1))
    probabilities, ids = sampling_probabilities(scores, decoding)
    by_id = torch.zeros_like(scores).scatter(1, ids, probabilities)
    assert torch.allclose(by_id, filtered_by_transformers(scores, decoding), atol=1e-6)


def test_ids_are_drawn_as_often_as_their_probabilities_say() -> None:
    probabilities = torch.tensor([[0.5, 0.3, 0.2, 0.0]])
    chances = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    ids = torch.tensor([[7, 5, 6, 4]]).expand(1000, 4)
    counts = torch.bincount(sample(probabilities.expand(1000, 4), ids, chances)).tolist()
    assert counts == [0, 0, 0, 0, 0, 300, 200, 500]


@pytest.mark.parametrize("chance", [0.0, 0.9999999999999999])
def test_no_chance_draws_what_was_filtered_out(chance: float) -> None:
    probabilities, ids = torch.tensor([[0.7, 0.3, 0.0]]), torch.tensor([[2, 1, 0]])
    assert sample(probabilities, ids, torch.tensor([chance], dtype=torch.float64)).tolist() in ([2], [1])


SAMPLED = GenerationConfig(sample=True, top_p=0.95, max_new_tokens=12, seed=7)


def test_a_sample_does_not_depend_on_its_company() -> None:
    whole = pictures(images(8))
    alone = {number: found(SAMPLED, one)[number] for number, one in enumerate(cut(whole, *([n] for n in range(8))))}
    orders: list[list[list[int]]] = [[[0, 1, 2, 3], [4, 5, 6, 7]], [list(range(8))], [[6, 1, 7], [0], [5, 3, 2, 4]]]
    for capacity in (2, 8):
        for order in orders:
            mine = dict(engine(SAMPLED, capacity).captions(cut(whole, *order)))
            assert {key: texts[0].tokens for key, texts in mine.items()} == {
                key: texts[0].tokens for key, texts in alone.items()
            }


def test_samples_differ_between_images_and_seeds() -> None:
    same = images(1).repeat(4, 1, 1, 1)
    assert len({texts[0].tokens for texts in found(SAMPLED, pictures(same)).values()}) == 4


def samples(count: int, seed: int) -> dict[Any, list[tuple[int, ...]]]:
    decoding = GenerationConfig(sample=True, max_new_tokens=12, seed=seed, num_return_sequences=count)
    return {key: [text.tokens for text in texts] for key, texts in found(decoding, pictures(images(3))).items()}


def test_a_sample_is_the_same_however_many_there_are() -> None:
    assert {key: texts[:2] for key, texts in samples(4, 7).items()} == samples(2, 7)


def test_several_samples_of_neighbouring_seeds_have_none_in_common() -> None:
    one, other = samples(4, 7), samples(4, 8)
    assert not any(set(one[key]) & set(other[key]) for key in one)


def test_the_score_of_a_sample_is_that_of_the_raw_logits() -> None:
    """With one word to choose from, sampling is greedy search, whose score is compared with generate elsewhere."""
    whole = pictures(images(4))
    assert_same(
        found(GenerationConfig(sample=True, top_k=1, max_new_tokens=12), whole),
        expected(GenerationConfig(max_new_tokens=12), whole),
    )


# Texts that are done leave, and others take their places


def rows_of_steps(decoding: GenerationConfig, whole: Images, capacity: int) -> tuple[list[int], Found]:
    """How many texts each step had."""
    rows, step = [], TextDecoder.step

    def spy(self: TextDecoder, ids: torch.Tensor, *rest: Any) -> torch.Tensor:
        rows.append(ids.numel())
        return step(self, ids, *rest)

    with mock.patch.object(TextDecoder, "step", spy):
        texts = dict(engine(decoding, capacity).captions(cut(whole, *([n] for n in range(len(whole.keys))))))
    return rows, texts


@pytest.mark.parametrize("capacity", [1, 4, 16])
@pytest.mark.parametrize(
    "decoding",
    [GenerationConfig(max_new_tokens=20), GenerationConfig(sample=True, max_new_tokens=20, num_return_sequences=3)],
    ids=["greedy", "3 samples"],
)
def test_no_text_runs_after_its_end(decoding: GenerationConfig, capacity: int) -> None:
    rows, texts = rows_of_steps(decoding, pictures(images(16)), capacity)
    each = [len(text.tokens) + (text.finish_reason == "stop") for found in texts.values() for text in found]
    # The first token of a text comes with the prompt.
    assert sum(rows) == sum(each) - len(each)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_beams_leave_with_their_image(early_stopping: bool) -> None:
    decoding = GenerationConfig(num_beams=3, max_new_tokens=20, early_stopping=early_stopping)
    whole = pictures(images(12))
    alone = [sum(rows_of_steps(decoding, one, 1)[0]) for one in cut(whole, *([n] for n in range(12)))]
    together, _ = rows_of_steps(decoding, whole, 4)
    assert sum(together) == sum(alone)
    # Some images take fewer steps than others, or nobody would leave early.
    assert len(set(alone)) > 1


def test_a_place_that_is_free_is_taken_at_once() -> None:
    rows, _ = rows_of_steps(GenerationConfig(max_new_tokens=20), pictures(images(16)), 4)
    assert rows[0] == 4
    # Never fewer than four as long as an image waits, so the numbers only fall.
    assert sorted(rows, reverse=True) == rows


def test_the_next_batch_is_read_when_there_is_room_for_it() -> None:
    whole, read = pictures(images(12)), 0

    def source() -> Iterator[Images]:
        nonlocal read
        for batch in cut(whole, [0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]):
            read += 1
            yield batch

    decoding = GenerationConfig(min_new_tokens=10, max_new_tokens=10)
    captions = engine(decoding, 4).captions(source())
    next(captions)
    assert read == 1


def test_without_batches_there_are_no_captions() -> None:
    assert dict(engine(GenerationConfig(), 4).captions([])) == {}


# Settings


def test_captions_longer_than_the_model_knows_are_refused() -> None:
    with pytest.raises(UsageError, match=r"--max-length 125: after the prompt the model has room for 124"):
        engine(GenerationConfig(max_new_tokens=125), 1)


def test_a_prompt_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(UsageError, match="--prompt: its 128 tokens leave the model no room for a caption"):
        CaptionEngine(small_network(), [5] * 128, SMALL_END, GenerationConfig(max_new_tokens=1), 1)


def test_the_longest_caption_that_the_model_knows_can_be_written() -> None:
    decoding = GenerationConfig(min_new_tokens=124, max_new_tokens=124)
    assert len(found(decoding, pictures(images(1)))[0][0].tokens) == 124


@pytest.mark.parametrize("settings", [{"sample": True, "num_beams": 3}, {"num_beams": 2, "num_return_sequences": 3}])
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        GenerationConfig(**settings)
