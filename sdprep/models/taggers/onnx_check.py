"""Refuse ONNX files that need unsafe files or foreign operators, before onnxruntime opens them.

External weights are paths, which may lead out of the model's folder; onnxruntime has not always checked them, and
follows links. So weights may be in another file only if it is in the graph's own folder, is named by the model's
description (and therefore downloaded and hashed with it), is no link, and has every range that the graph names, each
once. A custom operator needs a library that sdprep never loads. The `onnx` package is not needed at run time, so the
few protobuf messages that can hold a tensor or an operator are walked here, by the field numbers of onnx.proto. The
file is memory-mapped and weights are skipped, not read.
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sdprep.errors import ModelError
from sdprep.paths import is_safe_relative
from sdprep.sanitize import printable

# For each message, the fields that can hold a tensor or an operator, and their message types.
CHILDREN = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
EXTERNAL_DATA, DATA_LOCATION = 13, 14
MERGED = "onnx.save_model(onnx.load(path), path, save_as_external_data=False)"
MERGE = f"then save the model as one file: {MERGED}"
# The field with the domain of an operator, and of a function that the file defines.
DOMAIN = {"node": 7, "function": 10}
OPERATOR = 4
# The operators built into onnxruntime: those of ONNX, its own (quantized graphs need them), and those of graphs that it
# has optimised. Its other domains are for training or for other programs.
DOMAINS = frozenset({b"", b"ai.onnx", b"ai.onnx.ml", b"com.microsoft", b"com.microsoft.nchwc", b"com.ms.internal.nhwc"})
# An operator that holds compiled code, or the path of a file with compiled code.
COMPILED = b"EPContext"
# The largest registered graphs have some ten thousands of fields, nested about ten deep; protobuf itself stops at 100.
MOST_FIELDS, DEEPEST, MOST_DOMAINS = 2_000_000, 100, 100
LONGEST_NAME = 256
# What an entry of external data may say; a checksum is not needed, since the whole file is hashed.
RANGE, CHECKSUM = {b"location", b"offset", b"length"}, b"checksum"
LONGEST_NUMBER = 18
# A field number with its wire type fits into 32 bits; parsers disagree about larger ones.
LARGEST_KEY = 0xFFFFFFFF


class _Refused(Exception):  # noqa: N818 - it never leaves this file
    """A part of the file that sdprep refuses; the message says which part and what to do."""


class ExternalData(NamedTuple):
    """Where a tensor's values are: a range of bytes in a file beside the graph."""

    name: str
    offset: int
    length: int


def check_graph(path: Path, named: Sequence[str] = (), *, blobs: Path | None = None) -> None:
    """Raise ModelError if an ONNX file needs unsafe files or foreign operators, or is not a whole ONNX file.

    `named` are the files beside it that the model's description names. `blobs` is the folder to which the links of the
    Hub's cache lead; any other link is refused.
    """
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            walk = _Walk(data)
            walk.check()
        _check_ranges(walk.outside, path.parent, named, blobs)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    except (ValueError, IndexError) as error:
        raise ModelError(f"{path} is truncated or not an ONNX file\nDownload or copy it again") from error
    except _Refused as error:
        raise ModelError(f"{path} {error}") from error


def _check_ranges(ranges: Sequence[ExternalData], folder: Path, named: Sequence[str], blobs: Path | None) -> None:
    """Raise _Refused unless each file of external data is safe, and each range of it is inside and used once."""
    sizes: dict[str, int] = {}
    end, before = 0, ""
    for each in sorted(ranges):
        if each.name not in sizes:
            sizes[each.name] = _size(each.name, folder, named, blobs)
            end, before = 0, each.name
        if each.offset + each.length > sizes[before]:
            raise _Refused(
                f"keeps weights in {each.name} up to byte {each.offset + each.length:,}, but that has only "
                f"{sizes[before]:,}\nDownload or copy {each.name} again"
            )
        if each.offset < end:
            raise _Refused(f"keeps several weights in the same bytes of {each.name}\nSave the model again: {MERGED}")
        end = each.offset + each.length


def _size(name: str, folder: Path, named: Sequence[str], blobs: Path | None) -> int:
    """The size of a file of external data. Raises _Refused if it is not safe to open."""
    path, shown = folder / name, printable(name)
    if not is_safe_relative(name) or "/" in name:
        raise _elsewhere(name)
    if not os.path.lexists(path):
        raise _Refused(f"keeps its weights in {shown}, which is missing beside it\nDownload that file too, {MERGE}")
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode) and blobs is not None and path.resolve().parent == blobs.resolve():
        found = path.stat()
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise _elsewhere(name)
    if name not in named:
        raise _Refused(
            f"keeps its weights in {shown}, which the model's description does not name\n"
            f"Add {shown} to files in its .toml file, or save the model as one file: {MERGED}"
        )
    return found.st_size


def _elsewhere(name: str) -> _Refused:
    of = f" ({printable(name)})" if name else ""
    return _Refused(
        f"keeps its weights in other files{of}, which sdprep does not open: they can be anywhere\n"
        f"Use one regular file beside it, or save the model as one file: {MERGED}"
    )


class _Walk:
    """One pass over the messages of a file, which collects domains of operators and ranges of other files."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._fields = data, 0
        self.outside: list[ExternalData] = []
        self._used: set[bytes] = set()
        self._defined: set[bytes] = set()

    def check(self) -> None:
        self._visit(0, len(self._data), "model", 1)
        if foreign := self._used - self._defined - DOMAINS:
            names = ", ".join(sorted(repr(name[:60].decode("utf-8", "replace")) for name in foreign)[:3])
            raise _Refused(
                f"uses operators of {names}, which onnxruntime does not have; sdprep loads no library with others\n"
                "Export the model with the operators of ONNX alone"
            )

    def _visit(self, start: int, end: int, message: str, depth: int) -> None:
        if depth > DEEPEST:
            raise ValueError("nested too deep")
        if message == "tensor":
            self._visit_tensor(start, end)
            return
        children, domain = CHILDREN[message], DOMAIN.get(message)
        for field, first, last in self._each_field(start, end):
            if first < 0:
                continue
            if field == domain:
                self._note(self._name(first, last), self._used if message == "node" else self._defined)
            elif message == "node" and field == OPERATOR and self._name(first, last) == COMPILED:
                raise _Refused("holds code compiled for one machine, which sdprep does not run\nUse the model's source")
            elif field in children:
                self._visit(first, last, children[field], depth + 1)

    def _visit_tensor(self, start: int, end: int) -> None:
        """Note where a tensor's values are, if they are in another file.

        A parser may join two messages to one tensor, so each that names another file has to say all of it.
        """
        entries: list[tuple[bytes, bytes]] = []
        is_outside = False
        for field, first, last in self._each_field(start, end):
            if field == EXTERNAL_DATA and first >= 0:
                entries.append(self._entry(first, last))
            elif field == DATA_LOCATION and first < 0:
                is_outside = is_outside or bool(last & 0xFFFFFFFF)
        if is_outside or entries:
            self.outside.append(self._external_data(entries))

    def _entry(self, start: int, end: int) -> tuple[bytes, bytes]:
        """The key and value of an entry of external data."""
        parts = {field: (first, last) for field, first, last in self._each_field(start, end) if first >= 0}
        key, value = (parts.get(field, (0, 0)) for field in (1, 2))
        if value[1] - value[0] > LONGEST_NAME:
            raise _elsewhere("")
        return self._name(*key), self._name(*value)

    @staticmethod
    def _external_data(entries: list[tuple[bytes, bytes]]) -> ExternalData:
        said = {key: value for key, value in entries if key != CHECKSUM}
        name = said.get(b"location", b"").decode("utf-8", "replace")
        numbers = [said.get(key, b"") for key in (b"offset", b"length")]
        is_whole = said.keys() == RANGE and len(said) == sum(key != CHECKSUM for key, _ in entries)
        if not is_whole or not all(each.isdigit() and len(each) <= LONGEST_NUMBER for each in numbers):
            raise _elsewhere(name)
        return ExternalData(name, int(numbers[0]), int(numbers[1]))

    def _name(self, first: int, last: int) -> bytes:
        return self._data[first : min(last, first + LONGEST_NAME)]

    def _note(self, name: bytes, names: set[bytes]) -> None:
        names.add(name)
        if len(names) > MOST_DOMAINS:
            raise ValueError("more domains than any model has")

    def _each_field(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """The fields of a message: number, then start and end of its bytes, or -1 and its value if it is a number."""
        data = self._data
        while start < end:
            self._fields += 1
            if self._fields > MOST_FIELDS:
                raise ValueError("more fields than any model has")
            key, start = _varint(data, start)
            if not 8 <= key <= LARGEST_KEY:
                raise ValueError(f"no such field: {key}")
            kind = key & 7
            if kind == 0:
                value, start = _varint(data, start)
                yield key >> 3, -1, value
                continue
            if kind == 2:
                size, start = _varint(data, start)
            elif kind in (1, 5):
                size = 8 if kind == 1 else 4
            else:
                raise ValueError(f"no such kind of field: {kind}")
            if size > end - start:
                raise ValueError("a field reaches beyond its message")
            yield key >> 3, start if kind == 2 else -1, start + size if kind == 2 else 0
            start += size
        if start != end:
            raise ValueError("a field reaches beyond its message")


def _varint(data: mmap.mmap, start: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, start
    raise ValueError("a number without end")
