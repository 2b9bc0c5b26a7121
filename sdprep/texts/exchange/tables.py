"""Datasets as tables, for any tool: Hugging Face's imagefolder, WebDataset, and one Parquet file."""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Iterator, Sequence
from typing import Any

from sdprep.errors import WriteError
from sdprep.folders import open_item
from sdprep.texts.exact_json import dump_line
from sdprep.texts.exchange.parquet import parquet_file
from sdprep.texts.exchange.sample import ExportOptions, NewFile, Sample, json_lines

TRAIN = "train"
# The name of an image in a row.
FILE_NAME = "file_name"
# Digits of the names in a shard, which have the number of their shard first.
DIGITS = 5


def place_in_train(rel: str, _: ExportOptions) -> str:
    """The name of an image below train/, in its own folders."""
    return f"{TRAIN}/{rel}"


def place_alone(rel: str, _: ExportOptions) -> str:
    """The name of an image in a table or a tar: its own."""
    return rel


def imagefolder(samples: Sequence[Sample], _: ExportOptions) -> Iterator[NewFile]:
    """The table beside the images."""
    yield json_lines(f"{TRAIN}/metadata.jsonl", (_row(each) for each in samples))


def parquet(samples: Sequence[Sample], _: ExportOptions) -> Iterator[NewFile]:
    """The table with the paths of images."""
    yield parquet_file("metadata.parquet", [{**_row(each), "path": each.path} for each in samples])


def _row(sample: Sample) -> dict[str, Any]:
    """What there is to know about an image; a text without a sidecar is null."""
    texts = {"text": sample.text, "caption": sample.caption, "tags": sample.tags}
    return {FILE_NAME: sample.item.rel, **texts, "width": sample.size[0], "height": sample.size[1]}


def webdataset(samples: Sequence[Sample], options: ExportOptions) -> Iterator[NewFile]:
    """Tars of at most `per_shard` images."""
    for number, start in enumerate(range(0, len(samples), options.per_shard)):
        yield NewFile(f"{number:0{DIGITS}}.tar", _shard(number, samples[start : start + options.per_shard]))


def _shard(number: int, samples: Sequence[Sample]) -> Iterator[bytes]:
    size = 0
    for index, sample in enumerate(samples):
        # A dot in a key would begin the extension, so names are numbers.
        key = f"{number:0{DIGITS}}{index:0{DIGITS}}"
        suffix = posixpath.splitext(sample.item.rel)[1].lower()
        try:
            with open_item(sample.item) as file:
                image = file.read()
        except OSError as error:
            raise WriteError(error) from error
        for ending, data in ((suffix, image), (".txt", sample.text.encode()), (".json", dump_line(_row(sample)))):
            part = tar_member(key + ending, data)
            size += len(part)
            yield part
    yield tar_end(size)


def tar_member(name: str, data: bytes) -> bytes:
    """A file of a tar with its header, the same for the same data: no time and no owner."""
    header = tarfile.TarInfo(name)
    header.size = len(data)
    return b"".join([header.tobuf(tarfile.PAX_FORMAT), data, bytes(-len(data) % tarfile.BLOCKSIZE)])


def tar_end(size: int) -> bytes:
    """The end of a tar with members of this size: two blank blocks, and the rest of a record."""
    return bytes(2 * tarfile.BLOCKSIZE + -(size + 2 * tarfile.BLOCKSIZE) % tarfile.RECORDSIZE)
