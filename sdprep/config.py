"""The settings of every command, as frozen dataclasses that check themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path, PurePath
from typing import Any, Literal, TypeVar

from sdprep.choices import check_choices
from sdprep.devices import check_devices, parse_devices
from sdprep.errors import UsageError
from sdprep.images.formats import IMAGE_SUFFIXES
from sdprep.rules.captions import CaptionRules
from sdprep.rules.combine import Combine
from sdprep.rules.exclude import compile_exclusion
from sdprep.rules.labels import ARGMAX_CATEGORIES, MCUT, STORED_FLOOR, TagRules
from sdprep.rules.shapes import setting
from sdprep.rules.where.parse import parse
from sdprep.sanitize import check_text_option
from sdprep.types import MAX_PIXELS

T = TypeVar("T")
# The threshold that the model's card recommends.
AUTO = "auto"
# A little above 1 a threshold writes nothing, which kohya's users know as a way to leave a category out.
THRESHOLD_CEILING = 2.0
Preprocess = Literal["sdprep", "kohya"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PathOptions:
    """Which images a run is about, and where they, their sidecars and the catalog are.

    `where` is a filter in the language of `rules/where`.
    """

    where: str | None = setting(None, shapes=None)
    recursive: bool = setting(True, shapes=None)
    follow_links: bool = setting(False, shapes=None)
    sidecar_name: Literal["stem", "full"] = setting("stem", shapes=None, remembered=True)
    output_dir: Path | None = setting(None, shapes=None)
    catalog: Path | None = setting(None, shapes=None)

    def __post_init__(self) -> None:
        check_choices(self)
        if self.where is not None:
            parse(self.where)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How `caption` and `tag` process images; nothing here changes a caption or tag by itself."""

    batch_size: int = setting(8, shapes=None)
    workers: int = setting(2, shapes=None)
    memory: int = setting(512, shapes=None)
    image_timeout: float = setting(60.0, shapes=None)
    max_pixels: int = setting(MAX_PIXELS, shapes=None)
    allow_truncated: bool = setting(False, shapes=None)
    existing: Literal["keep", "overwrite", "append", "prepend", "fill"] = setting("keep", shapes=None)
    update: bool = setting(False, shapes=None)
    refresh: bool = setting(False, shapes=None)
    limit: int | None = setting(None, shapes=None)
    dry_run: bool = setting(False, shapes=None)
    debug: bool = setting(False, shapes=None)
    timings: bool = setting(False, shapes=None)

    def __post_init__(self) -> None:
        check_choices(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class TagSettings:
    """The settings of `sdprep tag`.

    `preprocess` is "sdprep" or "kohya", or None for what the model's file says. `rules.threshold` may also be "auto",
    the threshold of the model's card. `tag_thresholds` is a CSV file, or "model" for those of the model's own label
    file. `model_dir` is a folder with models that kohya's script downloaded. Several models answer one after the other,
    and `combine` says how their answers become one.
    """

    model: str | tuple[str, ...] = setting("wd-v1-4-swinv2-tagger-v2", shapes="model")
    combine: Combine = setting("union", shapes="text")
    backend: Literal["auto", "onnx", "tensorflow"] = setting("auto", shapes="model")
    provider: str = setting("auto", shapes=None)
    device: str = setting("auto", shapes=None)
    preprocess: Preprocess | None = setting(None, shapes="model")
    exact_decode: bool = setting(False, shapes="model")
    model_dir: Path | None = setting(None, shapes="model")
    force_download: bool = setting(False, shapes=None)
    rules: TagRules = TagRules()
    tag_thresholds: str | None = setting(None, shapes="text")
    aliases: Path | None = setting(None, shapes="text")
    implications: Path | None = setting(None, shapes="text")
    caption_separator: str = setting(", ", shapes="text")
    caption_extension: str = setting(".txt", shapes=None, remembered=True)
    scores: Path | None = setting(None, shapes=None)
    scores_min: float = setting(0.05, shapes=None)
    frequency_tags: bool = setting(False, shapes=None)
    paths: PathOptions = PathOptions()
    run: RunOptions = RunOptions()

    def __post_init__(self) -> None:
        check_choices(self)
        if not self.models:
            raise UsageError("--model is empty; name a model")
        check_devices(self.device, self.run.workers)
        own = self.rules.own_thresholds()
        _check_thresholds([self.rules.threshold, *own.values(), self.scores_min])
        for category in ARGMAX_CATEGORIES:
            if category in own:
                raise UsageError(f"the category {category} takes no threshold: its most probable tag is used")
        for entry in (*self.rules.exclude, *self.rules.always_first_tags):
            compile_exclusion(entry)
        check_extension(self, "caption_extension")
        check_text_option(caption_separator=self.caption_separator)
        if not self.caption_separator:
            raise UsageError("--caption-separator is empty, so tags would run together")

    @property
    def models(self) -> tuple[str, ...]:
        """The models, each once."""
        return (self.model,) if isinstance(self.model, str) else tuple(dict.fromkeys(self.model))

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that share the run."""
        return parse_devices(self.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeSettings:
    """The settings of `sdprep models quantize`; `min_f1` is the lowest accepted F1 against the original."""

    precision: Literal["int8", "fp16"] = "int8"
    out: Path | None = None
    threshold: float = 0.35
    min_f1: float = 0.95
    force: bool = False
    sample: int = 100

    def __post_init__(self) -> None:
        check_choices(self)
        for name, value in (("threshold", self.threshold), ("floor", self.min_f1)):
            if not 0 <= value <= 1:
                raise UsageError(f"--{name} must be a number from 0 to 1, not {value:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSettings:
    """The settings of `sdprep bench`."""

    model: str = "wd-v1-4-swinv2-tagger-v2"
    batch_size: int = 8
    workers: int = 2
    limit: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionSettings:
    """The settings of `sdprep caption`.

    Lengths count the tokens of the caption, and those of the prompt too with `count_prompt`. `best_of` captions are
    made for each image and ranked by likelihood. `top_k` 0 and `no_repeat_ngram_size` 0 mean no limit.
    `decode_again` retries a caption that repeats itself. `allow_pickle` allows weights in a pickle file.
    `cuda_graphs` turns on optimisations for CUDA devices that have not run on one yet. What is None is as the model's
    description says. `server` is the address of a server that has the model, or of several; each gets `in_flight`
    requests at a time.
    `prompt` and `system_prompt` are templates (`rules/prompt.py`); the tags in them are those of the sidecars with
    `tag_extension`, and `trigger` is a variable of theirs.
    """

    model: str = setting("blip-large", shapes="model")
    server: str | tuple[str, ...] | None = setting(None, shapes="model")
    prompt: str | None = setting(None, shapes="result")
    system_prompt: str | None = setting(None, shapes="result")
    trigger: str = setting("", shapes="result")
    num_beams: int | None = setting(None, shapes="result")
    sample: bool | None = setting(None, shapes="result")
    temperature: float | None = setting(None, shapes="result")
    top_p: float | None = setting(None, shapes="result")
    top_k: int | None = setting(None, shapes="result")
    repetition_penalty: float | None = setting(None, shapes="result")
    no_repeat_ngram_size: int | None = setting(None, shapes="result")
    bad_words: tuple[str, ...] = setting((), shapes="result")
    best_of: int | None = setting(None, shapes="text")
    decode_again: bool = setting(True, shapes="result")
    count_prompt: bool = setting(False, shapes="result")
    min_length: int | None = setting(None, shapes="result")
    max_length: int | None = setting(None, shapes="result")
    seed: int = setting(42, shapes="result")
    device: str = setting("auto", shapes=None)
    dtype: Literal["float32", "bfloat16", "float16", "int8"] = setting("float32", shapes="model")
    quantize: Literal["none", "4bit"] = setting("none", shapes="model")
    decoder: Literal["fast", "reference"] = setting("fast", shapes="result")
    cuda_graphs: bool = setting(False, shapes=None)
    preprocess: Preprocess | None = setting(None, shapes="model")
    exact_decode: bool = setting(False, shapes="model")
    allow_pickle: bool = setting(False, shapes=None)
    in_flight: int = setting(4, shapes=None)
    max_requests: int | None = setting(None, shapes=None)
    max_cost: float | None = setting(None, shapes=None)
    insecure: bool = setting(False, shapes=None)
    rules: CaptionRules = CaptionRules()
    caption_extension: str = setting(".caption", shapes=None, remembered=True)
    tag_extension: str = setting(".txt", shapes=None, remembered=True)
    paths: PathOptions = PathOptions()
    run: RunOptions = RunOptions()

    def __post_init__(self) -> None:
        check_choices(self)
        check_extension(self, "caption_extension")
        check_extension(self, "tag_extension")
        check_text_option(prompt=self.prompt or "", system_prompt=self.system_prompt or "", trigger=self.trigger)
        _check_server_options(self)
        check_devices(self.device, self.run.workers)
        if self.decoder == "reference" and self.dtype == "int8":
            raise UsageError("--decoder reference does not support int8; use --dtype float32, or leave --decoder out")
        if None not in (self.min_length, self.max_length) and self.min_length > self.max_length:  # type: ignore[operator]
            raise UsageError(f"--min-length {self.min_length} is more than --max-length {self.max_length}")
        if self.best_of is not None and (many := self.rules.captions) > self.best_of:
            raise UsageError(f"{many} captions cannot be the best of {self.best_of}; use --best-of {many} or more")
        if self.sample is False and self.num_beams is not None and self.candidates > self.num_beams:
            raise UsageError(
                f"{self.num_beams} beams cannot give {self.candidates} captions; use --num-beams {self.candidates} "
                "or --sample"
            )

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that share the run."""
        return parse_devices(self.device)

    @property
    def candidates(self) -> int:
        """How many captions are made for each image."""
        return self.best_of or self.rules.captions


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeSettings:
    """The settings of `sdprep merge`."""

    output: Path | None = setting(None, shapes=None)
    in_json: Path | None = setting(None, shapes=None)
    keys: Literal["absolute", "relative", "stem"] = setting("absolute", shapes=None, remembered=True)
    fields: tuple[Literal["caption", "tags", "image_size"], ...] = setting(
        ("caption", "tags", "image_size"), shapes=None, remembered=True
    )
    missing: Literal["skip", "empty", "error"] = setting("skip", shapes=None, remembered=True)
    prune: bool = setting(False, shapes=None)
    caption_extension: str = setting(".caption", shapes=None, remembered=True)
    tag_extension: str = setting(".txt", shapes=None, remembered=True)
    paths: PathOptions = PathOptions()
    dry_run: bool = setting(False, shapes=None)
    debug: bool = setting(False, shapes=None)

    def __post_init__(self) -> None:
        check_choices(self)
        check_extension(self, "caption_extension")
        check_extension(self, "tag_extension")
        if not self.fields:
            raise UsageError("--fields is empty; name caption, tags or image_size")


# Each command with settings that files may hold, and their class.
SETTINGS: dict[str, type] = {"caption": CaptionSettings, "tag": TagSettings, "merge": MergeSettings}


def table_of(command: str) -> str:
    """The command whose settings count for a command: those on captions and tags find sidecars as merge does."""
    return command if command in SETTINGS else "merge"


def option_names(kind: type) -> set[str]:
    """The options of a command: the fields of its settings, and of the rules, paths and run options in them."""
    names: set[str] = set()
    for each in fields(kind):
        names |= option_names(type(each.default)) if is_dataclass(each.default) else {each.name}
    return names


def remembered_options(kind: type) -> frozenset[str]:
    """The options of a command that are remembered, besides `preset`: those whose fields say so."""
    names: set[str] = set()
    for each in fields(kind):
        if is_dataclass(each.default):
            names |= remembered_options(type(each.default))
        elif each.metadata["remembered"]:
            names.add(each.name)
    return frozenset(names)


def value_of(settings: Any, name: str) -> Any:
    """The value of an option in the settings of a command. Raises KeyError if it has no such option."""
    for each in fields(settings):
        value = getattr(settings, each.name)
        if is_dataclass(value) and name in option_names(type(value)):
            return value_of(value, name)
        if each.name == name:
            return value
    raise KeyError(name)


def with_options(settings: T, values: Mapping[str, Any]) -> T:
    """The same settings with other values by option name; values of other names are ignored.

    Raises UsageError if the settings contradict each other.
    """
    made: dict[str, Any] = {}
    for each in fields(settings):  # type: ignore[arg-type]
        if is_dataclass(each.default):
            made[each.name] = with_options(getattr(settings, each.name), values)
        elif each.name in values:
            made[each.name] = values[each.name]
    return replace(settings, **made)  # type: ignore[type-var]


def from_options(kind: type[T], values: Mapping[str, Any]) -> T:
    """Make the settings of a command from values by option name; values of other names are ignored.

    Raises UsageError if the settings contradict each other.
    """
    made: dict[str, Any] = {}
    for each in fields(kind):  # type: ignore[arg-type]
        if is_dataclass(each.default):
            made[each.name] = from_options(type(each.default), values)
        elif each.name in values:
            made[each.name] = values[each.name]
    return kind(**made)


def _check_thresholds(values: Iterable[float | str]) -> None:
    """Raise UsageError unless each is a probability that is stored, "auto" or "mcut"."""
    for value in values:
        if isinstance(value, str):
            if value not in (AUTO, MCUT):
                raise UsageError(f"--threshold takes a probability such as 0.35, {AUTO} or {MCUT}, not '{value}'")
        elif not value <= THRESHOLD_CEILING:
            raise UsageError(f"a threshold is a probability such as 0.35, not {value:g}")
        elif value < STORED_FLOOR:
            raise UsageError(f"a threshold of {value:g} is below {STORED_FLOOR:g}, the lowest probability stored")


def _check_server_options(settings: CaptionSettings) -> None:
    if settings.in_flight < 1:
        raise UsageError("--in-flight must be 1 or more")
    if settings.temperature is not None and not 0 <= settings.temperature <= 5:
        raise UsageError(f"--temperature must be a number from 0 to 5, not {settings.temperature:g}")


def check_extension(settings: Any, name: str) -> None:
    """Put a missing dot before an extension, as trainers do. Raises UsageError if no sidecar may have it."""
    value = getattr(settings, name)
    extension = value if value.startswith(".") else f".{value}"
    if (
        not extension.strip(".")
        or set(extension) & set('/\\:*?"<>|\0\n')
        or PurePath(f"a{extension}").suffix.lower() in IMAGE_SUFFIXES
    ):
        raise UsageError(
            f"--{name.replace('_', '-')} '{value}' cannot be the extension of a sidecar; use .txt, for example"
        )
    object.__setattr__(settings, name, extension)
