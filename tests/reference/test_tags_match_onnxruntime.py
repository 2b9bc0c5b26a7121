"""The stored probabilities are those of plain onnxruntime after the documented preprocessing."""

import csv
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sdprep.demo
from sdprep.catalog.results import decode_scores
from sdprep.config import RunOptions, TagSettings
from sdprep.tasks.tag import tag
from tests.reference.reading import read, stored_results

MODEL = Path(sdprep.demo.__file__).parent / "models" / "demo-tag"
# Probabilities are kept as float16, of which two beside each other are at most 0.0005 apart.
CLOSE = 1e-3


@cache
def session() -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(MODEL / "model.onnx", providers=["CPUExecutionProvider"])


def probabilities(path: Path) -> Any:
    """Centre on a white square, resize bicubically, swap red and blue, values 0 to 255, one image a call."""
    image, node = read(path), session().get_inputs()[0]
    side = max(image.size)
    square = Image.new("RGB", (side, side), "white")
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    size = (node.shape[1], node.shape[1])
    pixels = np.asarray(square.resize(size, Image.Resampling.BICUBIC), dtype=np.float32)[None, ..., ::-1]
    return session().run(None, {node.name: np.ascontiguousarray(pixels)})[0][0]


def written_by_hand(scores: Any, threshold: float) -> set[str]:
    with (MODEL / "selected_tags.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return {
        row["name"] for row, score in zip(rows, scores, strict=True) if row["category"] != "9" and score >= threshold
    }


def tagged(folder: Path, batch_size: int = 8) -> dict[Path, bytes]:
    report = tag(
        folder, TagSettings(model="demo-tag", exact_decode=True, run=RunOptions(batch_size=batch_size, workers=0))
    )
    assert report.failed == 0
    return stored_results(folder)


@pytest.mark.parametrize("batch_size", [1, 8])
def test_every_stored_probability_is_that_of_onnxruntime(folder: Path, batch_size: int) -> None:
    off = {}
    for path, data in tagged(folder, batch_size).items():
        expected = probabilities(path)
        off[path.name] = max(abs(value - expected[index]) for index, value in decode_scores(data))
    assert {name: value for name, value in off.items() if value >= CLOSE} == {}


def test_every_probability_that_is_not_stored_is_below_the_floor(folder: Path) -> None:
    for path, data in tagged(folder).items():
        expected = probabilities(path)
        expected[[index for index, _ in decode_scores(data)]] = 0
        assert expected.max() < 0.01 + CLOSE


def test_every_image_has_stored_probabilities(folder: Path) -> None:
    images = {path for path in folder.rglob("*") if path.is_file()}
    assert set(tagged(folder)) == images


def test_the_tags_of_a_sidecar_are_the_labels_at_or_above_the_threshold(folder: Path) -> None:
    off = {}
    for path in tagged(folder):
        tags = set(path.with_suffix(".txt").read_text(encoding="utf-8").strip("\n").split(", ")) - {""}
        scores = probabilities(path)
        surely, perhaps = written_by_hand(scores, 0.35 + CLOSE), written_by_hand(scores, 0.35 - CLOSE)
        if not surely <= tags <= perhaps:
            off[path.name] = tags ^ surely
    assert off == {}
