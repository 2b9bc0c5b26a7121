"""How an answer is searched for with transformers' `generate`: every sample has a random stream of its own."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sdprep.models.captioners.generation import GeneratedCaption, GenerationConfig, hypothesis

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class AnswerSearch:
    """A model with the settings of its search; `ends` are the tokens that end an answer.

    Each row of a batch is searched on its own: no setting of the model's own files has an effect, and a sample
    depends only on its seed.
    """

    transformers: Any
    model: Any
    decoding: GenerationConfig
    ends: tuple[int, ...]
    pad: int

    def answers(
        self, inputs: Any, seeds: Sequence[int], first: FirstScores | None = None
    ) -> list[list[GeneratedCaption]]:
        """The captions of each row of the inputs, beams by their rank; `seeds` has one for each row of a sample.

        `first` is shown the scores of the first token.
        """
        import torch

        decoding, prompt = self.decoding, inputs["input_ids"].shape[1]
        tracker = _Scores() if decoding.num_beams == 1 else None
        processors: list[Any] = [each for each in (first, tracker) if each is not None]
        processors += self._processors(prompt, inputs["input_ids"].device)
        if decoding.sample:
            processors.append(_Sampler([random.Random(seed) for seed in seeds]))
        several = decoding.num_beams > 1
        with torch.inference_mode():
            output = self.model.generate(
                **inputs,
                generation_config=self._config(several=several),
                logits_processor=self.transformers.LogitsProcessorList(processors),
            )
            new = output.sequences[:, prompt:]
            totals = tracker.totals(new) if tracker else None
        rows = [self._trimmed(row) for row in new.tolist()]
        if totals is None:
            scores = output.sequences_scores.tolist()
            found = [self._beam(row, score) for row, score in zip(rows, scores, strict=True)]
        else:
            sums = [sum(each[: len(row)]) for row, each in zip(rows, totals, strict=True)]
            found = [self._hypothesis(row, total) for row, total in zip(rows, sums, strict=True)]
        each = decoding.num_return_sequences if several else 1
        return [found[start : start + each] for start in range(0, len(found), each)]

    def first_scores(self, inputs: Any) -> torch.Tensor:
        """The log-probabilities float32[vocabulary] of the first token of the answer to one row."""
        import torch

        first = FirstScores(0)
        config = self._config(several=False, max_new_tokens=1)
        with torch.inference_mode():
            self.model.generate(
                **inputs, generation_config=config, logits_processor=self.transformers.LogitsProcessorList([first])
            )
        if first.scores is None:
            raise AssertionError("generate has asked for no token")
        return first.scores

    def _config(self, *, several: bool, **values: Any) -> Any:
        decoding = self.decoding
        beams = {
            "num_beams": decoding.num_beams,
            "num_return_sequences": decoding.num_return_sequences,
            "length_penalty": decoding.length_penalty,
            "early_stopping": decoding.early_stopping,
        }
        common = {
            "max_new_tokens": decoding.max_new_tokens,
            "do_sample": False,
            "eos_token_id": list(self.ends),
            "pad_token_id": self.pad,
            "return_dict_in_generate": True,
            "output_scores": several,
        }
        return self.transformers.GenerationConfig(**{**common, **(beams if several else {}), **values})

    def _processors(self, prompt: int, device: Any) -> list[Any]:
        """What shapes the scores of the next token, in the order of `generate`; repetition counts in the answer."""
        decoding, made = self.decoding, list[Any]()
        if decoding.repetition_penalty != 1.0:
            penalty = self.transformers.RepetitionPenaltyLogitsProcessor(decoding.repetition_penalty)
            made.append(_OfAnswer(penalty, prompt))
        if decoding.no_repeat_ngram_size:
            ban = self.transformers.NoRepeatNGramLogitsProcessor(decoding.no_repeat_ngram_size)
            made.append(_OfAnswer(ban, prompt))
        if decoding.bad_words:
            words = [list(word) for word in decoding.bad_words]
            made.append(self.transformers.NoBadWordsLogitsProcessor(words, list(self.ends)))
        if decoding.min_new_tokens:
            least = self.transformers.MinNewTokensLengthLogitsProcessor
            made.append(least(prompt, decoding.min_new_tokens, list(self.ends), device=device))
        if not decoding.sample:
            return made
        if decoding.temperature != 1.0:
            made.append(self.transformers.TemperatureLogitsWarper(float(decoding.temperature)))
        if decoding.top_k:
            made.append(self.transformers.TopKLogitsWarper(decoding.top_k))
        if decoding.top_p < 1.0:
            made.append(self.transformers.TopPLogitsWarper(decoding.top_p))
        return made

    def _trimmed(self, row: list[int]) -> list[int]:
        """New tokens up to the first that ends the answer, with it."""
        length = next((place + 1 for place, token in enumerate(row) if token in self.ends), len(row))
        return row[:length]

    def _hypothesis(self, row: list[int], total: float) -> GeneratedCaption:
        return hypothesis(row, row[-1] if row and row[-1] in self.ends else -1, total)

    def _beam(self, row: list[int], score: float) -> GeneratedCaption:
        return self._hypothesis(row, score * max(1, len(row)))


class FirstScores:
    """Keeps the log-probabilities of the first token in one row, as the model gave them; beams are rows too."""

    def __init__(self, row: int) -> None:
        self._row = row
        self.scores: torch.Tensor | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        if self.scores is None:
            self.scores = scores[self._row].float().log_softmax(-1)
        return scores


class _Scores:
    """Remembers the log-probabilities of the tokens that were chosen, by the scores as the model gave them."""

    def __init__(self) -> None:
        self._last: torch.Tensor | None = None
        self._chosen: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self._last is not None:
            self._chosen.append(self._last.gather(1, input_ids[:, -1:]))
        self._last = scores.float().log_softmax(-1)
        return scores

    def totals(self, new: torch.Tensor) -> list[list[float]]:
        """The log-probability of each new token of each row."""
        import torch

        if self._last is not None:
            self._chosen.append(self._last.gather(1, new[:, -1:]))
        found: list[list[float]] = torch.cat(self._chosen, 1).tolist()
        return found


class _OfAnswer:
    """Shows a processor only the answer: the words of a prompt may be repeated, and padding depends on the batch."""

    def __init__(self, processor: Any, prompt: int) -> None:
        self._processor, self._prompt = processor, prompt

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        shaped: torch.Tensor = self._processor(input_ids[:, self._prompt :], scores)
        return shaped


class _Sampler:
    """Leaves each row only the token that its own random numbers draw."""

    def __init__(self, streams: Sequence[random.Random]) -> None:
        self._streams = streams

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        import torch

        # Metal has no float64.
        precise = torch.float32 if scores.device.type == "mps" else torch.float64
        reached = scores.to(precise).softmax(-1).cumsum(-1)
        drawn = torch.tensor([[stream.random()] for stream in self._streams], dtype=precise, device=scores.device)
        chosen = torch.searchsorted(reached, drawn * reached[:, -1:], right=True).clamp_(max=scores.shape[-1] - 1)
        return torch.full_like(scores, -torch.inf).scatter_(1, chosen, 0.0)
