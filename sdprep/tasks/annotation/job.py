"""What a run makes of each image, and what is known of an image before a model sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from sdprep.catalog.catalog import Catalog
from sdprep.catalog.journal import Change
from sdprep.catalog.schema import FileStat
from sdprep.models.base import ModelFiles, ModelSpec
from sdprep.models.files.hub import identity
from sdprep.rules.policy import Action, Decision, SidecarStatus, TextRequest
from sdprep.texts.sidecar import sidecar_path
from sdprep.types import MAX_PIXELS, ImageItem, ImageWarning

if TYPE_CHECKING:
    from sdprep.tasks.annotation.prompts import Prompts

# The setting under which a text remembers how its model was described; it is explicit together with the model.
MODEL_DESCRIPTION = "model_description"

S = TypeVar("S")
# Gives the names of images with their stored results, and what reads these.
Results = Callable[[], Iterable[tuple[str, bytes, "ResultReader"]]]
# Replaces an existing file so that `undo` can bring it back.
Replace = Callable[[Change], None]


class ResultReader(Protocol):
    """Reads the results of one model, which are the bytes that a catalog stores."""

    def render(self, result: bytes) -> list[str]:
        """The pieces of text that a result becomes: tags, or captions."""

    def warning(self, result: bytes) -> ImageWarning | None:
        """What the user should know about the text of a result."""

    def is_sound(self, result: bytes) -> bool:
        """Whether these bytes are a result; damaged ones count as missing."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a run makes of an image.

    `joiner` separates the pieces of a text. `result_key` is everything that a result depends on besides the image; it
    is None while the model's files are not on this machine, and then no result can be looked up. `decoder` is what a
    failure to decode depends on. With `accepts_truncated`, results of truncated images are used too. With
    `counts_tags`, the report says how often each tag occurs in the sidecars. A captioner is asked `prompt` about each
    image, or what `prompts` makes of it where it depends on the image. A result that `is_paid` is stored at once.

    A job that combines the results of several models has the jobs of the single ones as `members`, and no result key.
    `answering` is then the place of the model that is asked now.
    """

    request: TextRequest
    extension: str
    naming: str
    joiner: str
    reader: ResultReader
    result_key: dict[str, Any] | None
    decoder: str
    accepts_truncated: bool = False
    counts_tags: bool = False
    max_pixels: int = MAX_PIXELS
    prompt: str = ""
    prompts: Prompts | None = None
    is_paid: bool = False
    members: tuple[Job, ...] = ()
    answering: int = 0

    @property
    def has_key(self) -> bool:
        """Whether stored results can be looked up."""
        return all(member.has_key for member in self.members) if self.members else self.result_key is not None

    @property
    def truncated_key(self) -> dict[str, Any]:
        """The key of results of truncated images."""
        return truncated_key(self.result_key or {})

    def sidecar(self, item: ImageItem) -> Path:
        """The sidecar of an image."""
        return sidecar_path(item.target, self.extension, self.naming)


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """An image with its job: its catalog, its size and time, the bytes of its sidecar, and what to do about it.

    `prompt` is that of `Part`, and the item has the prompt itself.
    """

    item: ImageItem
    job: Job
    catalog: Catalog
    stamp: FileStat
    before: bytes | None
    disk: SidecarStatus
    decision: Decision
    result: bytes | None = None
    warnings: tuple[ImageWarning, ...] = ()
    prompt: Mapping[str, str] = field(default_factory=dict)

    @property
    def leaves_sidecar(self) -> bool:
        """Whether the sidecar stays as it is."""
        return self.decision.action in (Action.KEEP, Action.CURRENT)


def truncated_key(result_key: dict[str, Any]) -> dict[str, Any]:
    """The key of results of truncated images, from that of whole ones."""
    return {**result_key, "incomplete": True}


def result_digest(digest: bytes, prompts: Prompts | None, prompt: str) -> bytes:
    """The digest under which the result of an image is stored: with its prompt, where that depends on the image."""
    return digest if prompts is None else sha256(digest + prompt.encode()).digest()


class Annotator(Protocol):
    """What makes caption and tag differ, for images of the same settings, with what the model itself states."""

    spec: ModelSpec
    settings: Any

    def job(self, files: ModelFiles | None) -> Job:
        """The job with the model's files, or without them while they are not on this machine."""


@dataclass(frozen=True, slots=True)
class Combination:
    """Several models for the same images; `combine` makes one job of theirs."""

    members: tuple[Annotator, ...]
    combine: Callable[[tuple[Job, ...]], Job]


@dataclass(slots=True)
class Member:
    """A model of a part; without `files` until they are on this machine."""

    annotator: Annotator
    files: ModelFiles | None
    job: Job

    @property
    def spec(self) -> ModelSpec:
        """The description of the model."""
        return self.annotator.spec

    @property
    def found(self) -> ModelFiles:
        """The files, once they are on this machine."""
        if self.files is None:
            raise AssertionError("the files of a model were asked for before they were there")
        return self.files


@dataclass(slots=True)
class Part(Generic[S]):
    """The images of a run with the same settings, the models that answer for them, and what is made of the answers."""

    settings: S
    items: list[ImageItem]
    members: list[Member]
    combination: Combination | None
    job: Job = field(init=False)

    def __post_init__(self) -> None:
        self.combine()

    def combine(self) -> None:
        """Make the job of those of the models."""
        jobs = tuple(member.job for member in self.members)
        self.job = jobs[0] if self.combination is None else self.combination.combine(jobs)


def model_settings(spec: ModelSpec, described: ModelSpec, files: ModelFiles | None, exact: bool) -> dict[str, Any]:
    """What a text remembers of its model; `described` is the model without this run's `preprocess`."""
    return {
        "model": identity(spec, files),
        MODEL_DESCRIPTION: described.fingerprint(),
        "preprocess": spec.image.preprocess,
        "exact_decode": spec.is_exact(exact),
    }


def model_key(spec: ModelSpec, files: ModelFiles, precision: str, exact: bool) -> dict[str, Any]:
    """What a result depends on of its model."""
    what = {"task": spec.task, "weights": files.weights, "precision": precision}
    return {**what, **spec.result_key(), **spec.decoding(exact)}
