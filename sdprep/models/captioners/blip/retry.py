"""A second try for captions that have lost their thread."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from itertools import islice
from typing import Protocol

from sdprep.models.captioners.blip.images import Images
from sdprep.models.captioners.generation import GeneratedCaption
from sdprep.rules.captions import has_repetition

# In a second try no run of so many tokens may stand twice; what has no such run would come out the same again. Two,
# since a word three times in a row has but one run of three.
BANNED_NGRAM = 2
# Images that wait for their second try together.
TOGETHER = 8

# A caption, and whether it comes from a second try.
Tried = tuple[GeneratedCaption, bool]


class Decoder(Protocol):
    """What gives every image its captions under its key, in any order."""

    def captions(self, batches: Iterable[Images]) -> Iterator[tuple[Hashable, list[GeneratedCaption]]]:
        """The captions of the images of some batches."""


class RepetitionRetry:
    """A decoder, and one with a guard against repetition for captions of the first that need it (None: no second try).

    An image's captions depend on the image alone, as with the first.
    """

    def __init__(self, first: Decoder, handle_errors: Decoder | None) -> None:
        self._first, self._guarded = first, handle_errors
        self._under_way: dict[Hashable, Images] = {}

    def captions(self, batches: Iterable[Images]) -> Iterator[tuple[Hashable, list[Tried]]]:
        """The captions of every image under its key, those of a second try later."""
        lost: dict[Hashable, list[GeneratedCaption]] = {}
        for key, found in self._first.captions(self._watched(batches)):
            if self._guarded is not None and any(map(is_degenerate, found)):
                lost[key] = found
            else:
                self._under_way.pop(key, None)
                yield key, [(each, False) for each in found]
            if self._guarded is not None and len(lost) == TOGETHER:
                yield from self._again(self._guarded, lost)
                lost = {}
        if self._guarded is not None:
            yield from self._again(self._guarded, lost)

    def _watched(self, batches: Iterable[Images]) -> Iterator[Images]:
        for pictures in batches:
            for index, (key, digest) in enumerate(zip(pictures.keys, pictures.digests, strict=True)):
                # A copy, or one image would keep its whole batch in memory.
                self._under_way[key] = Images((key,), (digest,), pictures.pixels[index : index + 1].clone())
            yield pictures

    def _again(
        self, handle_errors: Decoder, lost: dict[Hashable, list[GeneratedCaption]]
    ) -> Iterator[tuple[Hashable, list[Tried]]]:
        for key, second in handle_errors.captions([self._under_way.pop(key) for key in lost]):
            yield key, [better(*pair) for pair in zip(lost[key], second, strict=True)]


def better(first: GeneratedCaption, second: GeneratedCaption) -> Tried:
    """The second try, where the first needs one and the second has gone well."""
    if is_degenerate(first) and second.finish_reason == "stop" and not has_repetition(second.tokens):
        return second, True
    return first, False


def is_degenerate(caption: GeneratedCaption) -> bool:
    """Whether a caption found no end or repeats itself, in such a way that a guard would change it."""
    runs = list(zip(*(islice(caption.tokens, start, None) for start in range(BANNED_NGRAM)), strict=False))
    return len(set(runs)) < len(runs) and (caption.finish_reason == "length" or has_repetition(caption.tokens))
