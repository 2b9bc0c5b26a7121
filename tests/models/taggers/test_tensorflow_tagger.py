"""Taggers through TensorFlow, 2.10 and current alike."""

import os
import random
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from scripts.demo_training.draw import draw
from scripts.demo_training.figures import random_figure
from sdprep.config import RunOptions, TagSettings
from sdprep.demo import IMAGES
from sdprep.errors import MissingExtra, ModelError
from sdprep.images.fit import fitted
from sdprep.models.backends import open_tagger, with_backend
from sdprep.models.base import ImageSpec, LabelSpec, ModelFiles, ModelSpec, Source
from sdprep.models.execution import Execution
from sdprep.models.files.hub import find_local
from sdprep.models.registry.registry import resolve, with_preprocess
from sdprep.models.taggers.tensorflow_tagger import LOG_LEVEL, _choose_device, _less_talk
from sdprep.tasks.tag import tag
from sdprep.types import Batch

# TensorFlow 2.10 leaves deprecated names of numpy and the standard library in use.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
DEMO = resolve("demo-tag", "tag")


@pytest.fixture
def tensorflow():
    return pytest.importorskip("tensorflow", reason="the extra `tensorflow` is not installed here")


def opened(backend):
    spec = with_backend(DEMO, backend)
    return open_tagger(spec, find_local(spec))


def scores_of(model, pixels):
    return np.stack([found.scores for _, found in model.predict([Batch(range(len(pixels)), (), pixels)])])


def test_both_frameworks_agree_on_a_hundred_drawings(tensorflow):
    onnx, saved = opened("onnx"), opened("tensorflow")
    rng = random.Random(7)
    drawings = [draw(random_figure(rng), rng, (160, 160)) for _ in range(100)]
    pixels = np.stack([np.asarray(fitted(image, onnx.fit)) for image in drawings])
    assert np.abs(scores_of(onnx, pixels) - scores_of(saved, pixels)).max() < 1e-4


def test_both_read_the_same_size_and_labels(tensorflow):
    onnx, saved = opened("onnx"), opened("tensorflow")
    assert (onnx.fit, onnx.labels) == (saved.fit, saved.labels)


def test_the_description_says_how_images_are_prepared(tensorflow):
    spec = with_preprocess(with_backend(DEMO, "tensorflow"), "kohya")
    assert open_tagger(spec, find_local(spec)).fit.preprocess == "kohya"


def test_a_folder_is_tagged_through_tensorflow(tensorflow, tmp_path):
    shutil.copy(IMAGES / "aka.jpg", tmp_path)
    tag(tmp_path, TagSettings(model="demo-tag", backend="tensorflow", run=RunOptions(workers=0)))
    assert "aka_(sdprep)" in (tmp_path / "aka.txt").read_text()


def test_a_saved_model_without_the_signature_is_refused_and_no_image_gets_a_text(tensorflow, tmp_path):
    model, images = tmp_path / "saved", tmp_path / "images"
    tensorflow.saved_model.save(tensorflow.Module(), str(model))
    shutil.copy(find_local(DEMO).folder / "selected_tags.csv", model)
    images.mkdir()
    shutil.copy(IMAGES / "aka.jpg", images)
    with pytest.raises(ModelError, match="no signature 'serving_default'"):
        tag(images, TagSettings(model=str(model), run=RunOptions(workers=0)))
    assert not list(images.glob("*.txt"))


def test_a_broken_saved_model_is_named(tensorflow, tmp_path):
    shutil.copytree(find_local(DEMO).folder, tmp_path / "model")
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match="is not a SavedModel"):
        open_tagger(with_backend(DEMO, "tensorflow"), ModelFiles(tmp_path / "model", None, "weights"))


def test_a_label_file_of_another_model_is_refused(tensorflow, tmp_path):
    shutil.copytree(find_local(DEMO).folder, tmp_path / "model")
    (tmp_path / "model" / "selected_tags.csv").write_text("tag_id,name,category,count\n0,general,9,1\n")
    with pytest.raises(ModelError, match=r"outputs 51 scores but its label file selected_tags\.csv has 1 rows"):
        open_tagger(with_backend(DEMO, "tensorflow"), ModelFiles(tmp_path / "model", None, "weights"))


def test_without_tensorflow_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(MissingExtra, match=r"tensorflow is not installed\. Install it with: .*\[tensorflow\]"):
        opened("tensorflow")


def test_the_output_that_is_named_is_taken_and_its_logits_made_probabilities(tensorflow, tmp_path):
    class Graph(tensorflow.Module):
        @tensorflow.function(input_signature=[tensorflow.TensorSpec([None, 4, 4, 3], tensorflow.float32, "pixels")])
        def serve(self, pixels):
            means = tensorflow.reduce_mean(pixels, axis=[1, 2])
            return {"embedding": tensorflow.zeros([1, 7]), "logits": means, "other": -means}

    graph = Graph()
    tensorflow.saved_model.save(graph, str(tmp_path), {"serving_default": graph.serve})
    (tmp_path / "tags.csv").write_text("name,category\na,0\nb,0\nc,0\n")
    spec = ModelSpec(
        "toy", "tag", "tensorflow", Source(path="."), ("saved_model.pb", "tags.csv"),
        ImageSpec("pad", channels="bgr", scale="0..1", mean=(0.1, 0.2, 0.3)),
        labels=LabelSpec("tags.csv", {"general": 0}), answers="logits", output="logits",
    )  # fmt: skip
    pixels = np.full((2, 4, 4, 3), [255, 51, 0], dtype=np.uint8)
    scores = scores_of(open_tagger(spec, ModelFiles(tmp_path, None, "weights")), pixels)
    logits = np.array([0 - 0.1, 0.2 - 0.2, 1 - 0.3])
    np.testing.assert_allclose(scores, [1 / (1 + np.exp(-logits))] * 2, atol=1e-6)


def one_image_only(tensorflow, folder):
    """A tagger whose inside takes one image, although its input declares any number."""

    class Graph(tensorflow.Module):
        @tensorflow.function(input_signature=[tensorflow.TensorSpec([None, 4, 4, 3], tensorflow.float32, "pixels")])
        def serve(self, pixels):
            means = tensorflow.reduce_mean(pixels, axis=[1, 2]) / 255
            return {"scores": tensorflow.concat([means, tensorflow.zeros([1, 1])], axis=1)}

    graph = Graph()
    tensorflow.saved_model.save(graph, str(folder), {"serving_default": graph.serve})
    (folder / "selected_tags.csv").write_text("name,category\na,0\nb,0\nc,4\nd,9\n")
    return open_tagger(with_backend(DEMO, "tensorflow"), ModelFiles(folder, None, "weights"))


def test_a_graph_that_fails_is_named_with_the_reason_and_a_smaller_batch_is_advised(tensorflow, tmp_path):
    tagger = one_image_only(tensorflow, tmp_path)
    assert scores_of(tagger, np.zeros((1, 4, 4, 3), np.uint8)).shape == (1, 4)
    with pytest.raises(ModelError, match=r"fails in TensorFlow on 2 images: ConcatOp : .*\n.*--batch-size 1$"):
        scores_of(tagger, np.zeros((2, 4, 4, 3), np.uint8))


# What it says on stderr

INFO_LINES = (
    b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    b"I0000 00:00:1795388952.503610   10378 port.cc:153] oneDNN custom operations are on.\n"
    b"2022-11-22 10:11:12.131415: I tensorflow/core/util/port.cc:104] oneDNN custom operations are on.\n"
)


@pytest.fixture
def unset(monkeypatch):
    """No level of talk is set, as in most terminals."""
    monkeypatch.setenv(LOG_LEVEL, "0")
    monkeypatch.delenv(LOG_LEVEL)


def test_warnings_are_kept_back_until_the_model_is_loaded(unset, capfd):
    with _less_talk():
        os.write(2, INFO_LINES)
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "afterwards\n"


def test_faults_are_shown_if_the_model_cannot_be_loaded(unset, capfd):
    def load():
        with _less_talk():
            os.write(2, INFO_LINES + b"E0000 00:00:1 2 cuda.cc:3] no driver\n")
            raise ModelError("not loaded")

    with pytest.raises(ModelError, match="not loaded"):
        load()
    assert capfd.readouterr().err == "E0000 00:00:1 2 cuda.cc:3] no driver\n"


def test_who_asks_for_the_talk_hears_it(monkeypatch, capfd):
    monkeypatch.setenv(LOG_LEVEL, "0")
    with _less_talk():
        os.write(2, INFO_LINES)
    assert capfd.readouterr().err == INFO_LINES.decode()


# What runs it


def with_cards(*cards):
    """TensorFlow as far as devices go, and the cards that were hidden in the end."""
    told = {}
    config = SimpleNamespace(
        list_physical_devices=lambda _: list(cards),
        set_visible_devices=lambda visible, _: told.update(visible=visible),
        experimental=SimpleNamespace(set_memory_growth=lambda card, grows: told.update({card: grows})),
    )
    return SimpleNamespace(config=config, __version__="2.21"), told


def test_the_processor_runs_it_where_there_is_no_card(tensorflow):
    if tensorflow.config.list_physical_devices("GPU"):
        pytest.skip("there is a card here")
    spec = with_backend(DEMO, "tensorflow")
    assert open_tagger(spec, find_local(spec), Execution(provider="auto")).provider == "cpu"


def test_cuda_without_a_card_is_an_error(tensorflow):
    if tensorflow.config.list_physical_devices("GPU"):
        pytest.skip("there is a card here")
    spec = with_backend(DEMO, "tensorflow")
    with pytest.raises(ModelError, match=r"asked for cuda, but TensorFlow .* finds no GPU"):
        open_tagger(spec, find_local(spec), Execution(provider="cuda"))


@pytest.mark.parametrize("wanted", ["auto", "cuda"])
def test_a_card_is_used_and_its_memory_not_taken_at_once(wanted):
    tensorflow, told = with_cards("card")
    assert (_choose_device(tensorflow, wanted), told) == ("cuda", {"card": True})


def test_cpu_hides_the_cards():
    tensorflow, told = with_cards("card")
    assert (_choose_device(tensorflow, "cpu"), told) == ("cpu", {"visible": []})
