"""What the measurements stand on: the images, the stand-ins, and how a command is timed."""

import sys
from collections import Counter
from hashlib import sha256
from random import Random

import numpy as np
import pytest

from benchmarks import images, standins
from benchmarks.measure import Taken, ratios, run, spread
from benchmarks.tag import agreement
from sdprep.images.decode import read_size
from sdprep.types import ImageItem

ALBUM = images.Album(20, 0.002, 0.02)


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    folder = tmp_path_factory.mktemp("album") / "images"
    images.fill(folder, ALBUM)
    return folder


def test_eight_of_ten_images_are_jpeg_and_one_each_png_and_webp(album):
    kinds = Counter(path.suffix for path in images.fill(album, ALBUM))
    assert kinds == {".jpg": 16, ".png": 2, ".webp": 2}


def test_every_image_has_the_size_that_was_asked_for(album):
    sizes = [read_size(ImageItem.at(path)) for path in images.fill(album, ALBUM)]
    assert all(1_800 <= width * height <= 22_000 for width, height in sizes)


def test_the_same_images_are_drawn_again(album, tmp_path):
    def drawn(folder):
        return [sha256(path.read_bytes()).digest() for path in images.fill(folder, ALBUM)]

    assert drawn(tmp_path / "again") == drawn(album)


def test_images_that_are_there_are_kept(album):
    times = [path.stat().st_mtime_ns for path in images.fill(album, ALBUM)]
    assert [path.stat().st_mtime_ns for path in images.fill(album, ALBUM)] == times


def test_images_of_another_album_are_not_taken_for_these(album):
    with pytest.raises(ValueError, match="give another folder"):
        images.fill(album, images.Album(21, 0.002, 0.02))


@pytest.mark.parametrize("text", ["1-3", "2"])
def test_megapixels_are_a_range_or_one_number(text):
    assert images.megapixels(text) == {"1-3": (1, 3), "2": (2, 2)}[text]


@pytest.mark.parametrize(("shape", "depth"), [("tiny", 0), ("vit", 1)])
def test_a_stand_in_gives_about_as_many_tags_as_a_real_tagger(tmp_path, shape, depth):
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `tag` is not installed here")
    folder = standins.write(tmp_path / shape, shape, depth)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    image = images.draw((standins.SIZE, standins.SIZE), Random(3))
    (scores,) = session.run(None, {"input": np.asarray(image, dtype=np.float32)[None]})[0]
    assert len(scores) == 9083
    assert 3 <= (scores >= 0.35).sum() <= 100


def test_a_command_that_fails_is_no_measurement():
    with pytest.raises(RuntimeError, match="ended with 3"):
        run([sys.executable, "-c", "import sys; sys.exit(3)"])


def test_the_processor_time_of_a_command_is_also_that_of_its_children():
    child = "import time\nwhile time.process_time() < 0.4: pass"
    taken = run([sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"])
    assert taken.cpu >= 0.4


def test_ratios_are_those_of_each_round():
    theirs, ours = [Taken(4, 9, ""), Taken(6, 9, "")], [Taken(2, 3, ""), Taken(2, 1, "")]
    assert ratios(theirs, ours) == ([2, 3], [3, 9])


def test_a_spread_is_the_median_with_the_least_and_the_greatest():
    assert spread([3.0, 1.0, 10.0], ".0f") == "3 (1 to 10)"


def test_tags_agree_in_whatever_order_and_but_for_characters():
    ours, theirs = {"a": ["x", "y"], "b": ["x"]}, {"a": ["y", "x", "character_1"], "b": ["x", "z"]}
    assert agreement(ours, theirs) == ("1 of 2", "0.8571")
