"""The graph with which onnxruntime is tested."""

from importlib import resources

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from sdprep.doctor.probes import GRAPH


@pytest.fixture
def graph():
    return (resources.files("sdprep.doctor") / GRAPH).read_bytes()


def test_the_graph_is_one_convolution_of_ones(graph):
    made = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "doctor",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 8, 8))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 4, 6, 6))],
        [helper.make_tensor("w", TensorProto.FLOAT, (4, 3, 3, 3), np.ones(108, np.float32).tobytes(), raw=True)],
    )
    model = helper.make_model(made, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
    onnx.checker.check_model(model, full_check=True)
    assert onnx.load_model_from_string(graph) == model


def test_the_graph_turns_ones_into_27s(graph):
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    assert (session.run(None, {"x": np.ones((1, 3, 8, 8), np.float32)})[0] == 27).all()
