"""The settings of every command, as frozen dataclasses, and the reading of `sdprep.toml`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from sdprep.errors import UsageError
from sdprep.rules.exclude import compile_exclusion
from sdprep.rules.labels import CHOSEN, MCUT, STORED_FLOOR, TagRules

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# The threshold that the model's card recommends.
AUTO = "auto"
# A little above 1 a threshold writes nothing, which kohya's users know as a way to leave a category out.
THRESHOLD_CEILING = 2.0
CONFIG_NAME = "sdprep.toml"
KEY_STYLES = ("absolute", "relative", "stem")
MISSING = ("skip", "empty", "error")
TABLES = ("caption", "tag", "merge")
# The pictures that are read.
PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".avif"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where pictures, sidecars and the catalog lie."""

    recursive: bool = True
    sidecar_name: str = "stem"
    output_dir: Path | None = None
    catalog: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """How a captioner or tagger run goes about its work; nothing here shapes a text."""

    batch_size: int = 8
    workers: int = 2
    image_timeout: float = 60.0
    existing: str = "keep"
    update: bool = False
    refresh: bool = False
    limit: int | None = None
    dry_run: bool = False
    debug: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TagSettings:
    """The settings of `sdprep tag`.

    `rules.threshold` may also be "auto", the threshold of the model's card. `tag_thresholds` is a CSV file, or "model"
    for those of the model's own label file. `model_dir` is a folder with models that kohya's script downloaded.
    """

    model: str = "wd-v1-4-swinv2-tagger-v2"
    backend: str = "auto"
    model_dir: Path | None = None
    force_download: bool = False
    rules: TagRules = TagRules()
    tag_thresholds: str | None = None
    aliases: Path | None = None
    implications: Path | None = None
    caption_separator: str = ", "
    caption_extension: str = ".txt"
    scores: Path | None = None
    scores_min: float = 0.05
    frequency_tags: bool = False
    layout: Layout = Layout()
    work: Work = Work()

    def __post_init__(self) -> None:
        own = self.rules.own_thresholds()
        _check_thresholds([self.rules.threshold, *own.values(), self.scores_min])
        for category in CHOSEN:
            if category in own:
                raise UsageError(f"the category {category} has no threshold: the best of it is taken")
        for entry in self.rules.exclude:
            compile_exclusion(entry)
        _check_extension(self, "caption_extension")
        if not self.caption_separator:
            raise UsageError("the caption separator is empty: tags would run together")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionSettings:
    """The settings of `sdprep caption`. Lengths count the tokens of the caption, without the prompt."""

    model: str = "blip-large"
    prompt: str = "a picture of"
    num_beams: int = 3
    sample: bool = False
    top_p: float = 0.9
    min_length: int = 5
    max_length: int = 75
    seed: int = 42
    device: str = "auto"
    dtype: str = "float32"
    caption_extension: str = ".caption"
    layout: Layout = Layout()
    work: Work = Work()

    def __post_init__(self) -> None:
        _check_extension(self, "caption_extension")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", self.device):
            raise UsageError(f"--device takes auto, cpu, cuda, cuda:N or mps, not '{self.device}'")
        if self.min_length > self.max_length:
            raise UsageError(f"--min-length {self.min_length} is more than --max-length {self.max_length}")


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeSettings:
    """The settings of `sdprep merge`."""

    output: Path | None = None
    in_json: Path | None = None
    keys: str = "absolute"
    fields: tuple[str, ...] = ("caption", "tags", "image_size")
    missing: str = "skip"
    prune: bool = False
    caption_extension: str = ".caption"
    tag_extension: str = ".txt"
    layout: Layout = Layout()
    dry_run: bool = False
    debug: bool = False

    def __post_init__(self) -> None:
        _check_extension(self, "caption_extension")
        _check_extension(self, "tag_extension")
        for name, choices in (("keys", KEY_STYLES), ("missing", MISSING)):
            if getattr(self, name) not in choices:
                raise UsageError(f"--{name} is one of {', '.join(choices)}, not '{getattr(self, name)}'")
        unknown = set(self.fields) - {"caption", "tags", "image_size"}
        if unknown or not self.fields:
            names = ", ".join(sorted(unknown)) or "nothing"
            raise UsageError(f"--fields takes caption, tags and image_size, not {names}")


def _check_thresholds(values: Iterable[float | str]) -> None:
    """Raise UsageError unless each is a probability that is stored, or the name of a rule."""
    for value in values:
        if isinstance(value, str):
            if value not in (AUTO, MCUT):
                raise UsageError(f"--threshold takes a probability such as 0.35, {AUTO} or {MCUT}, not '{value}'")
        elif not value <= THRESHOLD_CEILING:
            raise UsageError(f"a threshold is a probability such as 0.35, not {value:g}")
        elif value < STORED_FLOOR:
            raise UsageError(
                f"a threshold of {value:g} is below {STORED_FLOOR:g}, the lowest probability that is stored"
            )


def _check_extension(settings: TagSettings | CaptionSettings | MergeSettings, name: str) -> None:
    """Put a missing dot before an extension, as trainers do. Raises UsageError if no sidecar may be called so."""
    value = getattr(settings, name)
    extension = value if value.startswith(".") else f".{value}"
    if (
        not extension.strip(".")
        or set(extension) & set('/\\:*?"<>|\0\n')
        or PurePath(f"a{extension}").suffix.lower() in PICTURE_SUFFIXES
    ):
        raise UsageError(f"--{name.replace('_', '-')} '{value}' is no extension for a text file; say .txt, for example")
    object.__setattr__(settings, name, extension)


def read_config(path: Path) -> dict[str, dict[str, Any]]:
    """The tables of an `sdprep.toml`, one a command, with hyphens in names turned to underscores.

    Raises UsageError naming the file if it is not TOML, or holds anything but tables of settings.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: {(isinstance(error, OSError) and error.strerror) or error}") from error
    for name, table in data.items():
        if not isinstance(table, dict):
            raise UsageError(f"{path}: '{name}' stands outside a table; write it under [caption], [tag] or [merge]")
        if name not in TABLES:
            raise UsageError(f"{path}: there is no table [{name}]; the tables are [caption], [tag] and [merge]")
    return {
        command: {name.replace("-", "_"): value for name, value in table.items()} for command, table in data.items()
    }
