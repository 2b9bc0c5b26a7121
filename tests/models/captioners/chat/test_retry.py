"""The second try of chat models for captions that repeat themselves."""

import numpy as np
import pytest

from sdprep.models.base import PromptSpec
from sdprep.models.captioners.chat.retry import choose
from sdprep.models.captioners.generation import CaptionOptions, GenerationConfig
from sdprep.types import Batch, Caption
from tests.models.captioners.chat.chat_models import load, write_repetitive_model

# The model goes on from the last character: "a" sends it in circles, and "c" does not.
PROMPTS = ("Hm: a", "Hm? Yes: c", "a", "c", "It is a")
PIXELS = np.zeros((32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(model_folder, tmp_path_factory):
    return write_repetitive_model(tmp_path_factory.mktemp("repetitive") / "model", model_folder("llava"))


def captioner(folder, batch_size=8, retry=True, **search):
    options = CaptionOptions(generation=GenerationConfig(**{"max_new_tokens": 12, **search}), retry_repetition=retry)
    return load(folder, prompt=PromptSpec(form="plain"), batch_size=batch_size, options=options)


def batch(*numbers):
    digests = tuple(bytes([number]) * 32 for number in numbers)
    return Batch(numbers, digests, (PIXELS,) * len(numbers), tuple(PROMPTS[number] for number in numbers))


def found(model, *batches):
    return {key: (each.text, each.again) for key, each in model.predict(batches)}


def test_without_a_second_try_the_model_repeats_itself(folder):
    assert found(captioner(folder, retry=False), batch(0, 1)) == {0: ("a a a a a a", False), 1: ("d", False)}


def test_a_caption_that_repeats_itself_is_replaced_by_a_second_try_and_others_stay(folder):
    expected = {number: ("d", False) if number in (1, 3) else ("a a", True) for number in range(5)}
    assert found(captioner(folder), batch(0, 1, 2, 3, 4)) == expected


@pytest.mark.parametrize("search", [{}, {"num_beams": 2}, {"sample": True, "temperature": 0.7, "seed": 3}])
def test_a_second_try_depends_on_its_image_and_seed_and_not_on_its_batch(folder, search):
    together = found(captioner(folder, **search), batch(0, 1, 2, 3, 4))
    alone = found(captioner(folder, batch_size=1, **search), *(batch(number) for number in (4, 3, 2, 1, 0)))
    assert together == alone


def test_second_tries_are_made_a_batch_at_a_time(folder):
    keys = list(found(captioner(folder, batch_size=2), batch(0, 1), batch(2, 3), batch(4)))
    assert keys == [1, 0, 2, 3, 4]


def test_whoever_bounds_repetition_gets_no_second_try(folder):
    assert found(captioner(folder, no_repeat_ngram_size=7), batch(0)) == {0: ("a a a a", False)}


def test_a_prompt_with_a_phrase_of_the_answer_does_not_ban_it(folder):
    prompt = Batch((0,), (b"0" * 32,), (PIXELS,), ("a a a and a",))
    assert found(captioner(folder), prompt) == {0: ("a a", True)}


@pytest.mark.parametrize(
    ("first", "second", "chosen"),
    [("a b", "c", "a b"), ("a a a", "a b", "a b"), ("a a a", "b b b", "a a a"), ("a a a", "", "a a a")],
    ids=["nothing repeated", "a better one", "repeated again", "empty"],
)
def test_the_second_caption_is_taken_if_it_is_better(first, second, chosen):
    result = choose(Caption(first, 3, "stop"), Caption(second, 3, "length"))
    assert (result.text, result.again) == (chosen, chosen != first)
