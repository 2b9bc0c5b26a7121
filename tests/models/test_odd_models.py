"""Models with any value anywhere in their files: they work, or are refused by an error that names them."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import sdprep.demo
from sdprep.config import CaptionSettings
from sdprep.errors import ModelError
from sdprep.models.backends import open_model
from sdprep.models.base import ImageSpec, ModelSpec, Source
from sdprep.models.execution import Execution
from sdprep.models.files.hub import files_of_folder
from sdprep.models.registry.infer import WD_LABELS, from_folder
from sdprep.tasks.annotation.engine_config import caption_options
from sdprep.types import Batch

MODELS = Path(sdprep.demo.__file__).parent / "models"
CAPTIONER_FILES = ["config.json", "tokenizer_config.json", "preprocessor_config.json", "generation_config.json"]
CAPTIONER_FILES += ["tokenizer.json", "special_tokens_map.json", "added_tokens.json"]
ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 1, 2, 3, 12, 161, 162, 10**9, 2**31, 2**63, 2**70, -(10**9), 1.5, 1e308, "", "x", "gelu"]),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
)
VALUES = st.recursive(
    ATOMS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
# Loading and asking a model takes a while: a quarter of the tries of the profile.
SLOW = settings(max_examples=max(1, settings().max_examples // 4))


@pytest.fixture(autouse=True)
def one_thread():
    """A model this small is slowed down by threads that wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def use(folder, task, images=1):
    """Open a folder as a run does, and show the model some images."""
    return show(from_folder(folder, task), images)


def show(spec, images=1):
    how = CaptionSettings(device="cpu", num_beams=1, min_length=1, max_length=6)
    files = files_of_folder(spec)
    model = open_model(spec, files, Execution(device="cpu"), caption_options(how, spec), lambda _: None)
    side = model.fit.size
    pixels = np.random.default_rng(0).integers(0, 256, (images, side, side, 3), dtype=np.uint8)
    return list(model.predict([Batch(tuple(range(images)), (b"0",) * images, pixels)]))


def refusal(function, *arguments):
    """What is said by the error of a model that is refused; "" if it works."""
    try:
        function(*arguments)
    except ModelError as error:
        said = str(error)
        return said if len(said) < 2000 else pytest.fail(f"a message of {len(said)} characters")
    return ""


def change(draw, value, depth=0):
    """A JSON value with another value, or none, somewhere in it."""
    if isinstance(value, dict | list) and value and draw(st.integers(0, 3 - min(depth, 2))):
        place = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(min(len(value), 5))))
        changed = dict(value) if isinstance(value, dict) else list(value)
        if draw(st.integers(0, 7)):
            changed[place] = change(draw, value[place], depth + 1)
        else:
            del changed[place]
        return changed
    if isinstance(value, dict) and draw(st.booleans()):
        return {**value, draw(st.sampled_from(["top_k", "eos_token_id", "model_max_length", "x"])): draw(VALUES)}
    return draw(VALUES)


@st.composite
def changed_files(draw):
    """The name of a file of the demo captioner and other content for it."""
    name = draw(st.sampled_from(CAPTIONER_FILES))
    source = MODELS / "demo-caption" / name
    value = change(draw, json.loads(source.read_text("utf-8")) if source.exists() else {})
    text = json.dumps(value)
    # JSON knows no NaN, but Python reads it.
    return name, text[: draw(st.integers(0, len(text)))] if draw(st.integers(0, 15)) == 0 else text


@pytest.fixture(scope="module")
def captioner(tmp_path_factory):
    return Path(shutil.copytree(MODELS / "demo-caption", tmp_path_factory.mktemp("odd") / "model"))


@SLOW
@given(changed=changed_files())
def test_a_captioner_with_any_value_in_its_files_works_or_is_refused(changed, captioner):
    name, text = changed
    before = (captioner / name).read_bytes() if (captioner / name).exists() else None
    (captioner / name).write_text(text, "utf-8", errors="surrogatepass")
    try:
        said = refusal(use, captioner, "caption")
    finally:
        if before is None:
            (captioner / name).unlink()
        else:
            (captioner / name).write_bytes(before)
    assert said == "" or str(captioner) in said


# Taggers

ROWS = "tag_id,name,category,count\n1,general,9,1\n2,1girl,0,1\n3,aka,4,1\n"


def tagger(folder, shape=("N", 16, 16, 3), nodes=None, output=None, constants=()):
    """A tagger of three labels: by default the mean of each channel; `nodes` lead from "input" to "scores"."""
    nodes = nodes or [helper.make_node("ReduceMean", ["input", "axes"], ["scores"], keepdims=0)]
    output = output or helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 3])
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)
    tensors = [numpy_helper.from_array(np.array([1, 2], np.int64), "axes"), *constants]
    graph = helper.make_graph(nodes, "odd", [given], [output], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "selected_tags.csv").write_text(ROWS)
    return folder


@pytest.mark.parametrize("side", [0, 10**9, 2**40])
def test_a_graph_for_images_without_bounds_is_refused(side, tmp_path):
    with pytest.raises(ModelError, match=r"model\.onnx"):
        use(tagger(tmp_path, ("N", side, side, 3)), "tag")


@pytest.mark.parametrize("batch", [0, 10**6, 10**9, 2**40])
def test_a_graph_for_a_batch_without_bounds_is_refused(batch, tmp_path):
    with pytest.raises(ModelError, match=rf"model\.onnx.*batch size of {batch}"):
        use(tagger(tmp_path, (batch, 16, 16, 3)), "tag")


def test_a_graph_with_one_answer_for_all_images_is_refused(tmp_path):
    axes = numpy_helper.from_array(np.array([0, 1, 2], np.int64), "all")
    mean = helper.make_node("ReduceMean", ["input", "all"], ["line"], keepdims=0)
    folder = tagger(tmp_path, nodes=[mean, helper.make_node("Unsqueeze", ["line", "first"], ["scores"])],
                    constants=[axes, numpy_helper.from_array(np.array([0], np.int64), "first")])  # fmt: skip
    with pytest.raises(ModelError, match=r"model\.onnx outputs 1 rows of scores for 2 images"):
        use(folder, "tag", images=2)


KINDS = {
    "texts": (helper.make_node("Cast", ["means"], ["scores"], to=TensorProto.STRING), TensorProto.STRING),
    "truth": (helper.make_node("Cast", ["means"], ["scores"], to=TensorProto.BOOL), TensorProto.BOOL),
    "a list": (helper.make_node("SequenceConstruct", ["means", "means"], ["scores"]), None),
}


@pytest.mark.parametrize(("last", "kind"), KINDS.values(), ids=KINDS)
def test_a_graph_that_answers_without_numbers_is_refused(last, kind, tmp_path):
    output = (
        helper.make_tensor_sequence_value_info("scores", TensorProto.FLOAT, ["N", 3])
        if kind is None
        else helper.make_tensor_value_info("scores", kind, ["N", 3])
    )
    means = helper.make_node("ReduceMean", ["input", "axes"], ["means"], keepdims=0)
    with pytest.raises(ModelError, match=r"model\.onnx"):
        use(tagger(tmp_path, nodes=[means, last], output=output), "tag")


@pytest.mark.parametrize("rank", [0, 1, 3])
def test_a_graph_whose_answer_has_another_rank_than_it_states_is_refused(rank, tmp_path):
    shape = numpy_helper.from_array(np.array([[], [-1], [-1, 3, 1]][rank if rank < 2 else 2], np.int64), "shape")
    source = helper.make_node("ReduceMean", ["input", *([] if rank == 0 else ["axes"])], ["means"], keepdims=0)
    output = helper.make_tensor_value_info("scores", TensorProto.FLOAT, None)
    with pytest.raises(ModelError, match=r"model\.onnx"):
        use(tagger(tmp_path, nodes=[source, helper.make_node("Reshape", ["means", "shape"], ["scores"])],
                   output=output, constants=[shape]), "tag")  # fmt: skip


STAGES = [
    {"type": "pad_to_size", "size": 16, "background_color": "white"},
    {"type": "to_tensor"},
    {"type": "normalize", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
]


@pytest.fixture(scope="module")
def recipe_tagger(tmp_path_factory):
    folder = tagger(tmp_path_factory.mktemp("recipe"))
    image = ImageSpec(recipe="preprocess.json", layout="nhwc")
    files = ("model.onnx", "selected_tags.csv", "preprocess.json")
    return ModelSpec("toy", "tag", "onnx", Source(path=str(folder)), files, image, labels=WD_LABELS, answers="logits")


@given(data=st.data())
def test_a_tagger_with_any_value_in_its_recipe_works_or_is_refused(data, recipe_tagger):
    path = Path(recipe_tagger.source.path) / "preprocess.json"
    path.write_text(json.dumps(change(data.draw, {"stages": STAGES})), "utf-8", errors="surrogatepass")
    assert re.search(r"preprocess\.json|model\.onnx|^$", refusal(show, recipe_tagger))


def test_a_colour_that_no_image_can_have_is_refused(recipe_tagger):
    stages = [{**STAGES[0], "background_color": "rgb(999,0,0)"}, *STAGES[1:]]
    (Path(recipe_tagger.source.path) / "preprocess.json").write_text(json.dumps({"stages": stages}))
    with pytest.raises(ModelError, match=r"stage 1 \(pad_to_size\): background_color"):
        show(recipe_tagger)
