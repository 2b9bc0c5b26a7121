"""Refusing ONNX files that lean on anything but themselves and onnxruntime, before onnxruntime sees them.

Weights in other files name paths, which may lead out of the model's folder; onnxruntime has not always checked them,
still follows hard links, and no checksum covers them. An operator from elsewhere needs a library that sdprep never
loads. The `onnx` package is not needed at run time, so the few messages that can hold a tensor or an operator are
walked here, by the numbers of onnx.proto. The file is mapped and weights are stepped over: gigabytes are neither read
nor copied.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from sdprep.errors import ModelError

# For each message, the fields that lead to a tensor or an operator, and the message that they hold.
WAYS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
DATA_LOCATION = 14
# Where the domain of an operator, and of a function that the file brings with it, is written.
DOMAIN = {"node": 7, "function": 10}
OPERATOR = 4
# The operators that onnxruntime brings itself: those of ONNX, its own (quantized graphs need them), and those of graphs
# that it has optimised. What is left out of its list is for training or for other programs.
DOMAINS = frozenset({b"", b"ai.onnx", b"ai.onnx.ml", b"com.microsoft", b"com.microsoft.nchwc", b"com.ms.internal.nhwc"})
# An operator of onnxruntime that holds compiled code, or the path of a file with some.
COMPILED = b"EPContext"
# The largest registered graphs have some ten thousands of fields, nested about ten deep; protobuf itself stops at 100.
MOST_FIELDS, DEEPEST, MOST_DOMAINS = 2_000_000, 100, 100
LONGEST_NAME = 256
# Numbers of fields and of their kind fit into 32 bits; readers differ in what they make of more.
LARGEST_KEY = 0xFFFFFFFF


class _Refused(Exception):  # noqa: N818 - it never leaves this file
    """A part of the file that sdprep does not follow; the message says what and what to do."""


def check_self_contained(path: Path) -> None:
    """Raise ModelError if an ONNX file needs other files or foreign operators, or is cut short or no ONNX file."""
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _Walk(data).check()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    except (ValueError, IndexError) as error:
        raise ModelError(f"{path} is cut short or no ONNX file\nDownload or copy it again") from error
    except _Refused as error:
        raise ModelError(f"{path} {error}") from error


class _Walk:
    """One way through the messages of a file, which notes the domains that it meets."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._fields = data, 0
        self._used: set[bytes] = set()
        self._brought: set[bytes] = set()

    def check(self) -> None:
        """Raise _Refused, or ValueError or IndexError for what is no ONNX file."""
        self._visit(0, len(self._data), "model", 1)
        if foreign := self._used - self._brought - DOMAINS:
            names = ", ".join(sorted(repr(name[:60].decode("utf-8", "replace")) for name in foreign)[:3])
            raise _Refused(
                f"uses operators of {names}, which onnxruntime has not; sdprep loads no library with others\n"
                "Export the model with the operators of ONNX alone"
            )

    def _visit(self, start: int, end: int, message: str, depth: int) -> None:
        if depth > DEEPEST:
            raise ValueError("nested too deep")
        ways, domain = WAYS[message], DOMAIN.get(message)
        for field, first, last in self._each_field(start, end):
            if message == "tensor":
                if field == DATA_LOCATION and first < 0 and last & 0xFFFFFFFF:
                    raise _Refused(
                        "keeps its weights in other files, which sdprep does not follow: they can lie anywhere\n"
                        "Save the model as one file: onnx.save_model(onnx.load(path), path, "
                        "save_as_external_data=False)"
                    )
            elif first < 0:
                continue
            elif field == domain:
                self._note(self._name(first, last), self._used if message == "node" else self._brought)
            elif message == "node" and field == OPERATOR and self._name(first, last) == COMPILED:
                raise _Refused("holds code compiled for one machine, which sdprep does not run\nUse the model's source")
            elif field in ways:
                self._visit(first, last, ways[field], depth + 1)

    def _name(self, first: int, last: int) -> bytes:
        """A name, as much of it as tells it from those that are known."""
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
