"""Refuse ONNX files that need other files or foreign operators, before onnxruntime opens them.

External weights are paths, which may lead out of the model's folder; onnxruntime has not always checked them, still
follows hard links, and no checksum covers them. A custom operator needs a library that sdprep never loads. The `onnx`
package is not needed at run time, so the few protobuf messages that can hold a tensor or an operator are walked here,
by the field numbers of onnx.proto. The file is memory-mapped and weights are skipped, not read.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

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
# A field number with its wire type fits into 32 bits; parsers disagree about larger ones.
LARGEST_KEY = 0xFFFFFFFF


class _Refused(Exception):  # noqa: N818 - it never leaves this file
    """A part of the file that sdprep refuses; the message says which part and what to do."""


def check_self_contained(path: Path) -> None:
    """Raise ModelError if an ONNX file needs other files or foreign operators, or is not a whole ONNX file."""
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _Walk(data, path.parent).check()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    except (ValueError, IndexError) as error:
        raise ModelError(f"{path} is truncated or not an ONNX file\nDownload or copy it again") from error
    except _Refused as error:
        raise ModelError(f"{path} {error}") from error


class _Walk:
    """One pass over the messages of a file, which collects the domains of operators."""

    def __init__(self, data: mmap.mmap, folder: Path) -> None:
        self._data, self._folder, self._fields = data, folder, 0
        self._outside = ""
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
        children, domain = CHILDREN[message], DOMAIN.get(message)
        for field, first, last in self._each_field(start, end):
            if message == "tensor":
                if field == EXTERNAL_DATA and first >= 0:
                    self._outside = self._location(first, last) or self._outside
                if field == DATA_LOCATION and first < 0 and last & 0xFFFFFFFF:
                    raise self._kept_elsewhere()
            elif first < 0:
                continue
            elif field == domain:
                self._note(self._name(first, last), self._used if message == "node" else self._defined)
            elif message == "node" and field == OPERATOR and self._name(first, last) == COMPILED:
                raise _Refused("holds code compiled for one machine, which sdprep does not run\nUse the model's source")
            elif field in children:
                self._visit(first, last, children[field], depth + 1)

    def _location(self, start: int, end: int) -> str:
        """The file of an entry of external data, or an empty string if the entry says something else."""
        parts = {field: self._name(first, last) for field, first, last in self._each_field(start, end) if first >= 0}
        return parts.get(2, b"").decode("utf-8", "replace") if parts.get(1) == b"location" else ""

    def _kept_elsewhere(self) -> _Refused:
        name = printable(self._outside)
        if self._outside and is_safe_relative(self._outside) and not (self._folder / self._outside).exists():
            return _Refused(f"keeps its weights in {name}, which is missing beside it\nDownload that file too, {MERGE}")
        of = f" ({name})" if name else ""
        return _Refused(
            f"keeps its weights in other files{of}, which sdprep does not open: they can be anywhere\n"
            f"Save the model as one file: {MERGED}"
        )

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
