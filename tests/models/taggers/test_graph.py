"""What a graph says of its input, and what a description must add."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from sdprep.errors import ModelError
from sdprep.models.base import ImageSpec, ModelFiles, ModelSpec, Source
from sdprep.models.taggers.graph import GraphInput, chosen_output, probabilities

PAD = ImageSpec(fit="pad")


def read(shape, image=PAD):
    spec = ModelSpec("toy", "tag", "onnx", Source(path="."), ("model.onnx",), image)
    return GraphInput.of(shape, spec, ModelFiles(Path("folder"), None, ""))


def refusal(shape, image=PAD):
    with pytest.raises(ModelError, match=r"folder.model\.onnx") as caught:
        read(shape, image)
    return str(caught.value)


@pytest.mark.parametrize(
    ("shape", "layout", "first", "size"),
    [
        ([1, 8, 8, 3], None, False, 8),
        (["N", 3, 8, 8], None, True, 8),
        (["N", "H", "W", 3], None, False, 16),
        (["N", 3, "H", "W"], None, True, 16),
        (["N", 3, 16, "W"], None, True, 16),
        (["N", "C", "H", "W"], "nchw", True, 16),
        ([None, None, None, None], "nhwc", False, 16),
        ([2, 3, 3, 3], "nchw", True, 3),
    ],
    ids=str,
)
def test_layout_and_size_come_from_the_graph_and_else_from_the_description(shape, layout, first, size):
    image = msgspec.structs.replace(PAD, layout=layout, size=None if 8 in shape or shape[3] == shape[2] == 3 else 16)
    graph = read(shape, image)
    assert (graph.channels_first, graph.fit.size) == (first, size)


def test_a_graph_of_any_size_needs_a_stated_one():
    assert "Set size in [image]" in refusal(["N", 3, "H", "W"])


@pytest.mark.parametrize("shape", [["N", "A", "B", "C"], ["N", 3, 3, 3]], ids=str)
def test_a_graph_that_does_not_tell_its_layout_needs_a_stated_one(shape):
    assert "set layout in [image] to nhwc or nchw" in refusal(shape).lower()


def test_a_stated_size_that_is_not_the_graphs_is_refused():
    message = refusal(["N", 3, 448, 448], msgspec.structs.replace(PAD, size=512))
    assert "takes images of 448 x 448, but its description says 512" in message


@pytest.mark.parametrize("shape", [[1, 8, 8], [1, 8, 8, 1], [1, 4, 8, 8], [1, 8, 9, 3], [1, 0, 0, 3], []], ids=str)
def test_an_input_that_is_no_batch_of_square_images_is_refused(shape):
    assert "not a batch of square RGB images" in refusal(shape)


def test_pixels_are_scaled_then_moved_then_divided_in_the_order_of_the_channels():
    image = ImageSpec("pad", scale="0..1", channels="bgr", mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125))
    pixels = np.array([[[[255, 51, 0]]]], dtype=np.uint8)
    fed = read(["N", 3, 1, 1], image).feed(pixels)
    assert fed.dtype == np.float32
    np.testing.assert_allclose(fed[0, :, 0, 0], [(0 - 0.1) / 0.5, (0.2 - 0.2) / 0.25, (1 - 0.3) / 0.125], rtol=1e-6)


def test_pixels_from_0_to_255_are_fed_as_they_are():
    pixels = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)
    np.testing.assert_array_equal(read(["N", 4, 4, 3]).feed(pixels), pixels.astype(np.float32))


def test_the_logistic_function_does_not_overflow():
    found = probabilities(np.array([[-1000, -5, 0, 5, 1000]], dtype=np.float32), "logits", "model.onnx")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], [0, 1 / (1 + np.exp(5)), 0.5, 1 / (1 + np.exp(-5)), 1], atol=1e-7)


def test_a_logit_that_is_no_number_stays_none():
    assert np.isnan(probabilities(np.array([[np.nan]], dtype=np.float32), "logits", "model.onnx")).all()


def test_other_kinds_of_numbers_become_float32():
    assert probabilities(np.array([[0.25]], dtype=np.float16), "probabilities", "model.onnx").dtype == np.float32


@pytest.mark.parametrize("value", [-0.5, 1.01, 12])
def test_what_cannot_be_a_probability_is_refused(value):
    with pytest.raises(ModelError, match=r'model\.onnx outputs values .*\n.*answers = "logits"'):
        probabilities(np.array([[0.5, value, np.nan]], dtype=np.float32), "probabilities", "model.onnx")


@pytest.mark.parametrize(("wanted", "place"), [(0, 0), (1, 1), ("b", 1)])
def test_an_output_is_chosen_by_place_or_name(wanted, place):
    assert chosen_output(["a", "b"], wanted, "model.onnx") == place


@pytest.mark.parametrize("wanted", [2, -1, "c"])
def test_an_output_that_is_not_there_is_named_with_those_that_are(wanted):
    with pytest.raises(ModelError, match=rf"model\.onnx has no output '?{wanted}'?; it has: a, b"):
        chosen_output(["a", "b"], wanted, "model.onnx")
