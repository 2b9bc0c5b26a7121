"""An image of an export with its texts, and the files that are written for it."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sdprep.texts.exact_json import dump_exactly, dump_line
from sdprep.types import ImageItem

Which = Literal["caption", "tags", "both"]
Format = Literal["json", "jsonl", "parquet"]


@dataclass(frozen=True, slots=True)
class Sample:
    """An image of an export.

    `name` is its name in the export, with forward slashes; `path` is its file
    there, or where it is now if it stays. A caption or tags that were not read, or have no sidecar, are None. `text` is
    the one that trains, for targets that take one.
    """

    name: str
    item: ImageItem
    path: str
    caption: str | None
    tags: str | None
    text: str
    size: tuple[int, int]

    @property
    def captions(self) -> list[str]:
        """Its text where each line is a caption of its own."""
        return lines_of(self.text)


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How the files of an export are written into the folder `root`, which is absolute.

    `extension` is that of text files beside images, and `per_shard` the images of one tar.
    """

    root: Path
    repeats: int | None = None
    resolution: int = 1024
    extension: str = ".txt"
    per_shard: int = 1000
    format: Format = "json"


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file to write: its name in the export, with forward slashes, and its bytes in parts."""

    name: str
    parts: Iterable[bytes]


def join(caption: str | None, tags: str | None) -> str:
    """A caption and tags as one text; each line of several captions is followed by the tags."""
    line = one_line(tags or "")
    if not line:
        return caption or ""
    return "\n".join(f"{each}, {line}" for each in lines_of(caption or "")) or line


def lines_of(text: str) -> list[str]:
    """The lines of a text that are not blank."""
    return [line.strip() for line in text.split("\n") if line.strip()]


def one_line(tags: str) -> str:
    """Tags as one line: a trainer reads the first line only."""
    return ", ".join(line.strip(", ") for line in tags.split("\n") if line.strip(", ")) if "\n" in tags else tags


def by_folder(samples: Iterable[Sample]) -> Iterator[tuple[str, list[Sample]]]:
    """The images by their folder in the export, both in their order."""
    folders: dict[str, list[Sample]] = {}
    for sample in samples:
        folders.setdefault(posixpath.dirname(sample.name), []).append(sample)
    return iter(folders.items())


def text_files(samples: Iterable[Sample], extension: str) -> Iterator[NewFile]:
    """A file with the texts of each image beside it."""
    for sample in samples:
        # A trainer that finds 0 bytes stops.
        yield NewFile(posixpath.splitext(sample.name)[0] + extension, [f"{sample.text}\n".encode()])


def json_file(name: str, value: Any) -> NewFile:
    """A JSON file."""
    return NewFile(name, [dump_exactly(value)])


def json_lines(name: str, rows: Iterable[dict[str, Any]]) -> NewFile:
    """A file with one JSON object per line."""
    return NewFile(name, (dump_line(row) for row in rows))
