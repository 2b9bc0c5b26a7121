"""A second try for captions that have lost their thread."""

from collections.abc import Hashable, Iterable, Iterator

import pytest
import torch

from sdprep.models.captioners.blip.images import Images
from sdprep.models.captioners.blip.retry import RETRY_BATCH, RepetitionRetry, Tried, choose, is_degenerate
from sdprep.models.captioners.generation import GeneratedCaption

GOOD = GeneratedCaption((1, 2, 3, 4), "stop", -1.0)
LOST = GeneratedCaption((1, 2, 3, 1, 2, 3, 1, 2, 3), "length", -1.0)
OTHER = GeneratedCaption((1, 2, 3, 5), "stop", -2.0)


class Scripted:
    """A decoder that says what it is told to for each key, and remembers what it was shown."""

    def __init__(self, captions: dict[int, list[GeneratedCaption]]) -> None:
        self._captions, self.shown = captions, []

    def captions(self, batches: Iterable[Images]) -> Iterator[tuple[Hashable, list[GeneratedCaption]]]:
        for pictures in batches:
            for key, digest, pixels in zip(pictures.keys, pictures.digests, pictures.pixels, strict=True):
                self.shown.append((key, digest, float(pixels.sum())))
                yield key, self._captions[key]


def pictures(count: int) -> Images:
    pixels = torch.arange(count, dtype=torch.float32).reshape(count, 1, 1, 1)
    return Images(tuple(range(count)), tuple(bytes([each]) for each in range(count)), pixels)


def tried(first: dict[int, list[GeneratedCaption]], retry: Scripted | None) -> dict[Hashable, list[Tried]]:
    return dict(RepetitionRetry(Scripted(first), retry).captions([pictures(len(first))]))


def test_a_caption_that_repeats_itself_is_replaced_by_its_second_try() -> None:
    assert tried({0: [GOOD], 1: [LOST]}, Scripted({1: [OTHER]})) == {0: [(GOOD, False)], 1: [(OTHER, True)]}


def test_only_images_that_need_it_are_decoded_again_each_as_it_is() -> None:
    retry = Scripted({1: [OTHER], 3: [OTHER]})
    tried({0: [GOOD], 1: [LOST], 2: [GOOD], 3: [LOST]}, retry)
    assert retry.shown == [(1, b"\x01", 1.0), (3, b"\x03", 3.0)]


def test_more_images_than_wait_together_all_come_back() -> None:
    count = 2 * RETRY_BATCH + 3
    found = tried({key: [LOST] for key in range(count)}, Scripted({key: [OTHER] for key in range(count)}))
    assert found == {key: [(OTHER, True)] for key in range(count)}


def test_without_a_guard_nothing_is_decoded_again() -> None:
    assert tried({0: [LOST]}, None) == {0: [(LOST, False)]}


def test_of_several_captions_those_that_went_well_stay() -> None:
    assert tried({0: [GOOD, LOST]}, Scripted({0: [OTHER, OTHER]})) == {0: [(GOOD, False), (OTHER, True)]}


@pytest.mark.parametrize(
    "second", [LOST, GeneratedCaption((7, 8, 9), "length", -1.0), GeneratedCaption((7, 7, 7), "stop", -1.0)]
)
def test_a_second_try_that_went_no_choose_is_not_taken(second: GeneratedCaption) -> None:
    assert choose(LOST, second) == (LOST, False)


@pytest.mark.parametrize(
    ("tokens", "reason", "lost"),
    [
        ((1, 2, 3, 1, 2, 3, 1, 2, 3), "stop", True),
        ((1, 2, 3, 4, 1, 2, 3), "length", True),
        ((1, 2, 3, 4, 1, 2, 3), "stop", False),
        ((1, 2, 3, 4, 5), "length", False),
        ((7, 7, 7), "stop", True),
        ((), "stop", False),
    ],
)
def test_a_caption_has_lost_its_thread_if_a_guard_would_change_it(
    tokens: tuple[int, ...], reason: str, lost: bool
) -> None:
    assert is_degenerate(GeneratedCaption(tokens, reason, -1.0)) is lost
