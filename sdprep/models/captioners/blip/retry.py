"""A second try for captions that repeat themselves or found no end."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from itertools import islice
from typing import Protocol

from sdprep.models.captioners.blip.images import Images
from sdprep.models.captioners.generation import GeneratedCaption
from sdprep.rules.captions import has_repetition

# N-gram size that may not repeat in a retry; a caption without such a repeat would come out the same again. Two,
# because a word three times in a row repeats no n-gram of three.
BANNED_NGRAM = 2
RETRY_BATCH = 8

# A caption, and whether it comes from a retry.
Tried = tuple[GeneratedCaption, bool]


class Decoder(Protocol):
    """Gives every image its captions under its key, in any order."""

    def captions(self, batches: Iterable[Images]) -> Iterator[tuple[Hashable, list[GeneratedCaption]]]:
        """The captions of the images of some batches."""


class RepetitionRetry:
    """A decoder, and a second one that bans repeated n-grams, for degenerate captions of the first (None: no retry).

    As with the first decoder, the captions of an image depend on that image alone.
    """

    def __init__(self, first: Decoder, retry: Decoder | None) -> None:
        self._first, self._retry = first, retry
        self._in_flight: dict[Hashable, Images] = {}

    def captions(self, batches: Iterable[Images]) -> Iterator[tuple[Hashable, list[Tried]]]:
        """The captions of every image under its key, those of a retry later."""
        if self._retry is None:
            for key, found in self._first.captions(batches):
                yield key, [(each, False) for each in found]
            return
        degenerate: dict[Hashable, list[GeneratedCaption]] = {}
        for key, found in self._first.captions(self._recorded(batches)):
            if any(map(is_degenerate, found)):
                degenerate[key] = found
            else:
                self._in_flight.pop(key)
                yield key, [(each, False) for each in found]
            if len(degenerate) == RETRY_BATCH:
                yield from self._retried(self._retry, degenerate)
                degenerate = {}
        yield from self._retried(self._retry, degenerate)

    def _recorded(self, batches: Iterable[Images]) -> Iterator[Images]:
        for batch in batches:
            for index, (key, digest) in enumerate(zip(batch.keys, batch.digests, strict=True)):
                # A copy, so that one image does not keep its whole batch in memory.
                self._in_flight[key] = Images((key,), (digest,), batch.pixels[index : index + 1].clone())
            yield batch

    def _retried(
        self, retry: Decoder, degenerate: dict[Hashable, list[GeneratedCaption]]
    ) -> Iterator[tuple[Hashable, list[Tried]]]:
        for key, second in retry.captions([self._in_flight.pop(key) for key in degenerate]):
            yield key, [choose(*pair) for pair in zip(degenerate[key], second, strict=True)]


def choose(first: GeneratedCaption, second: GeneratedCaption) -> Tried:
    """The retried caption if the first is degenerate and the retry came to an end without repetition."""
    if is_degenerate(first) and second.finish_reason == "stop" and not has_repetition(second.tokens):
        return second, True
    return first, False


def is_degenerate(caption: GeneratedCaption) -> bool:
    """Whether a caption found no end or repeats itself, in a way that banning repeated n-grams would change."""
    ngrams = list(zip(*(islice(caption.tokens, start, None) for start in range(BANNED_NGRAM)), strict=False))
    return len(set(ngrams)) < len(ngrams) and (caption.finish_reason == "length" or has_repetition(caption.tokens))
