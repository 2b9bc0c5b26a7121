"""Greedy search, sampling and beam search, one token at a time, over groups of sequences that began at different times.

A group is one image's beams, or a single sequence. The state of all groups is in tensors with the group as first axis,
so that a finished group can be replaced by another. Nothing in a step waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from sdprep.models.captioners.blip.logits import LogitsProcessors, Sequences, sample, sampling_probabilities
from sdprep.models.captioners.generation import GeneratedCaption, GenerationConfig, hypothesis

if TYPE_CHECKING:
    import torch

# transformers' beam search uses this for minus infinity; sums with it must round as theirs do.
NEVER = -1.0e9


@dataclass(slots=True)
class State:
    """Groups in progress. `ids` is [groups, beams, room], of which `lengths` [groups] are written, prompt included.

    `sums` [groups, beams] adds up the log-probabilities by the model's own logits. `done` [groups].
    """

    ids: torch.Tensor
    lengths: torch.Tensor
    sums: torch.Tensor
    done: torch.Tensor

    def tensors(self) -> Iterator[torch.Tensor]:
        """All tensors of the state."""
        return (getattr(self, each.name) for each in fields(self))

    def part(self, start: int, stop: int) -> Any:
        """Some groups, as a view that can be written to."""
        return type(self)(*(each[start:stop] for each in self.tensors()))

    def on_cpu(self, groups: list[int]) -> Any:
        """A copy of some groups on the CPU."""
        import torch

        index = torch.tensor(groups, device=self.lengths.device)
        return type(self)(*(each[index].cpu() for each in self.tensors()))

    def assign(self, other: State) -> None:
        """Overwrite these groups with the same number of others."""
        for mine, theirs in zip(self.tensors(), other.tensors(), strict=True):
            mine.copy_(theirs)


class _Search:
    """A way of choosing tokens. `beams` is the number of sequences in a group."""

    def __init__(self, decoding: GenerationConfig, prompt_length: int, end: int, device: torch.device) -> None:
        import torch

        self.beams = decoding.num_beams
        self._decoding, self._prompt_length, self._end = decoding, prompt_length, end
        self._processors = LogitsProcessors(decoding, prompt_length, end, device)
        # What beam search divides by, by number of new tokens.
        lengths = (n + decoding.forced_tokens for n in range(decoding.max_new_tokens + 1))
        penalties = [max(1, length) ** decoding.length_penalty for length in lengths]
        self._penalties = torch.tensor(penalties, device=device)


@dataclass(slots=True)
class RowState(State):
    """Single sequences; `chances` [groups, max new tokens] are the random numbers of each."""

    chances: torch.Tensor


class RowSearch(_Search):
    """The likeliest token at each step, or a sampled one."""

    def start(self, prompts: torch.Tensor, seeds: list[int]) -> RowState:
        """The state of new groups, one per prompt [groups, prompt] and seed."""
        import torch
        from torch.nn import functional

        groups, most, device = len(prompts), self._decoding.max_new_tokens, prompts.device
        chances = torch.zeros(groups, 0, dtype=torch.float64, device=device)
        if self._decoding.sample:
            streams = [torch.Generator().manual_seed(seed) for seed in seeds]
            chances = torch.stack([torch.rand(most, dtype=torch.float64, generator=each) for each in streams])
        return RowState(
            functional.pad(prompts, (0, most)).unsqueeze(1),
            torch.full((groups,), self._prompt_length, device=device),
            torch.zeros(groups, 1, device=device),
            torch.zeros(groups, dtype=torch.bool, device=device),
            chances.to(device),
        )

    def advance(self, state: RowState, logits: torch.Tensor, longest: int) -> None:
        """Write one more token in every sequence.

        `logits` is [groups * beams, vocabulary]; `longest` is the greatest length of a sequence so far.
        """
        logits = logits.float()
        scores = self._processors.apply(logits, Sequences(state.ids[:, 0], state.lengths, longest))
        if self._decoding.sample:
            new = state.lengths[:, None] - self._prompt_length
            chance = state.chances.gather(1, new).squeeze(1)
            token = sample(*sampling_probabilities(scores, self._decoding), chance)
        else:
            token = scores.argmax(-1)
        state.sums.add_(logits.gather(1, token[:, None]) - logits.logsumexp(-1, keepdim=True))
        state.ids.scatter_(2, state.lengths[:, None, None], token[:, None, None])
        state.lengths.add_(1)
        full = state.lengths >= self._prompt_length + self._decoding.max_new_tokens
        state.done.copy_((token == self._end) | full)

    def attention_mask(self, state: RowState, longest: int) -> torch.Tensor:
        """Which keys each sequence attends to, bool[groups, beams, longest * beams], position by position."""
        import torch

        positions = torch.arange(longest, device=state.lengths.device)
        return (positions < state.lengths[:, None])[:, None]

    def captions(self, state: RowState, group: int) -> list[GeneratedCaption]:
        """The captions of a finished group, best first."""
        ids = state.ids[group, 0, self._prompt_length : int(state.lengths[group])].tolist()
        return [hypothesis(ids, self._end, float(state.sums[group, 0]))]


@dataclass(slots=True)
class BeamState(State):
    """Beams. `scores` orders the running ones. `best_*` are the finished ones, best first; `improvable` [groups].

    `writers` [groups, beams, room] is the beam that wrote the keys of each position of a beam's past.
    """

    scores: torch.Tensor
    best_ids: torch.Tensor
    best_lengths: torch.Tensor
    best_sums: torch.Tensor
    best_scores: torch.Tensor
    best_finished: torch.Tensor
    improvable: torch.Tensor
    writers: torch.Tensor


class BeamSearch(_Search):
    """The beam search of transformers 5.23 (`GenerationMixin._beam_search`), group by group.

    A group is done when transformers would no longer change its finished beams, whatever other groups do.
    """

    def start(self, prompts: torch.Tensor, seeds: list[int]) -> BeamState:  # noqa: ARG002 - nothing is random
        """As in `RowSearch`, and so are the other methods."""
        import torch
        from torch.nn import functional

        groups, beams, device = len(prompts), self.beams, prompts.device
        ids = functional.pad(prompts, (0, self._decoding.max_new_tokens))[:, None].repeat(1, beams, 1)
        never = torch.full((groups, beams), NEVER, device=device)
        none, zeros = torch.zeros(groups, beams, dtype=torch.bool, device=device), torch.zeros_like(never)
        lengths = torch.full((groups,), self._prompt_length, device=device)
        return BeamState(
            ids=ids,
            lengths=lengths,
            sums=zeros,
            done=none[:, 0].clone(),
            # All beams are equal at first, so only one of them counts.
            scores=torch.cat([zeros[:, :1], never[:, 1:]], dim=1),
            best_ids=ids.clone(),
            best_lengths=lengths[:, None].repeat(1, beams),
            best_sums=zeros.clone(),
            best_scores=never,
            best_finished=none,
            improvable=~none[:, :1],
            writers=torch.zeros_like(ids),
        )

    def advance(self, state: BeamState, logits: torch.Tensor, longest: int) -> None:
        import torch

        groups, beams = state.scores.shape
        own = logits.float().log_softmax(-1)
        sequences = Sequences(state.ids.flatten(0, 1), state.lengths.repeat_interleave(beams), longest)
        scores = self._processors.apply(own, sequences).view(groups, beams, -1) + state.scores[..., None]
        top, index = scores.flatten(1).topk(2 * beams)
        parent, token = index // own.shape[1], index % own.shape[1]
        sums = state.sums.gather(1, parent) + own.view(groups, -1).gather(1, index)
        position = state.lengths[:, None, None].expand(groups, 2 * beams, 1)
        ids = _select(state.ids, parent).scatter_(2, position, token[..., None])
        full = state.lengths + 1 >= self._prompt_length + self._decoding.max_new_tokens
        ended = (token == self._end) | full[:, None]
        self._keep_finished(state, top, ended, sums, ids)
        running = top + ended * NEVER
        kept = running.topk(beams).indices
        state.ids.copy_(_select(ids, kept))
        state.scores.copy_(running.gather(1, kept))
        state.sums.copy_(sums.gather(1, kept))
        state.writers.copy_(_select(state.writers, parent.gather(1, kept)))
        slots = torch.arange(beams, device=ids.device).expand(groups, beams)
        state.writers.scatter_(2, position[:, :beams], slots[..., None])
        state.lengths.add_(1)
        self._update_done(state, ended)

    def _keep_finished(
        self, state: BeamState, top: torch.Tensor, ended: torch.Tensor, sums: torch.Tensor, ids: torch.Tensor
    ) -> None:
        """Add candidates that ended to the finished ones if they are better; only the first half counts."""
        import torch

        beams = self.beams
        counted = ended & (torch.arange(2 * beams, device=top.device) < beams)
        scores = top / self._penalties[state.lengths + 1 - self._prompt_length, None]
        if self._decoding.early_stopping is True:
            scores = scores + state.best_finished.all(1, keepdim=True) * NEVER
        scores = scores + ~state.improvable * NEVER + ~counted * NEVER
        lengths = (state.lengths + 1)[:, None].expand_as(scores)
        merged = torch.cat([state.best_scores, scores], dim=1)
        best = merged.topk(beams).indices
        state.best_scores.copy_(merged.gather(1, best))
        state.best_ids.copy_(_select(torch.cat([state.best_ids, ids], dim=1), best))
        for mine, new in (
            (state.best_lengths, lengths), (state.best_sums, sums), (state.best_finished, counted),
        ):  # fmt: skip
            mine.copy_(torch.cat([mine, new], dim=1).gather(1, best))

    def _update_done(self, state: BeamState, ended: torch.Tensor) -> None:
        """Mark groups as done in which no running beam can become better than the worst finished one."""
        import torch

        decoding, new = self._decoding, state.lengths - self._prompt_length
        if decoding.early_stopping == "never" and decoding.length_penalty > 0:
            new = torch.full_like(new, decoding.max_new_tokens)
        possible = state.scores[:, :1] / self._penalties[new, None]
        worst = state.best_scores.amin(1, keepdim=True).where(state.best_finished, NEVER)
        state.improvable.logical_and_((possible > worst).any(1, keepdim=True))
        enough = state.best_finished.all(1) if decoding.early_stopping is True else torch.zeros_like(state.done)
        state.done.copy_(~state.improvable[:, 0] | enough | ended.all(1))

    def attention_mask(self, state: BeamState, longest: int) -> torch.Tensor:
        import torch

        positions, slots = (torch.arange(n, device=state.lengths.device) for n in (longest, self.beams))
        written = positions[:, None] < state.lengths[:, None, None, None]
        return ((state.writers[..., :longest, None] == slots) & written).flatten(2)

    def captions(self, state: BeamState, group: int) -> list[GeneratedCaption]:
        # Without a finished beam the logits were NaN, and so is the score.
        scored = state.best_sums.where(state.best_finished, math.nan)
        ids, lengths, sums = (
            each[group, : self._decoding.num_return_sequences].tolist()
            for each in (state.best_ids, state.best_lengths, scored)
        )
        return [
            hypothesis(sequence[self._prompt_length : length], self._end, total)
            for sequence, length, total in zip(ids, lengths, sums, strict=True)
        ]


def _select(beams: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """The beams [groups, beams, room] at `index` [groups, any]."""
    return beams.gather(1, index[..., None].expand(-1, -1, beams.shape[2]))


Search = RowSearch | BeamSearch
