"""The decode loop on a device whose memory runs out."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any
from unittest import mock

import pytest
import torch

from sdprep.errors import ModelError
from sdprep.models.captioners.blip.images import Images, ImageSource
from sdprep.models.captioners.blip.loop import CaptionEngine
from sdprep.models.captioners.blip.network import BlipNetwork, TextDecoder
from sdprep.models.captioners.blip.search import RowSearch
from sdprep.models.captioners.generation import GenerationConfig
from tests.models.captioners.blip.blip_models import (
    SMALL_END,
    SMALL_PROMPT,
    Found,
    cut,
    found,
    images,
    one_thread,
    pictures,
    small_network,
)

WAYS = pytest.mark.parametrize(
    "decoding",
    [
        GenerationConfig(max_new_tokens=12),
        GenerationConfig(num_beams=3, max_new_tokens=12),
        GenerationConfig(sample=True, num_return_sequences=2, max_new_tokens=12, seed=3),
    ],
    ids=["greedy", "beams", "samples"],
)


def short_of(most: int, count: Callable[..., int], method: Any) -> Any:
    """The method, with too little memory for more than `most` images; no card is here that could run out of it."""

    def limited(*arguments: Any) -> Any:
        if count(*arguments) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return method(*arguments)

    return limited


def limited_prefill(most: int) -> Any:
    limited = short_of(most, lambda _, pixels, __: len(pixels), BlipNetwork.prefill)
    return mock.patch.object(BlipNetwork, "prefill", limited)


def limited_step(most: int) -> Any:
    limited = short_of(most, lambda _, __, ___, memory, ____: len(memory), TextDecoder.step)
    return mock.patch.object(TextDecoder, "step", limited)


def captions(decoding: GenerationConfig, said: list[str], *batches: range) -> Found:
    engine = CaptionEngine(small_network(), SMALL_PROMPT, SMALL_END, decoding, 8, said.append)
    with one_thread():
        return dict(engine.captions(cut(pictures(images(11)), *batches)))


def tokens(texts: Found) -> dict[Any, list[tuple[int, ...]]]:
    return {key: [each.tokens for each in found] for key, found in texts.items()}


@WAYS
@pytest.mark.parametrize("limit", [limited_prefill, limited_step], ids=["prefill", "step"])
def test_captions_are_the_same_when_the_memory_runs_out(
    limit: Callable[[int], Any], decoding: GenerationConfig
) -> None:
    said: list[str] = []
    with limit(3):
        texts = captions(decoding, said, range(8), range(8, 11))
    assert tokens(texts) == tokens(found(decoding, pictures(images(11))))
    assert said == [f"out of memory on cpu: continuing with --batch-size {size}" for size in (4, 2)]


def test_memory_that_runs_out_while_images_are_seated_loses_none() -> None:
    said: list[str] = []
    decoding = GenerationConfig(max_new_tokens=12)

    with mock.patch.object(
        RowSearch, "advance", short_of(4, lambda _, __, logits, ___: len(logits), RowSearch.advance)
    ):
        texts = captions(decoding, said, range(8), range(8, 11))
    assert tokens(texts) == tokens(found(decoding, pictures(images(11))))
    assert len(said) == 1


@pytest.mark.parametrize("limit", [limited_prefill, limited_step], ids=["prefill", "step"])
def test_memory_that_does_not_suffice_for_one_image_ends_the_run(limit: Callable[[int], Any]) -> None:
    said: list[str] = []
    with (
        limit(0),
        pytest.raises(
            ModelError, match=r"cpu does not have enough memory for 0 alone, at batch size 1.*--dtype float16"
        ),
    ):
        captions(GenerationConfig(max_new_tokens=12), said, range(8))
    assert len(said) == 3


def test_images_that_are_given_back_come_first_and_in_their_order() -> None:
    source = ImageSource(cut(pictures(images(7)), range(5), range(5, 7)))
    first = [source.read(2), source.read(2)]
    source.give_back([each for each in first if each is not None])
    read = iter(lambda: source.read(3), None)
    assert [each.keys for each in read if each is not None] == [(0, 1), (2, 3), (4,), (5, 6)]


@pytest.mark.parametrize("capacity", [2, 8])
@WAYS
def test_captions_are_the_same_when_batches_are_read_ahead(decoding: GenerationConfig, capacity: int) -> None:
    ahead = CaptionEngine(small_network(), SMALL_PROMPT, SMALL_END, decoding, capacity)
    ahead.reads_ahead = True
    with one_thread():
        texts = dict(ahead.captions(cut(pictures(images(11)), range(4), range(4, 8), range(8, 11))))
        assert tokens(texts) == tokens(found(decoding, pictures(images(11))))


@pytest.mark.parametrize(("reads_ahead", "read"), [(False, [1, 1]), (True, [2, 2])])
def test_one_batch_is_read_while_a_device_looks_at_the_last(reads_ahead: bool, read: list[int]) -> None:
    batches, seen = 0, []

    def source() -> Iterator[Images]:
        nonlocal batches
        for batch in cut(pictures(images(9)), range(3), range(3, 6), range(6, 9)):
            batches += 1
            yield batch

    ahead = CaptionEngine(
        small_network(), SMALL_PROMPT, SMALL_END, GenerationConfig(min_new_tokens=4, max_new_tokens=4), 3
    )
    ahead.reads_ahead = reads_ahead
    with one_thread():
        for _ in islice(ahead.captions(source()), 2):
            seen.append(batches)
    assert seen == read


def test_what_was_read_ahead_is_read_in_its_order() -> None:
    source = ImageSource(cut(pictures(images(7)), range(3), range(3, 6), range(6, 7)))
    keys = []
    while (images_read := source.read(2)) is not None:
        source.read_ahead()
        keys.append(images_read.keys)
    assert keys == [(0, 1), (2,), (3, 4), (5,), (6,)]
