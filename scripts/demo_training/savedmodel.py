"""Writes the demo tagger's SavedModel from its ONNX file; needs TensorFlow and onnx, but not torch."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper


def _layers(graph: onnx.GraphProto) -> tuple[dict[str, Any], list[int]]:
    """Return the stored arrays, kernels turned to TensorFlow's (H, W, I, O), and the strides."""
    arrays = {stored.name: numpy_helper.to_array(stored) for stored in graph.initializer}
    strides = []
    for node in graph.node:
        if node.op_type == "Conv":
            strides += [attribute.ints[0] for attribute in node.attribute if attribute.name == "strides"]
            arrays[node.input[1]] = np.transpose(arrays[node.input[1]], (2, 3, 1, 0))
    return arrays, strides


def _forward(tf: Any, weights: dict[str, Any], strides: list[int], pixels: Any) -> Any:
    x = tf.reverse(pixels, axis=[3]) / 127.5 - 1.0
    for index, stride in enumerate(strides):
        # "SAME" would pad a strided convolution on the right only; the training padded both sides.
        x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
        x = tf.nn.relu(tf.nn.conv2d(x, weights[f"kernel{index}"], stride, "VALID") + weights[f"bias{index}"])
    features = tf.concat([tf.reduce_mean(x, [1, 2]), tf.reduce_max(x, [1, 2])], 1)
    return tf.sigmoid(tf.matmul(features, weights["head"]) + weights["head_bias"])


def write_savedmodel(folder: Path) -> float:
    """Write `saved_model.pb` and `variables/` beside `model.onnx`.

    The signature is `serving_default`, from `input_1` to `predictions_sigmoid`, as in the WD v1.4 exports.
    Returns the largest difference between both models' outputs on random pixels.
    """
    import tensorflow as tf

    graph = onnx.load(folder / "model.onnx").graph
    arrays, strides = _layers(graph)
    size = graph.input[0].type.tensor_type.shape.dim[1].dim_value
    module = tf.Module()
    names = [name for name in arrays if name.startswith(("kernel", "bias", "head"))]
    module.weights = {name: tf.Variable(arrays[name], trainable=False, name=name) for name in names}

    pixels = tf.TensorSpec([None, size, size, 3], tf.float32, name="input_1")

    @tf.function(input_signature=[pixels])  # type: ignore[untyped-decorator]
    def serve(input_1: Any) -> dict[str, Any]:
        return {"predictions_sigmoid": _forward(tf, module.weights, strides, input_1)}

    for old in ("variables", "assets"):
        shutil.rmtree(folder / old, ignore_errors=True)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})
    shutil.rmtree(folder / "assets", ignore_errors=True)
    (folder / "fingerprint.pb").unlink(missing_ok=True)
    return _difference(tf, folder, size)


def _difference(tf: Any, folder: Path, size: int) -> float:
    from onnx.reference import ReferenceEvaluator

    pixels = np.random.default_rng(0).uniform(0, 255, (3, size, size, 3)).astype(np.float32)
    (expected,) = ReferenceEvaluator(str(folder / "model.onnx")).run(None, {"input_1:0": pixels})
    serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
    return float(np.abs(serve(input_1=tf.constant(pixels))["predictions_sigmoid"].numpy() - expected).max())
