"""Tiny ONNX taggers whose answers depend on all that a description says of an image, and the same sums in numpy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Floats = npt.NDArray[np.float32]
BLOCKS = 8
# Of an image: the mean of each block, and of each channel how much neighbours differ (which tells filters apart).
FEATURES = BLOCKS * BLOCKS * 3 + 3


@dataclass(frozen=True)
class Contract:
    """What the graph of a family takes and gives.

    `shape` is that of its input; `outputs` are pairs of a name and of "logits", "probabilities", "other" (logits of a
    worse answer) or "embedding". `centre` and `spread` bring what it is given to about -1..1.
    """

    shape: tuple[Any, ...]
    size: int
    outputs: tuple[tuple[str, str], ...]
    labels: int
    input: str = "input"
    channels_first: bool = False
    centre: float = 0.0
    spread: float = 1.0

    def weights(self) -> dict[str, Floats]:
        rng = np.random.default_rng(self.labels)
        shape = (FEATURES, self.labels)
        return {
            "weight": rng.normal(0, 0.25, shape).astype(np.float32),
            "other_weight": rng.normal(0, 0.25, shape).astype(np.float32),
            "centre": np.array(self.centre, np.float32),
            "spread": np.array(self.spread, np.float32),
        }


def write_graph(path: Path, contract: Contract) -> onnx.ModelProto:
    """Write the graph of a contract."""
    size, side = contract.size, contract.size // BLOCKS
    constants = {
        **contract.weights(),
        "blocks": np.array([-1, BLOCKS, side, BLOCKS, side, 3], np.int64),
        "flat": np.array([-1, BLOCKS * BLOCKS * 3], np.int64),
        "block_axes": np.array([2, 4], np.int64),
        "plane_axes": np.array([1, 2], np.int64),
        "zero": np.array([0], np.int64),
        "one": np.array([1], np.int64),
        "last": np.array([size - 1], np.int64),
        "end": np.array([size], np.int64),
        "column_axis": np.array([2], np.int64),
        "strength": np.array(20, np.float32),
    }
    nodes = [
        helper.make_node("Transpose", [contract.input], ["image"], perm=[0, 2, 3, 1])
        if contract.channels_first
        else helper.make_node("Identity", [contract.input], ["image"]),
        helper.make_node("Sub", ["image", "centre"], ["moved"]),
        helper.make_node("Div", ["moved", "spread"], ["values"]),
        helper.make_node("Reshape", ["values", "blocks"], ["parts"]),
        helper.make_node("ReduceMean", ["parts", "block_axes"], ["means"], keepdims=0),
        helper.make_node("Reshape", ["means", "flat"], ["colours"]),
        helper.make_node("Slice", ["values", "one", "end", "column_axis"], ["right"]),
        helper.make_node("Slice", ["values", "zero", "last", "column_axis"], ["left"]),
        helper.make_node("Sub", ["right", "left"], ["steps"]),
        helper.make_node("Abs", ["steps"], ["edges"]),
        helper.make_node("ReduceMean", ["edges", "plane_axes"], ["sharpness"], keepdims=0),
        helper.make_node("Mul", ["sharpness", "strength"], ["loudness"]),
        helper.make_node("Concat", ["colours", "loudness"], ["features"], axis=1),
        helper.make_node("MatMul", ["features", "weight"], ["right_logits"]),
        helper.make_node("MatMul", ["features", "other_weight"], ["other_logits"]),
    ]
    sources = {"logits": ("Identity", "right_logits"), "probabilities": ("Sigmoid", "right_logits")}
    sources |= {"other": ("Identity", "other_logits"), "embedding": ("Identity", "features")}
    nodes += [helper.make_node(sources[kind][0], [sources[kind][1]], [name]) for name, kind in contract.outputs]
    widths = {"embedding": FEATURES}
    made = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [contract.shape[0], widths.get(kind, contract.labels)])
        for name, kind in contract.outputs
    ]
    given = helper.make_tensor_value_info(contract.input, TensorProto.FLOAT, list(contract.shape))
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    body = helper.make_graph(nodes, "tagger", [given], made, tensors)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return model


def expected_probabilities(contract: Contract, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What a graph must say of images that are prepared as it wants them, channels last; in double precision."""
    weights = {name: value.astype(np.float64) for name, value in contract.weights().items()}
    values = (images.astype(np.float64) - weights["centre"]) / weights["spread"]
    count, side = len(values), contract.size // BLOCKS
    means = values.reshape(count, BLOCKS, side, BLOCKS, side, 3).mean(axis=(2, 4)).reshape(count, -1)
    loudness = np.abs(np.diff(values, axis=2)).mean(axis=(1, 2)) * 20
    logits = np.concatenate([means, loudness], axis=1) @ weights["weight"]
    return 1 / (1 + np.exp(-logits))
