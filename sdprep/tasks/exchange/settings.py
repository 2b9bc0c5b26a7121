"""The settings of `sdprep export` and `sdprep import`."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sdprep.choices import check_choices
from sdprep.config import PathOptions, check_extension
from sdprep.errors import UsageError
from sdprep.rules.shapes import setting
from sdprep.texts.exchange.sample import ExportOptions, Format, Which
from sdprep.texts.exchange.targets import TARGETS, Images, Target, TargetName

# The options that only some targets take.
OF_SOME = ("repeats", "resolution", "extension", "per_shard")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSettings:
    """The settings of `sdprep export`; None is the target's default.

    `output` is the folder to write, and `text` which sidecars train.
    """

    target: TargetName = setting("sd-scripts", shapes=None)
    output: Path = setting(Path("export"), shapes=None)
    text: Which | None = setting(None, shapes=None)
    images: Images | None = setting(None, shapes=None)
    format: Format | None = setting(None, shapes=None)
    repeats: int | None = setting(None, shapes=None)
    resolution: int | None = setting(None, shapes=None)
    extension: str | None = setting(None, shapes=None)
    per_shard: int | None = setting(None, shapes=None)
    order: str | None = setting(None, shapes=None)
    missing: Literal["skip", "empty", "error"] = setting("skip", shapes=None)
    overwrite: bool = setting(False, shapes=None)
    caption_extension: str = setting(".caption", shapes=None, remembered=True)
    tag_extension: str = setting(".txt", shapes=None, remembered=True)
    paths: PathOptions = PathOptions()
    dry_run: bool = setting(False, shapes=None)

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("caption_extension", "tag_extension", *(["extension"] if self.extension else [])):
            check_extension(self, name)
        for name in OF_SOME:
            if getattr(self, name) is not None and name not in self.row.takes:
                raise UsageError(f"--{name.replace('_', '-')} has no effect for {self.target}; leave it out")
        for name in ("repeats", "resolution", "per_shard"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UsageError(f"--{name.replace('_', '-')} must be 1 or more, not {value}")
        self._check_offered("images", self.images, self.row.images)
        self._check_offered("format", self.format, self.row.formats)

    def _check_offered(self, name: str, value: str | None, offered: tuple[str, ...]) -> None:
        if value is not None and value not in offered:
            what = f"takes only --{name} {' or '.join(offered)}" if offered else f"takes no --{name}"
            raise UsageError(f"{self.target} {what}, not {value}")

    @property
    def row(self) -> Target:
        """What is to know about the target."""
        return TARGETS[self.target]

    @property
    def handling(self) -> Images | None:
        """What is done with images; None: the target packs them."""
        return self.images or next(iter(self.row.images), None)

    @property
    def which(self) -> Which:
        """Which sidecars train."""
        return self.text or self.row.text

    @property
    def fields(self) -> tuple[Literal["caption", "tags", "image_size"], ...]:
        """What is read of each image."""
        which: Which = "both" if self.row.has_columns else self.which
        return (*(("caption", "tags") if which == "both" else (which,)), "image_size")

    @property
    def file_options(self) -> ExportOptions:
        """How files are written, into a folder without links in its path."""
        stated: dict[str, Any] = {name: getattr(self, name) for name in OF_SOME if getattr(self, name) is not None}
        if self.row.formats:
            stated["format"] = self.format or self.row.formats[0]
        return ExportOptions(self.output, **stated)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportSettings:
    """The settings of `sdprep import`.

    `into` is the folder of the images, by default that of what is imported. `text` says what a text is that a file does
    not call a caption or tags. With `format` "lines" tag files with a tag per line become lists, and with `encoding`
    sidecars in that encoding become UTF-8.
    """

    into: Path | None = setting(None, shapes=None)
    format: Literal["auto", "lines"] = setting("auto", shapes=None)
    encoding: str | None = setting(None, shapes=None)
    text: Literal["caption", "tags"] = setting("caption", shapes=None)
    existing: Literal["keep", "overwrite"] = setting("keep", shapes=None)
    caption_extension: str = setting(".caption", shapes=None, remembered=True)
    tag_extension: str = setting(".txt", shapes=None, remembered=True)
    paths: PathOptions = PathOptions()
    dry_run: bool = setting(False, shapes=None)

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("caption_extension", "tag_extension"):
            check_extension(self, name)
        if self.encoding is not None:
            try:
                if not codecs.lookup(self.encoding)._is_text_encoding:
                    raise LookupError
            except LookupError as error:
                raise UsageError(f"--encoding {self.encoding} is not known; use gb18030, for example") from error
