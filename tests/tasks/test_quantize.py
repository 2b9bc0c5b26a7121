"""Smaller copies of taggers, made by the real onnxruntime: of the demo tagger, and of one that does not bear it."""

import json
import math
import random
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from scripts.demo_training.draw import draw
from scripts.demo_training.figures import random_figure
from sdprep.config import QuantizeSettings, RunOptions, TagSettings
from sdprep.errors import MissingExtra, ModelError, NoImages, UsageError
from sdprep.models.files.hub import find_local
from sdprep.models.registry.registry import load, resolve, user_folder
from sdprep.tasks import quantize as task
from sdprep.tasks.quantize import AGREEMENT, agreement, as_toml, quantize
from sdprep.tasks.tag import tag

SIZE = 8
# As many images as are enough where it is not about the tags.
FEW = QuantizeSettings(sample=12)


@pytest.fixture(autouse=True)
def any_speed(monkeypatch):
    """No test depends on how fast this machine is: every copy is fast enough."""
    monkeypatch.setattr("sdprep.tasks.quantize.SLOWER", math.inf)


@pytest.fixture(scope="module")
def drawings(tmp_path_factory):
    """Forty drawings that the demo tagger was not trained on."""
    folder, rng = tmp_path_factory.mktemp("drawings"), random.Random(11)
    for number in range(40):
        draw(random_figure(rng), rng, (160, 160)).save(folder / f"{number}.png")
    return folder


def brittle(folder):
    """A tagger of red images, beside whose red an unused number of 255 million makes any rounding fatal."""
    folder.mkdir()
    rows = ["tag_id,name,category,count", "0,general,9,1", "1,red,0,1"]
    (folder / "selected_tags.csv").write_text("\n".join(rows) + "\n")
    constants = {
        "factors": np.float32([1, 1, 1e6]),
        "weights": np.float32([[0, 0.2], [0, 0], [0, 0]]),
        "offset": np.float32([0, -20]),
    }
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["means"], axes=[1, 2], keepdims=0),
        helper.make_node("Mul", ["means", "factors"], ["wide"]),
        helper.make_node("Gemm", ["wide", "weights", "offset"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["y"]),
    ]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", SIZE, SIZE, 3])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    held = [numpy_helper.from_array(values, name) for name, values in constants.items()]
    graph = helper.make_graph(nodes, "brittle", [given], [made], held)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), folder / "model.onnx"
    )
    description = 'name = "brittle"\ntask = "tag"\nbackend = "onnx"\nfiles = ["model.onnx", "selected_tags.csv"]\n'
    description += 'source = { path = "." }\nimage = { fit = "pad" }\n'
    description += 'labels = { file = "selected_tags.csv", categories = { general = 0, rating = 9 } }\n'
    (folder / "brittle.toml").write_text(description)
    return str(folder / "brittle.toml")


def overflowing(model):
    """The brittle tagger as it is where its large number becomes infinite."""
    (factors,) = [each for each in model.graph.initializer if each.name == "factors"]
    factors.CopyFrom(numpy_helper.from_array(np.float32([1, 1, np.inf]), "factors"))
    return model


@pytest.fixture
def reds(tmp_path):
    """Twelve images, red and blue by turns, all different."""
    folder = tmp_path / "reds"
    folder.mkdir()
    for number in range(12):
        color = (255, 0, 255 - number) if number % 2 else (number, 0, 255)
        Image.new("RGB", (SIZE, SIZE), color).save(folder / f"{number}.png")
    return folder


def answers(name, drawings):
    """The tags of drawings by a model, by the name of their file."""
    tag(drawings, TagSettings(model=name, run=RunOptions(workers=0)))
    return {path.name: path.read_text() for path in drawings.glob("*.txt")}


# What is made


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_a_copy_of_the_demo_tagger_keeps_its_tags(drawings, precision):
    made = quantize("demo-tag", drawings, QuantizeSettings(precision=precision))
    assert made.agreement.f1 > 0.98
    assert made.bytes["new"] < 0.7 * made.bytes["original"]


def test_a_copy_tags_under_its_own_name(drawings, tmp_path):
    quantize("demo-tag", drawings, FEW)
    album = tmp_path / "album"
    album.mkdir()
    for name in ("0.png", "1.png", "2.png"):
        shutil.copy(drawings / name, album)
    before = answers("demo-tag", album)
    for path in album.glob("*.txt"):
        path.unlink()
    assert {name: set(text.split(", ")) for name, text in answers("demo-tag-int8", album).items()} == {
        name: set(text.split(", ")) for name, text in before.items()
    }


def test_matrices_and_convolutions_compute_with_int8(drawings):
    made = quantize("demo-tag", drawings, FEW)
    graph = onnx.load(made.folder / "model.onnx").graph
    weights = {each.name for each in graph.initializer if each.data_type == TensorProto.INT8}
    back = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in weights}
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    assert len(layers) == 7
    assert all(node.input[1] in back for node in layers)


def test_a_copy_is_described_as_its_original_is(drawings):
    quantize("demo-tag", drawings, FEW)
    copy, original = resolve("demo-tag-int8", "tag"), resolve("demo-tag", "tag")
    assert (copy.image, copy.labels, copy.licence) == (original.image, original.labels, original.licence)
    assert copy.precision == "int8"


def test_results_of_a_copy_are_kept_apart_from_those_of_the_original(drawings):
    quantize("demo-tag", drawings, FEW)
    copy, original = resolve("demo-tag-int8", "tag"), resolve("demo-tag", "tag")
    assert find_local(copy).weights != find_local(original).weights


def test_the_measurement_is_stored_in_the_folder_of_the_copy(drawings):
    made = quantize("demo-tag", drawings, FEW)
    stored = json.loads((made.folder / AGREEMENT).read_text())
    assert stored["agreement"]["f1"] == made.agreement.f1
    assert (stored["schema"], stored["original"], stored["calibrated"]) == (1, "demo-tag", 6)


def test_half_of_the_images_calibrates_and_the_other_half_measures(drawings):
    made = quantize("demo-tag", drawings, QuantizeSettings(sample=9))
    assert (made.calibrated, made.agreement.pictures) == (5, 4)


def test_the_same_images_under_other_names_give_the_same_copy(drawings, tmp_path):
    for number, path in enumerate(sorted(drawings.glob("*.png"), reverse=True)):
        shutil.copy(path, tmp_path / f"x{number}.png")
    graph = quantize("demo-tag", drawings, QuantizeSettings(sample=20)).folder / "model.onnx"
    before = graph.read_bytes()
    quantize("demo-tag", tmp_path, QuantizeSettings(sample=20))
    assert graph.read_bytes() == before


def test_the_same_image_twice_counts_once(drawings, tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        shutil.copy(drawings / "0.png", tmp_path / name)
    with pytest.raises(UsageError, match="only 1 can be read"):
        quantize("demo-tag", tmp_path)


def test_a_broken_image_is_reported_and_skipped(drawings, tmp_path):
    shutil.copytree(drawings, tmp_path / "images")
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    made = quantize("demo-tag", tmp_path / "images", FEW)
    assert [(each["path"], each["code"]) for each in made.failures] == [("broken.png", "not_an_image")]


def test_the_copy_is_written_to_the_folder_of_the_user(drawings, tmp_path):
    made = quantize("demo-tag", drawings, QuantizeSettings(sample=12, out=tmp_path / "mine"))
    assert made.folder == (tmp_path / "mine").resolve()
    assert resolve("demo-tag-int8", "tag").source.path == str(made.folder)
    assert load(made.folder / "demo-tag-int8.toml").source.path == str(made.folder)


def test_making_it_again_replaces_it(drawings):
    first = quantize("demo-tag", drawings, QuantizeSettings(sample=10))
    again = quantize("demo-tag", drawings, QuantizeSettings(sample=30))
    assert again.folder == first.folder
    assert json.loads((again.folder / AGREEMENT).read_text())["calibrated"] == 15
    assert {path.name for path in again.folder.iterdir()} == {
        "model.onnx", "selected_tags.csv", "agreement.json", "demo-tag-int8.toml",
    }  # fmt: skip
    assert [path.name for path in again.folder.parent.iterdir() if path.name.startswith(".sdprep")] == []


def test_categories_of_any_name_are_described_so_that_they_can_be_read(reds, tmp_path):
    model = Path(brittle(tmp_path / "brittle"))
    words = '{ "other things" = 0, "a \\"b\\" é" = 9 }'
    model.write_text(model.read_text().replace("{ general = 0, rating = 9 }", words))
    quantize(str(model), reds, QuantizeSettings(force=True))
    assert resolve("brittle-int8", "tag").labels.categories == {"other things": 0, 'a "b" é': 9}


@pytest.mark.parametrize("chosen", ["rating", "quality"])
def test_categories_of_which_the_best_is_taken_are_not_measured(reds, tmp_path, chosen):
    model = Path(brittle(tmp_path / "brittle"))
    model.write_text(model.read_text().replace("general = 0, rating = 9", f"{chosen} = 0, general = 9"))
    # Of the two labels only `red` is ever above the threshold.
    with pytest.raises(ModelError, match="the original finds no tag"):
        quantize(str(model), reds, QuantizeSettings(threshold=0.6))


# What is refused


def test_a_name_that_is_not_a_file_name_is_rejected_before_any_work(drawings, tmp_path):
    shutil.copytree(find_local(resolve("demo-tag", "tag")).folder, tmp_path / "mine (1)")
    with pytest.raises(UsageError, match="cannot be a file name"):
        quantize(str(tmp_path / "mine (1)"), drawings, QuantizeSettings(out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_description_that_cannot_be_read_again_leaves_nothing(drawings, tmp_path, monkeypatch):
    monkeypatch.setattr(task, "as_toml", lambda _: "name = ")
    with pytest.raises(ModelError, match=r"demo-tag-int8\.toml"):
        quantize("demo-tag", drawings, QuantizeSettings(out=tmp_path / "out" / "copy"))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_copy_that_does_not_agree_is_not_kept(reds, tmp_path):
    model = brittle(tmp_path / "brittle")
    with pytest.raises(ModelError, match=r"F1 0\.\d+ is below 0\.95 on 6 images.*not kept"):
        quantize(model, reds, QuantizeSettings(out=tmp_path / "out" / "copy"))
    assert list((tmp_path / "out").iterdir()) == []
    assert not (user_folder() / "brittle-int8.toml").exists()


def test_force_keeps_it_with_its_measurement(reds, tmp_path):
    made = quantize(brittle(tmp_path / "brittle"), reds, QuantizeSettings(force=True))
    assert made.agreement.f1 < made.floor
    assert resolve("brittle-int8", "tag").precision == "int8"


@pytest.mark.parametrize("force", [False, True])
def test_a_copy_that_answers_nan_is_never_kept(reds, tmp_path, force, monkeypatch):
    # A processor computes fp16 graphs in float32: what overflows on a card does not overflow here.
    monkeypatch.setattr(task, "write_fp16", lambda source, target: onnx.save(overflowing(onnx.load(source)), target))
    settings = QuantizeSettings(precision="fp16", force=force, out=tmp_path / "out" / "copy")
    with pytest.raises(ModelError, match="NaN or infinity for 6 of 6 images; not kept"):
        quantize(brittle(tmp_path / "brittle"), reds, settings)
    assert list((tmp_path / "out").iterdir()) == []


def test_images_without_tags_measure_nothing(tmp_path):
    for number in range(4):
        Image.new("RGB", (32, 32), (250 - number, 250, 250)).save(tmp_path / f"{number}.png")
    with pytest.raises(ModelError, match="finds no tag at 1 on 2 images"):
        quantize("demo-tag", tmp_path, QuantizeSettings(threshold=1.0))


def test_a_copy_cannot_be_made_of_a_copy(drawings):
    quantize("demo-tag", drawings, FEW)
    with pytest.raises(UsageError, match="demo-tag-int8 is already int8"):
        quantize("demo-tag-int8", drawings)


def test_a_folder_with_something_else_is_left_alone(drawings, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="has other content"):
        quantize("demo-tag", drawings, QuantizeSettings(out=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_name_that_the_user_gave_to_another_model_is_not_replaced(drawings, tmp_path):
    quantize("demo-tag", drawings, QuantizeSettings(sample=12, out=tmp_path / "first"))
    with pytest.raises(UsageError, match="there is already a model called demo-tag-int8"):
        quantize("demo-tag", drawings, QuantizeSettings(out=tmp_path / "second"))


def test_a_folder_without_images_is_rejected(tmp_path):
    with pytest.raises(NoImages):
        quantize("demo-tag", tmp_path)


def test_a_captioner_is_rejected(drawings):
    with pytest.raises(UsageError, match="is a captioner"):
        quantize("demo-caption", drawings)


def test_without_onnx_the_extra_is_named(drawings, monkeypatch, plain_pip):
    monkeypatch.setattr(task, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"sdprep\[quantize\]"):
        quantize("demo-tag", drawings)


# TOML


def test_a_description_reads_as_it_was_written():
    import msgspec

    inner = {"f": True, "g h": {"i.j": -1, 'k"': "", "": 2}}
    table = {"a": 'q"\\ é', "b": [1, 2.5], "c": None, "d": (), "e.e": inner}
    assert msgspec.toml.decode(as_toml(table)) == {
        "a": 'q"\\ é', "b": [1, 2.5], "e.e": {"f": True, "g h": {"i.j": -1, "": 2}},
    }  # fmt: skip


# Agreement

ORIGINAL = np.array([[0.9, 0.8, 0.1], [0.4, 0.2, 0.6]], dtype=np.float32)


def changed(row, column, value):
    other = ORIGINAL.copy()
    other[row, column] = value
    return other


def test_equal_scores_agree_fully():
    found = agreement(ORIGINAL, ORIGINAL, 0.35)
    assert (found.kept, found.f1, found.mean_change, found.largest_change) == (1, 1, 0, 0)


def test_the_tags_of_the_original_are_counted():
    found = agreement(ORIGINAL, ORIGINAL, 0.35)
    assert (found.pictures, found.tags) == (2, 4)


def test_a_score_at_the_threshold_is_a_tag():
    assert agreement(np.float32([[0.5]]), np.float32([[0.5]]), 0.5).tags == 1


def test_a_lost_tag_lowers_what_is_kept_and_f1():
    found = agreement(ORIGINAL, changed(0, 0, 0.1), 0.35)
    assert (found.kept, found.f1) == (3 / 4, 2 * 3 / (4 + 3))


def test_a_new_tag_lowers_f1_alone():
    found = agreement(ORIGINAL, changed(1, 1, 0.9), 0.35)
    assert (found.kept, found.f1) == (1, 2 * 4 / (4 + 5))


def test_a_change_that_crosses_no_threshold_is_still_a_change():
    found = agreement(ORIGINAL, changed(0, 0, 0.6), 0.35)
    assert found.f1 == 1
    assert found.largest_change == pytest.approx(0.3)
    assert found.mean_change == pytest.approx(0.3 / 6)


def test_all_tags_lost_is_no_agreement():
    found = agreement(ORIGINAL, np.zeros_like(ORIGINAL), 0.35)
    assert (found.kept, found.f1) == (0, 0)


def test_tags_that_the_original_does_not_have_are_no_agreement():
    assert agreement(np.zeros_like(ORIGINAL), ORIGINAL, 0.35).f1 == 0


def test_nothing_agrees_with_nothing():
    found = agreement(np.zeros_like(ORIGINAL), np.zeros_like(ORIGINAL), 0.35)
    assert (found.tags, found.kept, found.f1) == (0, 1, 1)


# Speed


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_a_copy_that_is_slower_than_the_original_is_not_kept_and_both_times_are_named(
    precision, drawings, tmp_path, monkeypatch
):
    # As if any time were too long.
    monkeypatch.setattr(task, "SLOWER", 0.0)
    out = tmp_path / "out" / "copy"
    figures = r"is slower than demo-tag on cpu: [\d.]+ ms per image instead of [\d.]+ ms"
    with pytest.raises(
        ModelError, match=rf"{figures}; not kept\n.*\. Use --model demo-tag here; --force keeps the copy"
    ):
        quantize("demo-tag", drawings, QuantizeSettings(precision=precision, sample=8, out=out))
    assert not out.exists()


def test_force_keeps_a_copy_that_is_slower(drawings, tmp_path, monkeypatch):
    monkeypatch.setattr(task, "SLOWER", 0.0)
    made = quantize("demo-tag", drawings, QuantizeSettings(force=True, sample=8, out=tmp_path / "copy"))
    assert (made.folder / "model.onnx").is_file()
