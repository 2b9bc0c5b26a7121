"""The imagefolder of Hugging Face `datasets`, as diffusers' scripts read it: a `metadata.jsonl` or `metadata.csv`."""

from __future__ import annotations

import csv
import io
import json
import posixpath
from collections.abc import Iterator
from typing import Any

from sdprep.errors import MetadataError, UsageError
from sdprep.files import FILE_LIMIT
from sdprep.trainers.files import OF_PILLOW, DatasetFiles
from sdprep.trainers.findings import Code
from sdprep.trainers.target import Loaded, LoadOptions, Target

NAMES = ("metadata.jsonl", "metadata.csv")
FILE_NAME, TEXT = "file_name", "text"


class ImageFolder(Target):
    """Images with the column `text` of the metadata file in their folder, or in the nearest one above."""

    name = "imagefolder"
    title = "diffusers scripts and datasets, imagefolder"
    extension = ""
    suffixes = OF_PILLOW
    turns = True

    def load(self, files: DatasetFiles, options: LoadOptions) -> Loaded:
        """Return the images that a metadata file lists. Raises MetadataError if there is none, or it is broken."""
        if options.extension:
            raise UsageError("imagefolder reads metadata.jsonl or metadata.csv; leave --caption-extension out")
        loaded = Loaded()
        places = [place for place in files.folders if any(name in files.folders[place] for name in NAMES)]
        if not places:
            raise MetadataError(f"no metadata.jsonl or metadata.csv in {files.root}; write one with `sdprep export`")
        for place in sorted(places):
            name = posixpath.join(place, next(name for name in NAMES if name in files.folders[place]))
            for row in self._rows(name, files):
                self._add(row, place, name, files, loaded)
        for rel in files.images():
            if rel not in loaded.prompts:
                loaded.find(Code.NOT_LISTED, rel)
        return loaded

    def _rows(self, name: str, files: DatasetFiles) -> Iterator[dict[str, Any]]:
        """The rows of a metadata file. Raises MetadataError naming it and the line."""
        try:
            text = files.read(name, FILE_LIMIT).decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise MetadataError(f"{files.root / name}: {error}") from error
        if name.endswith(".csv"):
            try:
                yield from csv.DictReader(io.StringIO(text, newline=""))
            except csv.Error as error:
                raise MetadataError(f"{files.root / name} is not valid CSV: {error}") from error
            return
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise MetadataError(f"{files.root / name} line {number} is not valid JSON: {error}") from error
                if not isinstance(row, dict):
                    raise MetadataError(f"{files.root / name} line {number} is not an object")
                yield row

    def _add(self, row: dict[str, Any], place: str, name: str, files: DatasetFiles, loaded: Loaded) -> None:
        """Add the image of a row."""
        key = row.get(FILE_NAME)
        if not isinstance(key, str):
            loaded.find(Code.BAD_ENTRY, name, f"a row has no {FILE_NAME}")
            return
        rel = posixpath.normpath(posixpath.join(place, key))
        if not files.has(rel):
            loaded.find(Code.UNRESOLVED_KEY, key, name)
            return
        if rel in loaded.prompts:
            loaded.find(Code.LISTED_TWICE, rel, f"twice in {name}: it is trained twice")
        prompts, loaded.sources[rel] = loaded.prompts.setdefault(rel, []), name
        value = row.get(TEXT)
        texts = value if isinstance(value, list) else [value or ""]
        if not all(isinstance(each, str) for each in texts):
            loaded.find(Code.BAD_ENTRY, rel, f"{TEXT} is not a text, nor a list of texts")
            return
        if value is None:
            loaded.find(Code.NO_TEXT, rel, f"{name} has no column {TEXT} for it")
        prompts.extend(texts)
