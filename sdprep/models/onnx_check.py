"""Refusing ONNX files whose weights lie in other files.

Such a file names paths, which may lead out of the model's folder; onnxruntime has not always checked them, and no
checksum covers them. The `onnx` package is not needed at run time, so the few messages that can hold a tensor are
walked here, by the numbers of onnx.proto. The file is mapped and weights are stepped over: gigabytes are neither read
nor copied.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from sdprep.errors import ModelError

# For each message, the fields that lead to a tensor, and the message that they hold.
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


def check_self_contained(path: Path) -> None:
    """Raise ModelError if an ONNX file keeps weights in other files, or is cut short."""
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            outside = _has_outside(data, 0, len(data), "model")
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    except (ValueError, IndexError, RecursionError) as error:
        raise ModelError(f"{path} is cut short or no ONNX file\nDownload or copy it again") from error
    if outside:
        raise ModelError(
            f"{path} keeps its weights in other files, which sdprep does not follow: they can lie anywhere\n"
            "Save the model as one file: onnx.save_model(onnx.load(path), path, save_as_external_data=False)"
        )


def _has_outside(data: mmap.mmap, start: int, end: int, message: str) -> bool:
    for field, first, last in _fields(data, start, end):
        if message == "tensor":
            if field == DATA_LOCATION and first < 0 and last & 0xFFFFFFFF:
                return True
        elif field in WAYS[message] and first >= 0 and _has_outside(data, first, last, WAYS[message][field]):
            return True
    return False


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The fields of a message: number, then start and end of its bytes, or -1 and its value if it is a number."""
    while start < end:
        key, start = _varint(data, start)
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
