"""The stages between an image and a prediction."""

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdprep.engines.stages import batched, checked, decode_ahead, predict
from sdprep.report import CancelToken
from sdprep.types import Batch, Caption, Decoded, Failure, FailureCode, Fit, ImageItem, Predicted, TagScores


def item(number: int) -> ImageItem:
    return ImageItem.at(Path(f"/d/{number}.png"))


def image(number: int) -> Decoded:
    return Decoded(item(number), bytes([number]), np.full((2, 2, 3), number, dtype=np.uint8))


def failure(number: int) -> Failure:
    return Failure(item(number), FailureCode.TRUNCATED, "cut")


class Echo:
    """A model whose only score is the value of the image's pixels; it notes the sizes of its batches."""

    fit = Fit(2, "pad")

    def __init__(self, *, backwards: bool = False) -> None:
        self.sizes: list[int] = []
        self._backwards = backwards

    def predict(self, batches: Iterable[Batch]) -> Iterator[tuple[Any, TagScores]]:
        """Answer in order, or with everything read first and the last image first."""
        answers = self._answers(batches)
        yield from reversed(list(answers)) if self._backwards else answers

    def _answers(self, batches: Iterable[Batch]) -> Iterator[tuple[Any, TagScores]]:
        for batch in batches:
            self.sizes.append(len(batch.keys))
            for key, pixels in zip(batch.keys, batch.pixels, strict=True):
                yield key, TagScores(pixels.reshape(-1)[:1].astype(np.float32))

    def close(self) -> None:
        """Nothing is held."""


def outcomes(images: Iterable[Decoded | Failure], model: Any, size: int = 2) -> list[Predicted | Failure]:
    return list(predict(images, model, size, CancelToken()))


def of(kind: type, found: Iterable[Any]) -> list[str]:
    return [each.item.rel for each in found if isinstance(each, kind)]


MIXED = [image(1), failure(2), image(3), image(4), failure(5)]


# Decoding ahead


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("ahead", [1, 2, 100])
def test_images_come_in_the_order_of_the_items(workers: int, ahead: int) -> None:
    items = [item(number) for number in range(20)]
    found = decode_ahead(items, lambda each: image(int(each.path.stem)), workers, ahead)
    assert [each.item for each in found] == items


def test_without_workers_the_callers_thread_decodes() -> None:
    threads = []
    list(decode_ahead([item(1)], lambda _: threads.append(threading.current_thread()) or image(1), 0, 1))
    assert threads == [threading.current_thread()]


def test_no_more_items_are_taken_than_may_be_ahead() -> None:
    taken = []
    items = (taken.append(number) or item(number) for number in range(100))
    found = decode_ahead(items, lambda each: image(int(each.path.stem)), 2, 5)
    next(found)
    found.close()
    assert len(taken) == 5


def test_a_consumer_that_leaves_early_leaves_no_thread_behind() -> None:
    found = decode_ahead([item(number) for number in range(20)], lambda _: image(1), 3, 10)
    next(found)
    found.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_defect_of_the_decoder_itself_is_not_swallowed(workers: int) -> None:
    def broken(_: ImageItem) -> Decoded:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(decode_ahead([item(1)], broken, workers, 2))


# Batches


def test_the_last_batch_may_be_short() -> None:
    assert [len(batch.keys) for batch in batched(map(image, range(5)), 2)] == [2, 2, 1]


def test_no_images_make_no_batch() -> None:
    assert list(batched([], 2)) == []


def test_a_batch_keeps_pixels_and_digests_beside_their_keys() -> None:
    (batch,) = batched([image(7), image(9)], 2)
    assert (batch.keys, batch.digests) == ((item(7), item(9)), (b"\7", b"\x09"))
    np.testing.assert_array_equal(batch.pixels[:, 0, 0, 0], [7, 9])


# Predicting


@pytest.mark.parametrize("backwards", [False, True], ids=["in order", "in any order"])
def test_every_prediction_finds_its_own_image_again(backwards: bool) -> None:
    found = outcomes([image(number) for number in range(7)], Echo(backwards=backwards), 3)
    assert all(each.prediction.scores[0] == int(each.item.path.stem) == each.digest[0] for each in found)


@pytest.mark.parametrize("backwards", [False, True], ids=["in order", "in any order"])
def test_every_item_has_one_outcome(backwards: bool) -> None:
    found = outcomes(MIXED, Echo(backwards=backwards))
    assert sorted(each.item.rel for each in found) == [each.item.rel for each in MIXED]


def test_failures_pass_by_the_model() -> None:
    found = outcomes(MIXED, Echo())
    assert (of(Failure, found), of(Predicted, found)) == (["2.png", "5.png"], ["1.png", "3.png", "4.png"])


def test_a_failure_leaves_no_gap_in_a_batch() -> None:
    model = Echo()
    outcomes(MIXED, model)
    assert model.sizes == [2, 1]


def test_failures_alone_need_no_model() -> None:
    model = Echo()
    assert (len(outcomes([failure(1), failure(2)], model)), model.sizes) == (2, [])


def test_an_answer_under_an_unknown_key_is_a_defect_of_the_model() -> None:
    class Stray(Echo):
        def predict(self, batches: Iterable[Batch]) -> Iterator[tuple[Any, TagScores]]:
            for _ in batches:
                yield "nobody", TagScores(np.zeros(1, dtype=np.float32))

    with pytest.raises(TypeError, match="never given: 'nobody'"):
        outcomes([image(1)], Stray())


def test_after_a_wish_to_stop_the_model_is_given_no_further_batch() -> None:
    stop, model, found = CancelToken(), Echo(), []
    for outcome in predict(map(image, range(10)), model, 2, stop):
        found.append(outcome)
        stop.exit_code = 130
    assert (model.sizes, of(Predicted, found)) == ([2], ["0.png", "1.png"])


# Predictions that are no numbers


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_tags_that_are_no_numbers_are_a_failure_of_their_image(value: float) -> None:
    outcome = checked(item(1), b"digest", TagScores(np.array([0.5, value], dtype=np.float32)))
    assert isinstance(outcome, Failure)
    assert (outcome.code, outcome.digest) == (FailureCode.NONFINITE, b"digest")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_caption_whose_score_is_no_number_is_a_failure_of_its_image(value: float) -> None:
    outcome = checked(item(1), b"digest", Caption("zzz zzz", 2, "length", value))
    assert isinstance(outcome, Failure)
    assert outcome.code is FailureCode.NONFINITE


def test_a_caption_without_a_score_is_a_result() -> None:
    caption = Caption("a girl", 2, "stop")
    assert checked(item(1), b"digest", caption) == Predicted(item(1), b"digest", caption)


def test_one_image_without_numbers_does_not_take_its_batch_with_it() -> None:
    class UnexpectedError(Echo):
        def predict(self, batches: Iterable[Batch]) -> Iterator[tuple[Any, TagScores]]:
            for key, scores in super().predict(batches):
                yield key, TagScores(scores.scores * np.nan) if key == item(2) else scores

    found = outcomes([image(1), image(2), image(3)], UnexpectedError(), 3)
    assert (of(Failure, found), of(Predicted, found)) == (["2.png"], ["1.png", "3.png"])
