"""A tagger and a captioner that need no framework: their answers come from the hash of each image.

They load in no time, so tests of workers, signals, memory and devices run them in place of a real model.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from hashlib import shake_256
from typing import Any

import numpy as np

from sdprep.models.base import ModelFiles, ModelSpec
from sdprep.models.taggers.label_file import read_columns
from sdprep.types import Batch, Caption, Prediction, TagScores


class FakeModel:
    """What both have in common; images are small, unless the description says otherwise."""

    provider = "fake"
    notes: tuple[str, ...] = ()

    def __init__(self, spec: ModelSpec) -> None:
        self.fit = spec.image.fit_to(spec.image.size or 32)

    def predict(self, batches: Iterable[Batch]) -> Iterator[tuple[Hashable, Prediction]]:
        """The same answer for the same image, always."""
        for batch in batches:
            prompts = batch.prompts or ("",) * len(batch.keys)
            for key, digest, prompt in zip(batch.keys, batch.digests, prompts, strict=True):
                yield key, self.answer(digest, prompt)

    def answer(self, digest: bytes, prompt: str) -> Prediction:
        """The answer for an image of this hash."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is held."""


class FakeTagger(FakeModel):
    """A tagger that gives every label of its label file a score. Raises ModelError as the label file does."""

    def __init__(self, spec: ModelSpec, files: ModelFiles, _: Any = None) -> None:
        super().__init__(spec)
        self.labels, _columns = read_columns(spec, files)

    def answer(self, digest: bytes, _: str) -> TagScores:
        """A score between 0 and 1 for each label."""
        size = len(self.labels.names)
        numbers = np.frombuffer(shake_256(digest).digest(2 * size), "<u2")
        return TagScores(numbers.astype(np.float32) / np.float32(65535))


class FakeCaptioner(FakeModel):
    """A captioner whose caption names the image's hash and repeats the prompt; its files are not read."""

    def __init__(self, spec: ModelSpec, *_: Any) -> None:
        super().__init__(spec)

    def answer(self, digest: bytes, prompt: str) -> Caption:
        """Three words that no other image gets, and the prompt."""
        text = f"fake caption {digest.hex()[:8]} {prompt}".rstrip()
        return Caption(text, n_tokens=len(text.split()), finish_reason="stop", score=-1.0)
