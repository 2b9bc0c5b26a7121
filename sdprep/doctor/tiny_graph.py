"""A graph of one convolution in the ONNX format, written by hand: the onnx package is not needed to run one."""

from __future__ import annotations

import struct

# https://github.com/onnx/onnx/blob/main/onnx/onnx.proto: the numbers of the fields below. IR version 8 and
# operators of version 13 are understood by every onnxruntime that sdprep takes.
IR_VERSION, OPSET, FLOAT = 8, 13, 1


def make_graph() -> bytes:
    """A model that maps float32[1,3,8,8] "x" to float32[1,4,6,6] "y" with kernels of ones: of ones it makes 27s."""
    kernel = (4, 3, 3, 3)
    node = _field(1, b"x") + _field(1, b"w") + _field(2, b"y") + _field(4, b"Conv")
    ones = struct.pack("<108f", *[1.0] * 108)
    weights = b"".join(_field(1, side) for side in kernel) + _field(2, FLOAT) + _field(8, b"w") + _field(9, ones)
    graph = (
        _field(1, node)
        + _field(2, b"doctor")
        + _field(5, weights)
        + _field(11, _value("x", (1, 3, 8, 8)))
        + _field(12, _value("y", (1, 4, 6, 6)))
    )
    return _field(1, IR_VERSION) + _field(7, graph) + _field(8, _field(1, b"") + _field(2, OPSET))


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    """The name and type of an input or output."""
    sides = b"".join(_field(1, _field(1, side)) for side in shape)
    return _field(1, name.encode()) + _field(2, _field(1, _field(1, FLOAT) + _field(2, sides)))


def _field(number: int, value: int | bytes) -> bytes:
    """One field of a protocol buffer: a number, or bytes with their length before them."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the eighth says that more follow."""
    low = b""
    while value > 127:
        low += bytes([value & 127 | 128])
        value >>= 7
    return low + bytes([value])
