"""The graph that was written by hand."""

import numpy as np
import onnx
import onnxruntime

from sdprep.doctor.tiny_graph import make_graph


def test_it_is_valid_onnx():
    onnx.checker.check_model(onnx.load_model_from_string(make_graph()), full_check=True)


def test_it_folds_ones_to_27():
    session = onnxruntime.InferenceSession(make_graph(), providers=["CPUExecutionProvider"])
    assert (session.run(None, {"x": np.ones((1, 3, 8, 8), np.float32)})[0] == 27).all()
