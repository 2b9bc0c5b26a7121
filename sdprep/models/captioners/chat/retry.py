"""A second try for answers that repeat themselves."""

from __future__ import annotations

from dataclasses import replace

from sdprep.models.captioners.generation import GenerationConfig
from sdprep.rules.captions import is_repetitive
from sdprep.types import Caption

# N-gram size that may not repeat in a second try, as in Florence-2's search. Two, as for BLIP, would ban most pairs of
# words that a long answer needs more than once.
BANNED_NGRAM = 3


def second_try(decoding: GenerationConfig) -> GenerationConfig | None:
    """The search of a second try; None if the first one bans repeated n-grams already."""
    return None if decoding.no_repeat_ngram_size else replace(decoding, no_repeat_ngram_size=BANNED_NGRAM)


def choose(first: Caption, second: Caption) -> Caption:
    """The second caption if the first is repetitive and the second is one and is not."""
    if is_repetitive(first.text) and second.text and not is_repetitive(second.text):
        return replace(second, again=True)
    return first
