"""Greedy search, sampling and beam search, one token at a time, over groups of texts that began at different times.

A group is one image's beams, or one text. The state of all groups lies in tensors with the group as first axis, so that
a group that is done can leave and another take its place. Nothing in a step waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

from sdprep.models.captioners.blip.logits import LogitsProcessors, Texts, drawn, nucleus
from sdprep.models.captioners.generation import GeneratedCaption, GenerationConfig, hypothesis

if TYPE_CHECKING:
    import torch

# What stands for minus infinity in transformers' beam search; sums with it must round as theirs do.
NEVER = -1.0e9


@dataclass(slots=True)
class State:
    """Groups under way. `ids` is [groups, beams, room], `lengths` [groups] how much of it is written (prompt included).

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
        """Some groups, as a view: what is written to it is written here."""
        return type(self)(*(each[start:stop] for each in self.tensors()))

    def taken(self, groups: list[int]) -> Any:
        """Some groups by themselves, where a processor can read them."""
        import torch

        index = torch.tensor(groups, device=self.lengths.device)
        return type(self)(*(each[index].cpu() for each in self.tensors()))

    def assign(self, other: State) -> None:
        """Overwrite these groups with as many others."""
        for mine, theirs in zip(self.tensors(), other.tensors(), strict=True):
            mine.copy_(theirs)


class Search(Protocol):
    """A way of choosing tokens. `beams` is the number of texts of a group."""

    beams: int

    def start(self, prompts: torch.Tensor, seeds: list[int]) -> Any:
        """The state of new groups, one for each of the prompts [groups, prompt] and seeds."""

    def advance(self, state: Any, logits: torch.Tensor, longest: int) -> None:
        """Write one more token in every text.

        `logits` is [groups * beams, vocabulary]; `longest` the greatest length of a text so far.
        """

    def attention_mask(self, state: Any, longest: int) -> torch.Tensor:
        """Which keys each text may look at, bool[groups, beams, longest * beams], position by position."""

    def found(self, state: Any, group: int) -> list[GeneratedCaption]:
        """The captions of a group that is done, best first."""


@dataclass(slots=True)
class RowState(State):
    """Texts by themselves; `chances` [groups, most new tokens] are the random numbers of each."""

    chances: torch.Tensor


class RowSearch:
    """The likeliest token at each step, or a drawn one."""

    beams = 1

    def __init__(self, decoding: GenerationConfig, prompt_length: int, end: int, device: torch.device) -> None:
        self._decoding, self._prompt_length, self._end = decoding, prompt_length, end
        self._rules = LogitsProcessors(decoding, prompt_length, end, device)

    def start(self, prompts: torch.Tensor, seeds: list[int]) -> RowState:
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
        logits = logits.float()
        scores = self._rules.apply(logits, Texts(state.ids[:, 0], state.lengths, longest))
        if self._decoding.sample:
            new = state.lengths[:, None] - self._prompt_length
            token = drawn(*nucleus(scores, self._decoding), state.chances.gather(1, new).squeeze(1))
        else:
            token = scores.argmax(-1)
        state.sums.add_(logits.gather(1, token[:, None]) - logits.logsumexp(-1, keepdim=True))
        state.ids.scatter_(2, state.lengths[:, None, None], token[:, None, None])
        state.lengths.add_(1)
        full = state.lengths >= self._prompt_length + self._decoding.max_new_tokens
        state.done.copy_((token == self._end) | full)

    def attention_mask(self, state: RowState, longest: int) -> torch.Tensor:
        import torch

        positions = torch.arange(longest, device=state.lengths.device)
        return (positions < state.lengths[:, None])[:, None]

    def found(self, state: RowState, group: int) -> list[GeneratedCaption]:
        ids = state.ids[group, 0, self._prompt_length : int(state.lengths[group])].tolist()
        return [hypothesis(ids, self._end, float(state.sums[group, 0]))]


@dataclass(slots=True)
class BeamState(State):
    """Beams. `scores` orders those that run. `best_*` are the finished ones, best first; `improvable` [groups].

    `writers` [groups, beams, room] says which beam wrote the keys of each position of a beam's past.
    """

    scores: torch.Tensor
    best_ids: torch.Tensor
    best_lengths: torch.Tensor
    best_sums: torch.Tensor
    best_scores: torch.Tensor
    best_finished: torch.Tensor
    improvable: torch.Tensor
    writers: torch.Tensor


class BeamSearch:
    """The beam search of transformers 5.23 (`GenerationMixin._beam_search`), group by group.

    A group is done when transformers would change its finished beams no more, whatever other groups do.
    """

    def __init__(self, decoding: GenerationConfig, prompt_length: int, end: int, device: torch.device) -> None:
        import torch

        self.beams = decoding.num_beams
        self._decoding, self._prompt_length, self._end = decoding, prompt_length, end
        self._rules = LogitsProcessors(decoding, prompt_length, end, device)
        # By number of new tokens.
        penalties = [max(1, n) ** decoding.length_penalty for n in range(decoding.max_new_tokens + 1)]
        self._penalties = torch.tensor(penalties, device=device)

    def start(self, prompts: torch.Tensor, seeds: list[int]) -> BeamState:  # noqa: ARG002 - no chance in beams
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
            # All beams are alike at first, so only one of them counts.
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
        texts = Texts(state.ids.flatten(0, 1), state.lengths.repeat_interleave(beams), longest)
        scores = self._rules.apply(own, texts).view(groups, beams, -1) + state.scores[..., None]
        top, index = scores.flatten(1).topk(2 * beams)
        parent, token = index // own.shape[1], index % own.shape[1]
        sums = state.sums.gather(1, parent) + own.view(groups, -1).gather(1, index)
        place = state.lengths[:, None, None].expand(groups, 2 * beams, 1)
        ids = _chosen(state.ids, parent).scatter_(2, place, token[..., None])
        full = state.lengths + 1 >= self._prompt_length + self._decoding.max_new_tokens
        ended = (token == self._end) | full[:, None]
        self._keep_finished(state, top, ended, sums, ids)
        running = top + ended * NEVER
        kept = running.topk(beams).indices
        state.ids.copy_(_chosen(ids, kept))
        state.scores.copy_(running.gather(1, kept))
        state.sums.copy_(sums.gather(1, kept))
        state.writers.copy_(_chosen(state.writers, parent.gather(1, kept)))
        slots = torch.arange(beams, device=ids.device).expand(groups, beams)
        state.writers.scatter_(2, place[:, :beams], slots[..., None])
        state.lengths.add_(1)
        self._judge(state, ended)

    def _keep_finished(
        self, state: BeamState, top: torch.Tensor, ended: torch.Tensor, sums: torch.Tensor, ids: torch.Tensor
    ) -> None:
        """Put candidates that have ended among the finished ones, if they are better; only the first half counts."""
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
        state.best_ids.copy_(_chosen(torch.cat([state.best_ids, ids], dim=1), best))
        for mine, new in (
            (state.best_lengths, lengths), (state.best_sums, sums), (state.best_finished, counted),
        ):  # fmt: skip
            mine.copy_(torch.cat([mine, new], dim=1).gather(1, best))

    def _judge(self, state: BeamState, ended: torch.Tensor) -> None:
        """Whether a beam that runs may still be better than the worst that is finished; if not, the group is done."""
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

    def found(self, state: BeamState, group: int) -> list[GeneratedCaption]:
        # Without a finished beam the logits were no numbers, and the score says so.
        scored = state.best_sums.where(state.best_finished, math.nan)
        ids, lengths, sums = (
            each[group, : self._decoding.num_return_sequences].tolist()
            for each in (state.best_ids, state.best_lengths, scored)
        )
        return [
            hypothesis(text[self._prompt_length : length], self._end, total)
            for text, length, total in zip(ids, lengths, sums, strict=True)
        ]


def _chosen(beams: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Of [groups, beams, room] those at index [groups, any]."""
    return beams.gather(1, index[..., None].expand(-1, -1, beams.shape[2]))
