"""The nouns that travel from a source to a sink.

An `ImageItem` becomes a `Decoded` picture or a `Failure`; decoded pictures become a `Batch`; a model turns a
batch into predictions; a run ends in a `RunReport` in which every image is counted once.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sdprep.spelling import json_ready

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]
    Scores = npt.NDArray[np.float32]


# Larger pictures are not decoded, unless a person says so.
MAX_PIXELS = 100_000_000


class FailureCode(str, Enum):
    """Why an image has no result; a closed list."""

    EMPTY_FILE = "empty_file"
    NOT_AN_IMAGE = "not_an_image"
    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    TOO_LARGE = "too_large"
    UNREADABLE = "unreadable"
    CHANGING = "changing"
    MISSING_DECODER = "missing_decoder"
    STEM_COLLISION = "stem_collision"
    BAD_TEXT = "bad_text"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"
    TIMED_OUT = "timed_out"
    NONFINITE = "nonfinite"
    CHANGED_SINCE = "changed_since"
    UNWRITABLE = "unwritable"


class Remark(str, Enum):
    """What a person should know of a picture that a model was shown; a closed list."""

    INCOMPLETE = "incomplete: a part of what the model saw is blank"
    ANIMATED = "animated: only its first frame was looked at"
    MISNAMED = "of another format than its name says"


@dataclass(frozen=True, slots=True)
class ImageItem:
    """One picture: where it lies, its name in reports, and the place that its sidecars are named after.

    `folder` is that of the run, absolute; `rel` is relative to it, with forward slashes. `target_folder` equals it
    unless an output folder mirrors the tree. A million of these share their folders, and paths are made when asked for.
    """

    folder: Path
    rel: str
    target_folder: Path

    @classmethod
    def at(cls, path: Path) -> ImageItem:
        """The picture of a path, in a run over its folder."""
        return cls(path.parent, path.name, path.parent)

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.folder / self.rel

    @property
    def target(self) -> Path:
        """The path that its sidecars are named after."""
        return self.target_folder / self.rel

    def __str__(self) -> str:
        return self.rel


@dataclass(frozen=True, slots=True)
class Fit:
    """How a picture becomes a model's square of `size` pixels.

    `mode` is "pad" (centred on a square of `pad_color`, then resized), "letterbox" (resized to the long side, then
    centred on such a square), "squash" (resized, aspect ignored) or "crop" (the middle of a larger square).
    `resampling` is "bicubic", "bilinear", "lanczos" or "area". `first` is what comes before all this. `preprocess` is
    "sdprep", or "kohya" for the pixels of kohya's tagger. Pictures of more than `max_pixels` are not let in, and those
    whose end is missing only with `allow_truncated`. Unless it is `exact`, values may differ from Pillow's by a
    rounding, and large JPEG files may be shrunk while they are decoded.
    """

    size: int
    mode: str
    pad_color: tuple[int, int, int] = (255, 255, 255)
    resampling: str = "bicubic"
    first: Fit | None = None
    preprocess: str = "sdprep"
    max_pixels: int = MAX_PIXELS
    allow_truncated: bool = False
    exact: bool = False

    @property
    def as_pillow(self) -> bool:
        """Whether every pixel counts and each value is Pillow's: asked for, or since kohya's scripts have it so."""
        return self.exact or self.preprocess == "kohya"


@dataclass(frozen=True, slots=True)
class Decoded:
    """A picture ready for a model: `pixels` is uint8[H, W, 3] in RGB, `digest` the SHA-256 of the file's bytes."""

    item: ImageItem
    digest: bytes
    pixels: Pixels
    remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that has no result, and why. `digest` is known when the file could be read."""

    item: ImageItem
    code: FailureCode
    message: str
    digest: bytes | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Pictures of one size: `pixels` is uint8[N, H, W, 3] in RGB; `digests` lets a sampler seed each row."""

    keys: tuple[Hashable, ...]
    digests: tuple[bytes, ...]
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class Caption:
    """A caption as the model gave it, without its prompt.

    `finish_reason` is "stop" or "length"; `score` is the mean log-probability of a token. `others` are further
    captions of the picture, as the search ranks them; `again` says that this is a second try, after one that had lost
    its thread.
    """

    text: str
    n_tokens: int
    finish_reason: str
    score: float
    others: tuple[Caption, ...] = ()
    again: bool = False


@dataclass(frozen=True, slots=True)
class TagScores:
    """Probabilities, float32[n_labels], over the label table of the model."""

    scores: Scores


Prediction = Caption | TagScores


@dataclass(frozen=True, slots=True)
class Predicted:
    """A prediction that has found its picture again."""

    item: ImageItem
    digest: bytes
    prediction: Prediction
    remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """The prediction for one image, as the bytes that a catalog stores."""

    item: ImageItem
    digest: bytes
    data: bytes
    remarks: tuple[Remark, ...] = ()


class Listener(Protocol):
    """Hears what a run is doing; the command line draws bars with it, a library user may ignore it."""

    def note(self, message: str) -> None:
        """Something that a person should read."""

    def start(self, total: int) -> None:
        """The model is about to see this many images."""

    def advance(self) -> None:
        """One more image has an outcome."""


class Silent:
    """A listener that says nothing."""

    def note(self, message: str) -> None:
        """Ignore the message."""

    def start(self, total: int) -> None:
        """Ignore the total."""

    def advance(self) -> None:
        """Ignore the step."""


class Stop:
    """A wish to end early, set by a signal: the batch in hand is finished, the rest is `remaining`.

    A run sets `heeded` while it looks at the wish; at other times (a download, say) a signal may end it at once. From
    `deadline` on, a time of `time.monotonic`, the batch in hand is not waited for either.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self.heeded = False
        self.deadline = math.inf

    def __bool__(self) -> bool:
        return self.exit_code is not None


@dataclass(slots=True)
class RunReport:
    """What became of every image: `found` is the sum of the next five counts; `predicted` were shown to the model."""

    command: str
    found: int = 0
    written: int = 0
    current: int = 0
    kept: int = 0
    failed: int = 0
    remaining: int = 0
    missing: int = 0
    kept_paths: list[str] = field(default_factory=list)
    missing_paths: list[str] = field(default_factory=list)
    image_changed: list[str] = field(default_factory=list)
    other_settings: int = 0
    predicted: int = 0
    failures: list[dict[str, str]] = field(default_factory=list)
    flagged: list[dict[str, str]] = field(default_factory=list)
    model: str | None = None
    revision: str | None = None
    provider: str | None = None
    output: str | None = None
    tag_counts: dict[str, int] | None = None
    run: str | None = None
    dry_run: bool = False
    stopped: int | None = None
    seconds: float = 0.0

    def fail(self, failure: Failure) -> None:
        """Count one failed image and name it."""
        self.refuse(failure.item.rel, failure.code, failure.message)

    def refuse(self, path: str, code: FailureCode, message: str) -> None:
        """Count one file with which nothing could be done, and name it."""
        self.failed += 1
        self.failures.append({"path": path, "code": code.value, "message": message})

    def keep(self, rel: str) -> None:
        """Count one image whose text was left as it is, and name it."""
        self.kept += 1
        self.kept_paths.append(rel)

    def check(self) -> None:
        """Raise AssertionError unless every image found is in exactly one count."""
        if self.uncounted:
            counted = self.found - self.uncounted
            raise AssertionError(f"{self.found} images were found but {counted} are accounted for")

    @property
    def uncounted(self) -> int:
        """The images that have no outcome: none when a run has ended as it should."""
        return self.found - self.written - self.current - self.kept - self.failed - self.remaining

    @property
    def exit_code(self) -> int:
        """0 done, 3 some images failed, 130 interrupted, 143 terminated."""
        if self.stopped is not None:
            return self.stopped
        return 3 if self.failed else 0

    def as_dict(self) -> dict[str, Any]:
        """The run report as JSON-ready values, schema 1."""
        values = {name: json_ready(getattr(self, name)) for name in self.__slots__}
        return {"schema": 1, **values, "seconds": round(self.seconds, 3)}
