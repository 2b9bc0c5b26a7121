"""How a caption is searched for, and what a search finds: the settings of a decode loop without its framework."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sdprep.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationConfig:
    """The settings of a search, with the names and meanings of transformers' `GenerationConfig`.

    With `sample` tokens are drawn, else `num_beams` search (1 is greedy). Lengths count new tokens, the end token
    among them. `bad_words` are sequences of token ids that must not appear. `num_return_sequences` is the number of
    captions for each image: the best beams, or samples with seeds of their own. The length penalty counts
    `forced_tokens` of the prompt too.
    Raises UsageError for settings that contradict each other.
    """

    min_new_tokens: int = 0
    max_new_tokens: int = 75
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    bad_words: tuple[tuple[int, ...], ...] = ()
    sample: bool = False
    top_k: int = 0
    top_p: float = 1.0
    temperature: float = 1.0
    seed: int = 0
    num_return_sequences: int = 1
    forced_tokens: int = 0

    def __post_init__(self) -> None:
        if self.sample and self.num_beams > 1:
            raise UsageError("a caption is either sampled or searched with several beams, not both")
        if not self.sample and self.num_return_sequences > self.num_beams:
            raise UsageError(
                f"{self.num_beams} beams cannot give {self.num_return_sequences} captions: use more beams, or sample"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionOptions:
    """What a captioner is asked for; the model's tokenizer turns its words into ids.

    `generation` has no `bad_words` yet, and with `count_prompt` its lengths include the tokens of the prompt. `stated`
    names its fields that a run or the model's description states.
    `prompt` is the same for all images; captioners that are asked about each image find that in its batch, after the
    `system` prompt. A server is sent no more than `max_requests`, nor more than `max_cost` pays for, and an image
    only with `insecure` to a public address without TLS; its requests are noted in `request_log`.
    `retry_repetition` gives a repetitive caption a second try. `reference` decodes with the framework's own
    search instead of sdprep's. `allow_pickle` lets weights be a pickle.
    """

    generation: GenerationConfig = GenerationConfig()
    stated: frozenset[str] = frozenset()
    prompt: str = ""
    bad_words: tuple[str, ...] = ()
    count_prompt: bool = False
    retry_repetition: bool = False
    system: str = ""
    max_requests: int | None = None
    max_cost: float | None = None
    insecure: bool = False
    request_log: Path | None = None
    reference: bool = False
    allow_pickle: bool = False


@dataclass(frozen=True, slots=True)
class GeneratedCaption:
    """One caption as token ids, without its prompt and its end token.

    `finish_reason` is "stop" or "length". `score` is the mean natural log-probability of its tokens, the end token
    included, by the logits as the model gave them.
    """

    tokens: tuple[int, ...]
    finish_reason: str
    score: float


def hypothesis(ids: list[int], end: int, log_probability: float) -> GeneratedCaption:
    """A caption from its new ids, of which the last may be `end`, and the sum of their log-probabilities."""
    stopped = ids[-1:] == [end]
    tokens = tuple(ids[:-1] if stopped else ids)
    return GeneratedCaption(tokens, "stop" if stopped else "length", log_probability / max(1, len(ids)))


def stream_seed(digest: bytes, seed: int, number: int = 0) -> int:
    """The seed of the random stream of an image's caption: its content, the seed of the run and which caption it is.

    64 bits. Hashed, so that neighbouring seeds have no stream in common.
    """
    mixed = hashlib.blake2b(digest + f" {seed} {number}".encode(), digest_size=8)
    return int.from_bytes(mixed.digest(), "big")
