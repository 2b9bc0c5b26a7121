"""What a model is to the rest of the house."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import msgspec

from sdprep.report import CancelToken
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

    fit: Literal["pad", "letterbox", "squash", "inside"] | None = None
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


class PromptSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a captioner is asked: `user` and `system` are templates (`rules/prompt.py`), and `presets` has more by name.

    `form` is how the chat template of the model takes it: a list of "parts", a "string", or "plain" without a template.
    `template` has variables of that template. The answer begins with `prefill`.
    """

    user: str = ""
    system: str = ""
    presets: dict[str, str] = {}
    form: Literal["parts", "string", "plain"] = "parts"
    template: dict[str, bool | int | str] = {}
    prefill: str = ""


class GenerateSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a caption is searched for unless a run states it, by the names of transformers; temperature 0 is greedy."""

    max_new_tokens: int | None = None
    min_new_tokens: int | None = None
    num_beams: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    no_repeat_ngram_size: int | None = None


class AnswerSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What becomes of an answer: its think blocks are stripped, it is one line, and `cut_before` words begin it."""

    think: Literal["strip", "keep"] = "strip"
    one_line: bool = True
    cut_before: tuple[str, ...] = ()


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a server asks for a million tokens, in its own currency."""

    input: Annotated[float, msgspec.Meta(ge=0)]
    output: Annotated[float, msgspec.Meta(ge=0)]


class ServerSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A server with the Chat Completions API, or several, and the name under which they serve the model.

    `key_env` names the environment variable with the key. `extra` is merged into the body of each request. `max_bytes`
    is the limit of an image as base64. With a JSON `schema`, an answer is a JSON object.
    """

    url: str | tuple[str, ...]
    model: str
    key_env: str | None = None
    extra: dict[str, Any] = {}
    max_bytes: Annotated[int, msgspec.Meta(ge=20_000)] = 5_000_000
    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None
    price: Price | None = None
    schema: dict[str, Any] = {}

    @property
    def urls(self) -> tuple[str, ...]:
        """The addresses, each once."""
        return (self.url,) if isinstance(self.url, str) else tuple(dict.fromkeys(self.url))

    def __str__(self) -> str:
        return f"server{'s' if len(self.urls) > 1 else ''} {', '.join(self.urls)}"


class ModelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that differs between checkpoints, as a TOML file says it.

    `threshold` is the model card's own operating point, one for all or one for each category.
    `savedmodel` names the same tagger's files for TensorFlow, where `files` are those for ONNX.
    `megabytes` is about the size of the download, for who chooses before it is known.
    `output` is the name or the place of the graph's output that has the scores, and `answers` what they are.
    `model_type` is that of a captioner's config.json. Of `server` there are no files.
    """

    name: str
    task: Task
    backend: str
    source: Source = Source()
    files: tuple[str, ...] = ()
    image: ImageSpec = ImageSpec()
    savedmodel: tuple[str, ...] = ()
    labels: LabelSpec | None = None
    answers: Literal["probabilities", "logits"] = "probabilities"
    output: str | int = 0
    threshold: float | dict[str, float] | None = None
    precision: Literal["float32", "fp16", "int8"] = "float32"
    model_type: str | None = None
    prompt: PromptSpec = PromptSpec()
    generate: GenerateSpec = GenerateSpec()
    answer: AnswerSpec = AnswerSpec()
    server: ServerSpec | None = None
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
            "graph": self.files[0] if self.files else "",
            "image": msgspec.to_builtins(self.image),
            "answers": self.answers,
            "output": self.output,
            "labels": labels,
            **self._conversation_key(),
        }

    def _conversation_key(self) -> dict[str, Any]:
        """What shapes a result of prompt and answer besides the prompts themselves; nothing if it is not described."""
        prompt = msgspec.structs.replace(self.prompt, user="", system="", presets={})
        found = {"form": (prompt, PromptSpec()), "answer": (self.answer, AnswerSpec())}
        key = {name: msgspec.to_builtins(value) for name, (value, plain) in found.items() if value != plain}
        if self.server is not None:
            key |= {"served": self.server.model, "extra": self.server.extra, "max_bytes": self.server.max_bytes}
            key |= {"schema": self.server.schema} if self.server.schema else {}
        return key

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


@runtime_checkable
class WaitingModel(Protocol):
    """A model that waits for what another machine does: it is given the `stop` of a run, and waits no longer then."""

    stop: CancelToken


class LabelledModel(Model, Protocol):
    """A tagger: a model with one label table for the whole run."""

    labels: LabelTable
