"""What changes the scores of the next token before one is chosen, like transformers' logits processors.

The order is theirs (`GenerationMixin._get_logits_processor`, 5.23): repetition penalty, repeated n-grams, bad words,
minimum length; then for sampling temperature, top-k and top-p. Unlike theirs, rows may have different lengths.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from sdprep.models.captioners.generation import GenerationConfig

if TYPE_CHECKING:
    import torch


class Sequences(NamedTuple):
    """Sequences in progress: `ids` [rows, room], of which the first `lengths` [rows] are filled, prompt included.

    `longest` is the greatest of the lengths.
    """

    ids: torch.Tensor
    lengths: torch.Tensor
    longest: int


class LogitsProcessors:
    """The rules that every way of choosing a token follows. The end token alone cannot be a bad word."""

    def __init__(self, decoding: GenerationConfig, prompt_length: int, end: int, device: torch.device) -> None:
        import torch

        self._decoding, self._prompt_length, self._end = decoding, prompt_length, end
        self._bad_words = [
            (torch.tensor(word[:-1], dtype=torch.long, device=device), word[-1])
            for word in decoding.bad_words
            if word != (end,)
        ]

    def apply(self, scores: torch.Tensor, sequences: Sequences) -> torch.Tensor:
        """The scores [rows, vocabulary] after all rules; the given tensor is not changed."""
        decoding = self._decoding
        if decoding.repetition_penalty != 1.0:
            scores = self._penalise(scores, sequences)
        if decoding.no_repeat_ngram_size > 0:
            scores = self._ban_repeats(scores, sequences, decoding.no_repeat_ngram_size)
        if self._bad_words:
            scores = self._ban_words(scores, sequences)
        if decoding.min_new_tokens > 0:
            short = sequences.lengths < self._prompt_length + decoding.min_new_tokens
            scores = scores.clone()
            scores[:, self._end].masked_fill_(short, -math.inf)
        return scores

    def _penalise(self, scores: torch.Tensor, sequences: Sequences) -> torch.Tensor:
        import torch
        from torch.nn import functional

        penalty, vocabulary = self._decoding.repetition_penalty, scores.shape[1]
        ids = sequences.ids[:, : sequences.longest]
        written = torch.arange(sequences.longest, device=ids.device) < sequences.lengths[:, None]
        # What is not written yet falls into an extra column.
        ids = ids.where(written, vocabulary)
        padded = functional.pad(scores, (0, 1))
        seen = padded.gather(1, ids)
        return padded.scatter_(1, ids, torch.where(seen < 0, seen * penalty, seen / penalty))[:, :-1]

    def _ban_repeats(self, scores: torch.Tensor, sequences: Sequences, size: int) -> torch.Tensor:
        import torch

        longest = sequences.longest
        if longest < size:
            return scores
        windows = sequences.ids[:, :longest].unfold(1, size, 1)
        suffix = _last(sequences, size - 1)
        ends = torch.arange(size - 1, longest, device=scores.device)
        repeated = (windows[..., :-1] == suffix[:, None]).all(-1) & (ends < sequences.lengths[:, None])
        return _mask(scores, windows[..., -1].where(repeated, scores.shape[1]))

    def _ban_words(self, scores: torch.Tensor, sequences: Sequences) -> torch.Tensor:
        import torch

        rows, vocabulary = scores.shape
        columns = []
        for start, last in self._bad_words:
            met = (_last(sequences, len(start)) == start).all(-1) & (sequences.lengths >= len(start))
            columns.append(torch.full((rows,), last, device=scores.device).where(met, vocabulary))
        return _mask(scores, torch.stack(columns, dim=1))


def _last(sequences: Sequences, count: int) -> torch.Tensor:
    """The last `count` ids of every sequence; undefined where a sequence is shorter."""
    import torch

    index = sequences.lengths[:, None] + torch.arange(-count, 0, device=sequences.ids.device)
    return sequences.ids.gather(1, index.clamp_(min=0))


def _mask(scores: torch.Tensor, banned: torch.Tensor) -> torch.Tensor:
    """Scores with minus infinity at the ids `banned` [rows, any]; the size of the vocabulary stands for no id."""
    import torch

    mask = torch.zeros(scores.shape[0], scores.shape[1] + 1, dtype=torch.bool, device=scores.device)
    return scores.masked_fill(mask.scatter_(1, banned, True)[:, :-1], -math.inf)


def sampling_probabilities(scores: torch.Tensor, decoding: GenerationConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """The probabilities [rows, vocabulary] to sample from, greatest first, and their ids.

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


def sample(probabilities: torch.Tensor, ids: torch.Tensor, chance: torch.Tensor) -> torch.Tensor:
    """The ids [rows] at which the probabilities, summed from the greatest on, pass `chance` [rows] (0 <= chance < 1).

    One random number per token: rounding in the logits changes the choice only near a boundary.
    """
    import torch

    sums = probabilities.double().cumsum(-1)
    index = torch.searchsorted(sums, chance[:, None] * sums[:, -1:], right=True)
    return ids.gather(1, index.clamp_(max=ids.shape[1] - 1)).squeeze(1)
