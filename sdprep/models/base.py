"""What a model is to the rest of the house."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import msgspec

from sdprep.rules.labels import LabelTable
from sdprep.types import Batch, Fit, Prediction

Task = Literal["caption", "tag"]
LARGEST_SIDE = 8192
Side = Annotated[int, msgspec.Meta(ge=1, le=LARGEST_SIDE)]
Level = Annotated[int, msgspec.Meta(ge=0, le=255)]
Megabytes = Annotated[int, msgspec.Meta(ge=1)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
# Far beyond what any model uses, and so that float32 holds a pixel less a mean and divided by a deviation.
LARGEST_MEAN, SMALLEST_STD = 1e6, 1e-6


def import_named(name: str) -> Any:
    """The class or function that `name` gives as "module:name", imported now."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the files of a model lie: a Hub repository at a revision, a local folder, or a folder in the package."""

    repo: str | None = None
    revision: str = "main"
    path: str | None = None
    bundled: str | None = None


class ImageSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the weights expect an image.

    `scale` is the range of the values before `mean` is taken off and the rest divided by `std`, both in the order of
    `channels`. `size` and `layout` are only needed where the weights do not tell them themselves. `recipe` names a file
    of the model that has all the rest (`taggers/preprocess_json.py`); without one there is a `fit`. `preprocess`
    "kohya" prepares images as kohya's scripts do.
    """

    fit: Literal["pad", "letterbox", "squash"] | None = None
    size: Side | None = None
    pad_color: tuple[Level, Level, Level] = (255, 255, 255)
    resampling: Literal["bicubic", "bilinear", "lanczos", "area"] = "bicubic"
    channels: Literal["rgb", "bgr"] = "rgb"
    scale: Literal["0..255", "0..1"] = "0..255"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[Positive, Positive, Positive] = (1.0, 1.0, 1.0)
    layout: Literal["nhwc", "nchw"] | None = None
    recipe: str | None = None
    preprocess: Literal["sdprep", "kohya"] = "sdprep"

    def fit_to(self, size: int) -> Fit:
        """How an image becomes a square of `size` pixels. Raises ValueError if a recipe says that."""
        if self.fit is None:
            raise ValueError("the file of image.recipe says how an image is fitted")
        return Fit(size, self.fit, self.pad_color, self.resampling, preprocess=self.preprocess)

    def fault_of_numbers(self) -> str | None:
        """Why pixels could not be normalised with `mean` and `std`."""
        if not all(map(math.isfinite, (*self.mean, *self.std))):
            return "image.mean and image.std must be finite numbers"
        if max(map(abs, (*self.mean, *self.std))) > LARGEST_MEAN or min(self.std) < SMALLEST_STD:
            return (
                f"image.mean and image.std must not exceed {LARGEST_MEAN:,.0f}, nor image.std be below {SMALLEST_STD}"
            )
        return None


class LabelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The label file of a tagger: `categories` gives our word for each of the file's codes or words.

    `within` is the place of the labels in a JSON file, names with dots between them. `thresholds` names the column of a
    CSV file that has a threshold for each label.
    """

    file: str
    categories: dict[str, int | str]
    within: str | None = None
    thresholds: str | None = None


class ModelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that differs between checkpoints, as a TOML file says it.

    `threshold` is the model card's own operating point, one for all or one for each category.
    `savedmodel` names the same tagger's files for TensorFlow, where `files` are those for ONNX.
    `megabytes` is about the size of the download, for who chooses before it is known.
    `output` is the name or the place of the graph's output that has the scores, and `answers` what they are.
    """

    name: str
    task: Task
    backend: str
    source: Source
    files: tuple[str, ...]
    image: ImageSpec
    savedmodel: tuple[str, ...] = ()
    labels: LabelSpec | None = None
    answers: Literal["probabilities", "logits"] = "probabilities"
    output: str | int = 0
    threshold: float | dict[str, float] | None = None
    precision: Literal["float32", "fp16", "int8"] = "float32"
    licence: str | None = None
    description: str = ""
    megabytes: Megabytes | None = None

    def is_exact(self, exact_decode: bool) -> bool:
        """Whether images are decoded whole: because a person wants that, or since kohya's scripts do so."""
        return exact_decode or self.image.preprocess == "kohya"

    def decoding(self, exact_decode: bool) -> dict[str, str]:
        """What of the way to decode images shapes a result: nothing if they are looked at whole."""
        # The first fast way shrank more images, and further.
        return {} if self.is_exact(exact_decode) else {"decode": "fast 2"}

    def result_key(self) -> dict[str, Any]:
        """What of this description shapes a result, besides the weights themselves."""
        labels = None if self.labels is None else [self.labels.file, self.labels.within]
        return {
            "backend": self.backend,
            "graph": self.files[0],
            "image": msgspec.to_builtins(self.image),
            "answers": self.answers,
            "output": self.output,
            "labels": labels,
        }

    def fingerprint(self) -> str:
        """A checksum of what in this description shapes a text, so that a corrected description gives new texts."""
        shape = {**self.result_key(), "labels": msgspec.to_builtins(self.labels)}
        # Both backends give the same scores, so a text does not depend on them.
        del shape["backend"], shape["graph"]
        return sha256(msgspec.json.encode(shape, order="sorted")).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files of a model on this machine, and the SHA-256 over all of them."""

    folder: Path
    revision: str | None
    weights: str


class Model(Protocol):
    """A model that is loaded.

    `predict` takes batches and gives each image's prediction under its key, in any order; it may read ahead.
    `provider` is what runs it, `notes` are what a person should know of that.
    """

    fit: Fit
    provider: str
    notes: tuple[str, ...]

    def predict(self, batches: Iterable[Batch]) -> Iterator[tuple[Hashable, Prediction]]:
        """The predictions of all images of the batches."""

    def close(self) -> None:
        """Free what the model holds."""


class LabelledModel(Model, Protocol):
    """A tagger: a model with one label table for the whole run."""

    labels: LabelTable
