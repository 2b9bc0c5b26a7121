"""What a model is to the rest of the house."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from sdprep.rules.tags import LabelTable
from sdprep.types import Batch, Fit, Prediction

Task = Literal["caption", "tag"]


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the files of a model lie: a Hub repository at a revision, a local folder, or a folder in the package."""

    repo: str | None = None
    revision: str = "main"
    path: str | None = None
    bundled: str | None = None


class ImageSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the weights expect a picture. `size` is only needed where the weights do not tell it themselves."""

    fit: Literal["pad", "squash"]
    size: int | None = None
    pad_color: tuple[int, int, int] = (255, 255, 255)
    channels: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


class LabelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The label file of a tagger and the meaning of its category codes."""

    file: str
    categories: dict[str, int]


class ModelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that differs between checkpoints, as a TOML file says it.

    `threshold` is the model card's own operating point, for information.
    `savedmodel` names the same tagger's files for TensorFlow, where `files` are those for ONNX.
    """

    name: str
    task: Task
    backend: Literal["onnx", "tensorflow", "blip"]
    source: Source
    files: tuple[str, ...]
    image: ImageSpec
    savedmodel: tuple[str, ...] = ()
    labels: LabelSpec | None = None
    threshold: float | None = None
    precision: Literal["float32", "fp16", "int8"] = "float32"
    licence: str | None = None
    description: str = ""

    def recipe(self) -> dict[str, Any]:
        """What of this description shapes a result, besides the weights themselves."""
        return {"backend": self.backend, "image": msgspec.to_builtins(self.image)}

    def fingerprint(self) -> str:
        """A checksum of what of this description shapes a text: who mends it gets new texts."""
        labels = msgspec.to_builtins(self.labels)
        shape = {"image": msgspec.to_builtins(self.image), "labels": labels}
        return sha256(msgspec.json.encode(shape, order="sorted")).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of a model on this machine, and the SHA-256 over all of them."""

    folder: Path
    revision: str | None
    weights: str


class Model(Protocol):
    """A model that is loaded.

    `predict` takes batches and gives each picture's prediction under its key, in any order; it may read ahead.
    """

    fit: Fit

    def predict(self, batches: Iterable[Batch]) -> Iterator[tuple[Hashable, Prediction]]:
        """The predictions of all pictures of the batches."""

    def close(self) -> None:
        """Free what the model holds."""


class LabelledModel(Model, Protocol):
    """A tagger: a model with one label table for the whole run, what runs it, and what a person should know of that."""

    labels: LabelTable
    provider: str
    notes: tuple[str, ...]
