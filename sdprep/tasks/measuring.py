"""Pictures for making a smaller model and for measuring it, and the measurement."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from sdprep.config import Layout
from sdprep.data.decoder import file_digest
from sdprep.data.image import decode
from sdprep.data.source import FolderSource
from sdprep.errors import ImageError, ModelError, UsageError
from sdprep.models.agreement import Agreement, agreement
from sdprep.models.wd_onnx import OnnxTagger
from sdprep.rules.labels import CHOSEN
from sdprep.types import Batch, Decoded, Failure, ImageItem, TagScores

if TYPE_CHECKING:
    from sdprep.types import Scores

BATCH = 8


@dataclass(frozen=True, slots=True)
class Sample:
    """Decoded pictures in the order of their content's checksums, and those that could not be read."""

    pictures: tuple[Decoded, ...]
    failures: tuple[Failure, ...]

    @property
    def to_calibrate(self) -> tuple[Decoded, ...]:
        """Every other picture."""
        return self.pictures[::2]

    @property
    def held_out(self) -> tuple[Decoded, ...]:
        """The rest, which the new model has not seen before it is measured."""
        return self.pictures[1::2]


def read_sample(images: Path, model: OnnxTagger, count: int) -> Sample:
    """At least two and at most `count` different pictures of a folder, those with the lowest checksums.

    So the same pictures under other names or in another order give the same model. Raises UsageError if there are
    fewer than two, NoImages if there are none.
    """
    items: dict[bytes, ImageItem] = {}
    failures: list[Failure] = []
    for item in FolderSource(images, Layout()).items():
        try:
            items.setdefault(file_digest(item), item)
        except ImageError as error:
            failures.append(Failure(item, error.code, str(error)))
    pictures: list[Decoded] = []
    for digest in sorted(items):
        if len(pictures) == count:
            break
        outcome = decode(items[digest], model.fit)
        if isinstance(outcome, Failure):
            failures.append(outcome)
        else:
            pictures.append(outcome)
    if len(pictures) < 2:
        raise UsageError(f"{images}: one half of the pictures is to measure the other, but {len(pictures)} can be read")
    return Sample(tuple(pictures), tuple(failures))


class Yardstick:
    """The original's scores of the pictures that were held out, to measure copies by; `seconds` a picture."""

    def __init__(self, original: OnnxTagger, sample: Sample, threshold: float) -> None:
        self._pictures, self._threshold = sample.held_out, threshold
        # These have no threshold: the best of each is written.
        self._columns = [place for place, word in enumerate(original.labels.categories) if word not in CHOSEN]
        self._expected, self.seconds = _scores(original, self._pictures)

    def measure(self, copy: OnnxTagger) -> tuple[Agreement, float]:
        """The agreement of a copy, and its seconds a picture.

        Raises ModelError if it answers with NaN, or if the original finds no tag, so that nothing can be compared.
        """
        found, seconds = _scores(copy, self._pictures)
        broken, of = int((~np.isfinite(found).all(axis=1)).sum()), len(self._pictures)
        if broken:
            raise ModelError(f"the new model answers with NaN or infinity for {broken} of {of} pictures; not kept")
        measured = agreement(self._expected[:, self._columns], found[:, self._columns], self._threshold)
        if measured.tags == 0:
            raise ModelError(
                f"the original finds no tag at {self._threshold:g} on {of} pictures: nothing can be compared\n"
                "Give pictures of the kind that you tag, or a lower --threshold"
            )
        return measured, seconds


def _scores(tagger: OnnxTagger, pictures: Sequence[Decoded]) -> tuple[Scores, float]:
    """Scores, float32[pictures, labels], and the seconds a picture."""
    chunks = [pictures[at : at + BATCH] for at in range(0, len(pictures), BATCH)]
    batches = [Batch(tuple(range(len(chunk))), (), np.stack([each.pixels for each in chunk])) for chunk in chunks]
    began = time.perf_counter()
    found = [cast(TagScores, prediction).scores for _, prediction in tagger.predict(batches)]
    return np.stack(found), (time.perf_counter() - began) / len(pictures)
