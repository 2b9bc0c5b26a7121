"""What changes the scores of the next token before one is chosen, as transformers' logits processors do.

The order is theirs (`GenerationMixin._get_logits_processor`, 5.23): repetition penalty, repeated n-grams, bad words,
least length; then for sampling temperature, top-k and top-p. Unlike theirs, rows may have come to different lengths.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from sdprep.models.captioners.generation import GenerationConfig

if TYPE_CHECKING:
    import torch


class Texts(NamedTuple):
    """Texts under way: `ids` [rows, room], of which the first `lengths` [rows] are filled, the prompt included.

    `longest` is the greatest of the lengths.
    """

    ids: torch.Tensor
    lengths: torch.Tensor
    longest: int


class LogitsProcessors:
    """The rules that hold for every way of choosing a token. The end token alone cannot be a bad word."""

    def __init__(self, decoding: GenerationConfig, prompt_length: int, end: int, device: torch.device) -> None:
        import torch

        self._decoding, self._prompt_length, self._end = decoding, prompt_length, end
        self._bad_words = [
            (torch.tensor(word[:-1], dtype=torch.long, device=device), word[-1])
            for word in decoding.bad_words
            if word != (end,)
        ]

    def apply(self, scores: torch.Tensor, texts: Texts) -> torch.Tensor:
        """The scores [rows, vocabulary] after all rules; those given are left as they are."""
        decoding = self._decoding
        if decoding.repetition_penalty != 1.0:
            scores = self._penalised(scores, texts)
        if decoding.no_repeat_ngram_size > 0:
            scores = self._without_repeats(scores, texts, decoding.no_repeat_ngram_size)
        if self._bad_words:
            scores = self._without_bad_words(scores, texts)
        if decoding.min_new_tokens > 0:
            short = texts.lengths < self._prompt_length + decoding.min_new_tokens
            scores = scores.clone()
            scores[:, self._end].masked_fill_(short, -math.inf)
        return scores

    def _penalised(self, scores: torch.Tensor, texts: Texts) -> torch.Tensor:
        import torch
        from torch.nn import functional

        penalty = self._decoding.repetition_penalty
        ids = _filled(texts, scores.shape[1])
        padded = functional.pad(scores, (0, 1))
        seen = padded.gather(1, ids)
        return padded.scatter_(1, ids, torch.where(seen < 0, seen * penalty, seen / penalty))[:, :-1]

    def _without_repeats(self, scores: torch.Tensor, texts: Texts, size: int) -> torch.Tensor:
        import torch

        if texts.longest < size:
            return scores
        vocabulary = scores.shape[1]
        windows = texts.ids[:, : texts.longest].unfold(1, size, 1)
        suffix = _last(texts, size - 1)
        ends = torch.arange(size - 1, texts.longest, device=scores.device)
        repeated = (windows[..., :-1] == suffix[:, None]).all(-1) & (ends < texts.lengths[:, None])
        banned = windows[..., -1].where(repeated, vocabulary)
        return _masked(scores, banned)

    def _without_bad_words(self, scores: torch.Tensor, texts: Texts) -> torch.Tensor:
        import torch

        rows, vocabulary = scores.shape
        columns = []
        for start, last in self._bad_words:
            met = (_last(texts, len(start)) == start).all(-1) & (texts.lengths >= len(start))
            columns.append(torch.full((rows,), last, device=scores.device).where(met, vocabulary))
        return _masked(scores, torch.stack(columns, dim=1))


def _filled(texts: Texts, instead: int) -> torch.Tensor:
    """The ids of the texts, with `instead` where nothing is written yet."""
    import torch

    ids = texts.ids[:, : texts.longest]
    return ids.where(torch.arange(texts.longest, device=ids.device) < texts.lengths[:, None], instead)


def _last(texts: Texts, count: int) -> torch.Tensor:
    """The last `count` ids of every text; where a text is shorter, any."""
    import torch

    index = texts.lengths[:, None] + torch.arange(-count, 0, device=texts.ids.device)
    return texts.ids.gather(1, index.clamp_(min=0))


def _masked(scores: torch.Tensor, banned: torch.Tensor) -> torch.Tensor:
    """Scores with minus infinity at the ids `banned` [rows, any]; the size of the vocabulary stands for none."""
    import torch

    mask = torch.zeros(scores.shape[0], scores.shape[1] + 1, dtype=torch.bool, device=scores.device)
    return scores.masked_fill(mask.scatter_(1, banned, True)[:, :-1], -math.inf)


def nucleus(scores: torch.Tensor, decoding: GenerationConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """The probabilities [rows, vocabulary] to sample from, greatest first, and the ids to which they belong.

    Temperature, then top-k, then top-p.
    """
    import torch

    ascending, ids = torch.sort(scores / decoding.temperature, dim=-1, stable=True)
    if decoding.top_k > 0:
        least = ascending[:, -min(decoding.top_k, ascending.shape[1])]
        ascending = ascending.masked_fill(ascending < least[:, None], -math.inf)
    if decoding.top_p < 1.0:
        removed = ascending.softmax(-1).cumsum(-1) <= 1 - decoding.top_p
        removed[:, -1] = False
        ascending = ascending.masked_fill(removed, -math.inf)
    return ascending.softmax(-1).flip(-1), ids.flip(-1)


def drawn(probabilities: torch.Tensor, ids: torch.Tensor, chance: torch.Tensor) -> torch.Tensor:
    """The ids [rows] at which the probabilities, summed from the greatest on, pass `chance` [rows] (0 <= chance < 1).

    One number for each token: other numbers in the last place of the logits change the choice only near a border.
    """
    import torch

    sums = probabilities.double().cumsum(-1)
    index = torch.searchsorted(sums, chance[:, None] * sums[:, -1:], right=True)
    return ids.gather(1, index.clamp_(max=ids.shape[1] - 1)).squeeze(1)
