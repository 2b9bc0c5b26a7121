"""Waifu-Diffusion-style taggers: graphs of every shape that such models come in, and files that do not fit."""

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sdprep.errors import MissingExtra, ModelError
from sdprep.installation import here
from sdprep.models.base import ImageSpec, LabelSpec, ModelFiles, ModelSpec, Source
from sdprep.models.taggers.label_file import read_labels
from sdprep.models.taggers.onnx_tagger import OnnxTagger
from sdprep.types import Batch

SIZE, CATEGORIES = 4, {"general": 0, "character": 4, "rating": 9}
ROWS = ["0,general,9,1", "1,first,0,1", "2,second,4,1"]
HEADER = "tag_id,name,category,count"
# Every graph here answers with the mean of each channel it is given, over 255: what it saw is what it says.
SHAPES: dict[str, list[Any]] = {
    "nhwc, any batch": ["N", SIZE, SIZE, 3],
    "nhwc, batch 1": [1, SIZE, SIZE, 3],
    "nhwc, batch 4": [4, SIZE, SIZE, 3],
    "nchw, any batch": ["N", 3, SIZE, SIZE],
    "nchw, batch 4": [4, 3, SIZE, SIZE],
}


def graph(
    shape: list[Any], name: str = "input_1:0", outputs: int = 3, kind: int = TensorProto.FLOAT
) -> onnx.ModelProto:
    """A model whose scores are the means of the channels over 255, repeated to `outputs` scores."""
    axes = [2, 3] if shape[1] == 3 else [1, 2]
    constants = [
        numpy_helper.from_array(np.array(axes, dtype=np.int64), "axes"),
        numpy_helper.from_array(np.array(255, dtype=np.float32), "white"),
        numpy_helper.from_array(np.arange(outputs, dtype=np.int64) % 3, "channels"),
    ]
    nodes = [
        helper.make_node("Cast", [name], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
        helper.make_node("Div", ["means", "white"], ["scaled"]),
        helper.make_node("Gather", ["scaled", "channels"], ["scores"], axis=1),
    ]
    given = helper.make_tensor_value_info(name, kind, shape)
    made = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [shape[0], outputs])
    body = helper.make_graph(nodes, "means", [given], [made], constants)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def spec(channels: Any = "rgb", **changes: Any) -> ModelSpec:
    return ModelSpec(
        **{
            "name": "toy",
            "task": "tag",
            "backend": "onnx",
            "source": Source(path="."),
            "files": ("model.onnx", "selected_tags.csv"),
            "image": ImageSpec(fit="pad", channels=channels),
            "labels": LabelSpec("selected_tags.csv", CATEGORIES),
            **changes,
        }
    )


def write(folder: Path, model: onnx.ModelProto | None = None, rows: Iterable[str] = ROWS) -> ModelFiles:
    (folder / "model.onnx").write_bytes((model or graph(SHAPES["nhwc, any batch"])).SerializeToString())
    (folder / "selected_tags.csv").write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    return ModelFiles(folder, None, "weights")


def batch(count: int, first: int = 0) -> Batch:
    """Images whose red, green and blue are their number, 100 and 200."""
    pixels = np.empty((count, SIZE, SIZE, 3), dtype=np.uint8)
    pixels[..., 1], pixels[..., 2] = 100, 200
    pixels[..., 0] = np.arange(first, first + count)[:, None, None]
    return Batch(tuple(range(first, first + count)), (b"",) * count, pixels)


def answers(tagger: OnnxTagger, *batches: Batch) -> dict[Any, list[float]]:
    return {key: (prediction.scores * 255).tolist() for key, prediction in tagger.predict(batches)}


def refusal(folder: Path, **changes: Any) -> str:
    with pytest.raises(ModelError) as caught:
        OnnxTagger(spec(**changes), ModelFiles(folder, None, "weights"))
    return str(caught.value)


# Graphs


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("count", [1, 3, 4, 6])
def test_every_image_gets_its_own_scores(tmp_path: Path, shape: list[Any], count: int) -> None:
    tagger = OnnxTagger(spec(), write(tmp_path, graph(shape)))
    found = answers(tagger, batch(count), batch(2, first=count))
    expected = {number: [number, 100, 200] for number in range(count + 2)}
    assert found == {key: pytest.approx(scores, abs=1e-3) for key, scores in expected.items()}


@pytest.mark.parametrize("shape", [SHAPES["nhwc, any batch"], SHAPES["nchw, batch 4"]], ids=["nhwc", "nchw"])
def test_a_model_that_wants_bgr_gets_blue_first(tmp_path: Path, shape: list[Any]) -> None:
    tagger = OnnxTagger(spec("bgr"), write(tmp_path, graph(shape)))
    assert answers(tagger, batch(1, first=50))[50] == pytest.approx([200, 100, 50], abs=1e-3)


@pytest.mark.parametrize("name", ["input", "input_1:0", "pixel_values"])
def test_the_name_of_the_input_is_read_from_the_graph(tmp_path: Path, name: str) -> None:
    tagger = OnnxTagger(spec(), write(tmp_path, graph(SHAPES["nhwc, any batch"], name)))
    assert list(answers(tagger, batch(2))) == [0, 1]


@pytest.mark.parametrize("shape", [[1, 8, 8, 3], ["N", 3, 8, 8]])
def test_the_size_and_the_padding_say_how_an_image_is_fitted(tmp_path: Path, shape: list[Any]) -> None:
    image = ImageSpec(fit="squash", pad_color=(1, 2, 3))
    fit = OnnxTagger(spec(image=image), write(tmp_path, graph(shape))).fit
    assert (fit.size, fit.mode, fit.pad_color) == (8, "squash", (1, 2, 3))


def test_the_scores_are_float32(tmp_path: Path) -> None:
    tagger = OnnxTagger(spec(), write(tmp_path))
    assert [prediction.scores.dtype for _, prediction in tagger.predict([batch(1)])] == [np.float32]


def test_the_pixels_of_a_batch_are_not_changed(tmp_path: Path) -> None:
    given = batch(2)
    answers(OnnxTagger(spec("bgr"), write(tmp_path)), given)
    np.testing.assert_array_equal(given.pixels, batch(2).pixels)


@pytest.mark.parametrize(
    "shape", [["N", 4, 5, 3], ["N", 4, 4, 1], ["N", 1, 4, 4], ["N", 0, 0, 3]], ids=str
)  # fmt: skip
def test_an_input_that_is_no_batch_of_square_images_is_refused(tmp_path: Path, shape: list[Any]) -> None:
    write(tmp_path, graph(shape))
    assert "not a batch of square RGB images" in refusal(tmp_path)


@pytest.mark.parametrize("kind", [TensorProto.UINT8, TensorProto.FLOAT16], ids=["uint8", "float16"])
def test_an_input_that_takes_other_numbers_than_float32_is_refused_at_once(tmp_path: Path, kind: int) -> None:
    write(tmp_path, graph(SHAPES["nhwc, any batch"], kind=kind))
    assert "model.onnx" in refusal(tmp_path)


def test_a_model_with_more_scores_than_labels_is_refused_with_both_numbers(tmp_path: Path) -> None:
    write(tmp_path, graph(SHAPES["nhwc, any batch"], outputs=5))
    message = refusal(tmp_path)
    assert all(part in message for part in ("model.onnx", "5 scores", "3 rows"))


@pytest.mark.parametrize("data", [b"", b"version https://git-lfs.github.com/spec/v1\n", bytes(1000)], ids=len)
def test_a_file_that_is_no_model_is_named(tmp_path: Path, data: bytes) -> None:
    write(tmp_path)
    (tmp_path / "model.onnx").write_bytes(data)
    assert str(tmp_path / "model.onnx") in refusal(tmp_path)


def test_a_missing_model_file_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "model.onnx").unlink()
    assert str(tmp_path / "model.onnx") in refusal(tmp_path)


def test_without_onnxruntime_the_message_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtra, match=re.escape(here().install_extra("tag"))) as caught:
        OnnxTagger(spec(), write(tmp_path))
    assert caught.value.exit_code == 5


# Labels


def labels(folder: Path, text: str | bytes) -> Any:
    (folder / "selected_tags.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_labels(spec(), ModelFiles(folder, None, "weights"))


def test_a_category_is_told_by_its_code_and_not_by_its_place(tmp_path: Path) -> None:
    table = labels(tmp_path, f"{HEADER}\n5,solo,0,1\n6,aka,4,1\n7,general,9,1\n8,smile,0,1\n")
    assert (table.names, table.categories) == (
        ("solo", "aka", "general", "smile"),
        ("general", "character", "rating", "general"),
    )


def test_columns_are_told_by_their_header_and_not_by_their_place(tmp_path: Path) -> None:
    table = labels(tmp_path, "category,ips,name\n9,[],general\n4,[],aka\n")
    assert (table.names, table.categories) == (("general", "aka"), ("rating", "character"))


@pytest.mark.parametrize("text", ["\ufeff{0}\n0,é,0,1\n", "{0}\r\n0,é,0,1\r\n", "{0}\n0,é,0,1\n\n"])
def test_byte_order_mark_line_ends_and_blank_lines_do_not_matter(tmp_path: Path, text: str) -> None:
    assert labels(tmp_path, text.format(HEADER)).names == ("é",)


@pytest.mark.parametrize("name", ["^_^", "o_o", "||_||", '";)"', "aka_(sdprep)", "don't"])
def test_names_keep_their_underscores_and_signs(tmp_path: Path, name: str) -> None:
    expected = name.strip('"')
    assert labels(tmp_path, f"{HEADER}\n0,{name},0,1\n").names == (expected,)


def test_an_unknown_category_is_named_with_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"selected_tags\.csv, line 3: category 5 is not one of 0, 4, 9"):
        labels(tmp_path, f"{HEADER}\n0,a,0,1\n1,b,5,1\n")


@pytest.mark.parametrize(
    "text",
    [
        "id;tag\n1;a\n",
        f"{HEADER.replace('category', 'kind')}\n0,a,0,1\n",
        f"{HEADER}\n0\n",
        b"\xff\xfe\0",
        "<html>\n<p>",
    ],
    ids=["other columns", "no category", "short row", "no text", "html"],
)
def test_a_file_that_is_no_label_file_is_named(tmp_path: Path, text: str | bytes) -> None:
    with pytest.raises(ModelError, match=r"selected_tags\.csv"):
        labels(tmp_path, text)


def test_a_missing_label_file_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "selected_tags.csv").unlink()
    assert str(tmp_path / "selected_tags.csv") in refusal(tmp_path)


def test_a_description_without_a_label_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    assert "does not name a label file" in refusal(tmp_path, labels=None)


def test_the_table_of_a_tagger_follows_its_label_file(tmp_path: Path) -> None:
    tagger = OnnxTagger(spec(), write(tmp_path, rows=reversed(ROWS)))
    assert (tagger.labels.names, tagger.labels.categories) == (
        ("second", "first", "general"),
        ("character", "general", "rating"),
    )
