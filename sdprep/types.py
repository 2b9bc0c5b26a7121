"""The nouns that travel from a source to a sink.

An `ImageItem` becomes a `Decoded` image or a `Failure`; decoded images become a `Batch`; a model turns a
batch into predictions; a run ends in a `RunReport` in which every image is counted once.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]
    Scores = npt.NDArray[np.float32]


# Larger images are not decoded unless --max-pixels is raised.
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
    REFUSED = "refused"
    EMPTY_ANSWER = "empty_answer"
    MALFORMED = "malformed"
    REQUEST_FAILED = "request_failed"
    CHANGED_SINCE = "changed_since"
    UNWRITABLE = "unwritable"


class ImageWarning(str, Enum):
    """What the user should know about an image that has a result, or about its sidecar; a closed list."""

    TRUNCATED = "truncated"
    ANIMATED = "animated"
    MISNAMED = "misnamed"
    METADATA = "metadata"
    CUT = "cut"
    REPETITIVE = "repetitive"
    EMPTY_SIDECAR = "empty_sidecar"
    NOT_UTF_8 = "not_utf_8"
    SEVERAL_LINES = "several_lines"
    FLAT = "flat"
    BLANK = "blank"
    NO_TAGS = "no_tags"

    @property
    def message(self) -> str:
        """The warning in words."""
        return WARNING_MESSAGES[self]


WARNING_MESSAGES = {
    ImageWarning.TRUNCATED: "truncated: part of what the model saw is blank",
    ImageWarning.ANIMATED: "animated: only the first frame was used",
    ImageWarning.MISNAMED: "format differs from the file name",
    ImageWarning.METADATA: "metadata damaged or too large: only the pixels were read",
    ImageWarning.CUT: "cut at the maximum number of tokens",
    ImageWarning.REPETITIVE: "repeats itself",
    ImageWarning.EMPTY_SIDECAR: "trainers cannot read it: it has 0 bytes",
    ImageWarning.NOT_UTF_8: "trainers cannot read it: it is not UTF-8; save it as UTF-8",
    ImageWarning.SEVERAL_LINES: "several lines: trainers read only the first one, unless enable_wildcard is on",
    ImageWarning.FLAT: "scores without a gap, so --threshold mcut cuts anywhere; use a number",
    ImageWarning.BLANK: "blank caption: no words in it",
    ImageWarning.NO_TAGS: "no tag reaches its threshold, so its file is blank",
}


class KeptReason(str, Enum):
    """Why an existing sidecar was left as it is; a closed list."""

    FOREIGN = "foreign"
    EDITED = "edited"
    OTHER_TASK = "other_task"
    NOT_EMPTY = "not_empty"
    NOTHING_TO_ADD = "nothing_to_add"
    CHANGED_MEANWHILE = "changed_meanwhile"
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class ImageItem:
    """One image: where it lies, its name in reports, and the place that its sidecars are named after.

    `folder` is an input of the run, absolute; `rel` is its path there, with forward slashes, after the `prefix` that
    tells several inputs apart. No two images of a run have the same `rel`. `target_folder` equals `folder` unless an
    output folder mirrors the tree. An image that `is_link` is read through that link, and its sidecars lie beside it.
    `prompt` is what a captioner is asked about it; it does not tell images apart.
    A million of these share their folders, and paths are made when asked for.
    """

    folder: Path
    rel: str
    target_folder: Path
    prefix: str = ""
    is_link: bool = False
    prompt: str = field(default="", compare=False)

    @classmethod
    def at(cls, path: Path) -> ImageItem:
        """The image of a path, in a run over its folder."""
        return cls(path.parent, path.name, path.parent)

    @property
    def within(self) -> str:
        """Its path in `folder`, and that of its target in `target_folder`."""
        return self.rel[len(self.prefix) :]

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.folder / self.within

    @property
    def target(self) -> Path:
        """The path that its sidecars are named after."""
        return self.target_folder / self.within

    def __str__(self) -> str:
        return self.rel


@dataclass(frozen=True, slots=True)
class Fit:
    """How an image becomes a model's square of `size` pixels, or one whose longer side has at most so many.

    `mode` is "pad" (centred on a square of `pad_color`, then resized), "letterbox" (resized to the long side, then
    centred on such a square), "squash" (resized, aspect ignored), "crop" (the middle of a larger square) or "inside"
    (no square: the image keeps its shape, and is never enlarged).
    `resampling` is "bicubic", "bilinear", "lanczos" or "area". `first` is what comes before all this. `preprocess` is
    "sdprep", or "kohya" for the pixels of kohya's tagger. Images of more than `max_pixels` are not let in, and those
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
    def is_exact(self) -> bool:
        """Whether every pixel counts and each value is Pillow's: asked for, or since kohya's scripts have it so."""
        return self.exact or self.preprocess == "kohya"


@dataclass(frozen=True, slots=True)
class Decoded:
    """An image ready for a model: `pixels` is uint8[H, W, 3] in RGB, `digest` the SHA-256 of the file's bytes.

    `size` is the width and height of the file, before any rotation, if the decoder tells it.
    """

    item: ImageItem
    digest: bytes
    pixels: Pixels
    warnings: tuple[ImageWarning, ...] = ()
    size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that has no result, and why. `digest` is known when the file could be read.

    With `is_known` it failed in an earlier run and was not tried again.
    """

    item: ImageItem
    code: FailureCode
    message: str
    digest: bytes | None = None
    is_known: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """Images for a model in RGB: `pixels` is uint8[N, H, W, 3], or for the fit "inside" a uint8[H, W, 3] for each.

    `digests` lets a sampler seed each row; `prompts` has what a captioner is asked about each image.
    """

    keys: tuple[Hashable, ...]
    digests: tuple[bytes, ...]
    pixels: Pixels | tuple[Pixels, ...]
    prompts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Served:
    """What a server says about its answer: the model and the system that gave it, and the tokens of the request."""

    model: str = ""
    fingerprint: str = ""
    prompt_tokens: int | None = None

    def __str__(self) -> str:
        return f"{self.model} ({self.fingerprint})" if self.fingerprint else self.model


@dataclass(frozen=True, slots=True)
class Caption:
    """A caption as the model gave it, without its prompt.

    `finish_reason` is "stop" or "length"; `score` is the mean log-probability of a token, if the model gives one.
    `others` are further captions of the image, as the search ranks them; `again` says that this is a second try,
    after a repetitive one. `served` is where it comes from, if that is a server; it does not tell captions apart.
    """

    text: str
    n_tokens: int
    finish_reason: str
    score: float | None = None
    others: tuple[Caption, ...] = ()
    again: bool = False
    served: Served | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class TagScores:
    """Probabilities, float32[n_labels], over the label table of the model."""

    scores: Scores


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """What a model gives for an image that it has no answer for: the image then fails with this code."""

    code: FailureCode
    message: str


Prediction = Caption | TagScores | NoAnswer


@dataclass(frozen=True, slots=True)
class Predicted:
    """A prediction that has found its image again; `size` is that of the decoded image."""

    item: ImageItem
    digest: bytes
    prediction: Prediction
    warnings: tuple[ImageWarning, ...] = ()
    size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """The prediction for one image, as the bytes that a catalog stores; `size` is that of the decoded image."""

    item: ImageItem
    digest: bytes
    data: bytes
    warnings: tuple[ImageWarning, ...] = ()
    size: tuple[int, int] | None = None
