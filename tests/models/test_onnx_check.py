"""ONNX files that lean on other files."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sdprep.errors import ModelError
from sdprep.models.onnx_check import check_self_contained


def tensor(outside):
    value = numpy_helper.from_array(np.arange(3, dtype=np.float32), "weight")
    if outside:
        value.ClearField("raw_data")
        value.data_location = TensorProto.EXTERNAL
        value.external_data.add(key="location", value="../../secret")
    return value


def graph(nodes=(), tensors=(), sparse=()):
    made = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])]
    return helper.make_graph(list(nodes), "g", [], made, list(tensors), sparse_initializer=list(sparse))


def initializer(outside):
    return helper.make_model(graph(tensors=[tensor(False), tensor(outside)]))


def constant(outside):
    return helper.make_model(graph([helper.make_node("Constant", [], ["y"], value=tensor(outside))]))


def list_of_tensors(outside):
    node = helper.make_node("Odd", [], ["y"])
    node.attribute.append(helper.make_attribute("values", [tensor(False), tensor(outside)]))
    return helper.make_model(graph([node]))


def branch(outside):
    inner = graph([helper.make_node("Constant", [], ["y"], value=tensor(outside))])
    return helper.make_model(graph([helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=graph())]))


def function(outside):
    node = helper.make_node("Constant", [], ["y"], value=tensor(outside))
    made = helper.make_function("own", "F", [], ["y"], [node], [helper.make_opsetid("", 18)])
    return helper.make_model(graph(), functions=[made])


def sparse(outside):
    indices = numpy_helper.from_array(np.arange(3, dtype=np.int64), "indices")
    return helper.make_model(graph(sparse=[helper.make_sparse_tensor(tensor(outside), indices, [9])]))


def training(outside):
    model = helper.make_model(graph())
    model.training_info.add().initialization.CopyFrom(graph(tensors=[tensor(outside)]))
    return model


PLACES = [initializer, constant, list_of_tensors, branch, function, sparse, training]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_weights_in_other_files_are_refused_wherever_they_are_named(place, tmp_path):
    (tmp_path / "model.onnx").write_bytes(place(True).SerializeToString())
    with pytest.raises(ModelError, match=r"model\.onnx keeps its weights in other files"):
        check_self_contained(tmp_path / "model.onnx")


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_weights_in_the_file_itself_are_fine(place, tmp_path):
    (tmp_path / "model.onnx").write_bytes(place(False).SerializeToString())
    check_self_contained(tmp_path / "model.onnx")


def test_the_advice_makes_one_file_of_it(tmp_path):
    path, weights = str(tmp_path / "model.onnx"), "weights.bin"
    onnx.save_model(initializer(False), path, save_as_external_data=True, location=weights, size_threshold=0)
    with pytest.raises(ModelError, match="save_as_external_data=False"):
        check_self_contained(tmp_path / "model.onnx")
    onnx.save_model(onnx.load(path), path, save_as_external_data=False)
    (tmp_path / weights).unlink()
    check_self_contained(tmp_path / "model.onnx")


def is_refused(path):
    try:
        check_self_contained(path)
    except ModelError:
        return True
    return False


def test_a_file_that_is_cut_short_is_refused(tmp_path):
    data = initializer(False).SerializeToString()
    passed = []
    for length in range(len(data)):
        (tmp_path / "model.onnx").write_bytes(data[:length])
        if not is_refused(tmp_path / "model.onnx"):
            passed.append(length)
    # Between two fields of the model itself nothing tells that more should follow; there are few such places.
    assert len(passed) <= 3


@pytest.mark.parametrize("data", [b"\x3a", b"\x3a\xff\xff\xff\xff\x0f", b"\xff" * 20, b"\x0b\x0c"], ids=repr)
def test_bytes_that_are_no_message_are_refused(data, tmp_path):
    (tmp_path / "model.onnx").write_bytes(data)
    with pytest.raises(ModelError, match="cut short or no ONNX file"):
        check_self_contained(tmp_path / "model.onnx")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelError, match=r"model\.onnx: No such file"):
        check_self_contained(tmp_path / "model.onnx")
