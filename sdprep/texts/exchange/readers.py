"""The captions and tags in files of other tools: metadata JSON, JSON Lines, CSV, WebDataset tars and Parquet."""

from __future__ import annotations

import csv
import io
import json
import posixpath
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from sdprep.errors import MetadataError
from sdprep.files import FILE_LIMIT, read_limited
from sdprep.images.source import is_image
from sdprep.texts.exact_json import parse_exactly
from sdprep.texts.exchange.parquet import parquet_rows
from sdprep.texts.metadata import Entries, Entry, unite

Field = Literal["caption", "tags"]
Row = Mapping[str, Any]
# How rows name their image, and where a text is that is neither a caption nor tags by its name.
NAMES = ("image_path", "file_name", "path", "filename", "image")
TEXTS = ("text", "prompt")
TABLES = {".json", ".jsonl", ".csv", ".tar", ".parquet"}
# The most bytes of a text in a tar.
TEXT_LIMIT = 1 << 26


def is_table(name: str) -> bool:
    """Whether a file of this name in a folder has texts: those that `sdprep export` and other tools write."""
    stem, suffix = posixpath.splitext(name.lower())
    if suffix in (".tar", ".parquet"):
        return True
    return suffix in TABLES and (stem == "captions" or stem.startswith(("metadata", "meta_")))


def read_table(path: Path, encoding: str | None, lone: Field) -> Entries:
    """The captions and tags in a file, by the name that it has for each image.

    `encoding` is that of a text file, if it is not Unicode; `lone` says what a text is that is neither by its name.
    Raises MetadataError naming the file, and MissingExtra for Parquet without pyarrow.
    """
    suffix = path.suffix.lower()
    if suffix not in TABLES:
        raise MetadataError(f"{path}: texts are imported from {', '.join(sorted(TABLES))} files and from folders")
    entries: Entries = {}
    try:
        for name, row in _rows(path, suffix, encoding):
            texts = _texts(name, row, lone)
            entries[name] = unite([entries[name], texts])[0] if name in entries else texts
    except OSError as error:
        raise MetadataError(f"{path}: {error.strerror or error}") from error
    except (ValueError, tarfile.TarError) as error:
        raise MetadataError(f"{path} cannot be imported: {error}") from error
    return entries


def _rows(path: Path, suffix: str, encoding: str | None) -> Iterator[tuple[str, Row]]:
    """The rows of a file with the name of the image of each. Raises OSError and ValueError."""
    if suffix == ".tar":
        return _tar_rows(path)
    if suffix == ".parquet":
        return _named(parquet_rows(path))
    data = read_limited(path, FILE_LIMIT)
    text = data.decode(encoding or json.detect_encoding(data)).removeprefix("\ufeff")
    if suffix == ".csv":
        return _named(_csv_rows(text))
    if suffix == ".jsonl":
        # Other characters that end a line in Unicode may be in a JSON string.
        return _named(parse_exactly(line) for line in text.split("\n") if line.strip())
    return _json_rows(parse_exactly(text))


def _named(rows: Iterable[Any]) -> Iterator[tuple[str, Row]]:
    for number, row in enumerate(rows, 1):
        names = [row[name] for name in NAMES if isinstance(row, Mapping) and isinstance(row.get(name), str)]
        if not names:
            raise ValueError(f"row {number} does not name its image: {', '.join(NAMES)} were looked for")
        yield names[0], row


def _csv_rows(text: str) -> Iterator[Row]:
    before = csv.field_size_limit(FILE_LIMIT)
    try:
        # An empty cell is no text.
        rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        yield from [{name: cell for name, cell in row.items() if cell} for row in rows]
    except csv.Error as error:
        raise ValueError(str(error)) from error
    finally:
        csv.field_size_limit(before)


def _json_rows(values: Any) -> Iterator[tuple[str, Row]]:
    """The entries of a metadata JSON, or of diffusion-pipe's captions.json; also a list of rows."""
    if isinstance(values, list):
        yield from _named(values)
        return
    if not isinstance(values, dict):
        raise ValueError("an object with an entry for each image is expected")
    for name, value in values.items():
        yield name, value if isinstance(value, dict) else {"text": value}


def _tar_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """The samples of a tar: members with one name up to the first dot of the last part. Nothing is extracted."""
    samples: dict[str, dict[str, Any]] = {}
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            place, _, name = member.name.rpartition("/")
            key, _, ending = name.partition(".")
            if not member.isreg() or not key:
                continue
            sample = samples.setdefault(posixpath.join(place, key), {})
            if is_image(name):
                sample.setdefault("file_name", member.name)
            elif ending in ("json", "txt", "caption"):
                if member.size > TEXT_LIMIT or (file := tar.extractfile(member)) is None:
                    raise ValueError(f"{member.name} is larger than {TEXT_LIMIT:,} bytes")
                data = file.read()
                sample[ending] = parse_exactly(data) if ending == "json" else data.decode("utf-8-sig")
    for key, sample in samples.items():
        own = sample.get("json")
        row = dict(own) if isinstance(own, dict) else {}
        row.setdefault("file_name", sample.get("file_name", key))
        if "caption" in sample:
            row["caption"] = sample["caption"]
        if "txt" in sample:
            row["text"] = sample["txt"]
        yield str(row["file_name"]), row


def _texts(name: str, row: Row, lone: Field) -> Entry:
    """The caption and the tags of a row, as far as it has them. Raises ValueError for what is no text."""
    found: Entry = {}
    for field, joint in (("caption", "\n"), ("tags", ", ")):
        if row.get(field) is not None:
            found[field] = _as_text(name, field, row[field], joint)
    if not found:
        for field in TEXTS:
            if row.get(field) is not None:
                return {lone: _as_text(name, field, row[field], "\n" if lone == "caption" else ", ")}
    return found


def _as_text(name: str, field: str, value: Any, joint: str) -> str:
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        value = joint.join(value)
    if not isinstance(value, str):
        raise ValueError(f"the {field} of {name!r} is not a text")
    return value.replace("\r\n", "\n").replace("\r", "\n")
