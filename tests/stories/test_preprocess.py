"""How images are prepared is a setting like any other, with results of its own."""

import numpy as np
import pytest
from PIL import Image

from tests.stories.telling import caption, counts, hide_models, tag, tag_by_default, texts, watch_model

TOML = """
name = "kohyas"
task = "tag"
backend = "onnx"
files = ["model.onnx", "selected_tags.csv"]
source = { path = "other-tagger" }
image = { fit = "pad", channels = "bgr", preprocess = "kohya" }
labels = { file = "selected_tags.csv", categories = { general = 0, character = 4, rating = 9 } }
"""


def test_stating_kohyas_preparation_runs_the_model_again(tagged, monkeypatch):
    before, seen = texts(tagged), watch_model(monkeypatch)

    tag(tagged, preprocess="kohya")

    assert sum(seen) == 3
    assert texts(tagged) != before


def test_going_back_needs_no_model(tagged, monkeypatch):
    before = texts(tagged)
    tag(tagged, preprocess="kohya")
    hide_models(monkeypatch)

    report = tag(tagged, preprocess="sdprep")

    assert report.written > 0
    assert texts(tagged) == before


def test_texts_of_kohyas_preparation_stay_where_nothing_is_stated(album, monkeypatch):
    tag(album, preprocess="kohya")
    hide_models(monkeypatch)

    report = tag_by_default(album)

    assert counts(report) == {"current": 3}
    assert report.other_settings == 0


def test_naming_the_model_again_does_not_count_as_naming_the_preparation(album, monkeypatch):
    tag(album, preprocess="kohya")
    hide_models(monkeypatch)

    assert counts(tag(album, model="demo-tag")) == {"current": 3}


def test_a_model_file_may_ask_for_kohyas_preparation(album, other_model, tmp_path):
    described = tmp_path / "kohyas.toml"
    described.write_text(TOML)
    tag(album, model=str(described))
    theirs = texts(album)
    tag(album, model=other_model, preprocess="sdprep")
    assert texts(album) != theirs

    tag(album, model=other_model, preprocess="kohya")

    assert texts(album) == theirs


# Decoding


@pytest.fixture
def large(album):
    """One image that is large enough to be shrunk while it is decoded, and fine enough for that to be seen."""
    for image in album.glob("*.png"):
        image.unlink()
    grain = np.random.default_rng(3).integers(0, 256, (1401, 2701, 3), dtype=np.uint8)
    Image.fromarray(grain).save(album / "large.jpg")
    return album


def scores_of(folder, path, **settings):
    tag(folder, scores=path, **settings)
    return path.read_text("utf-8")


@pytest.mark.parametrize("workers", [0, 1])
def test_stating_that_images_are_decoded_exactly_runs_the_model_again(large, tmp_path, monkeypatch, workers):
    fast = scores_of(large, tmp_path / "scores.jsonl", workers=workers)
    exact = scores_of(large, tmp_path / "scores.jsonl", workers=workers, exact_decode=True)
    hide_models(monkeypatch)

    assert exact != fast
    assert scores_of(large, tmp_path / "scores.jsonl", exact_decode=True) == exact
    assert scores_of(large, tmp_path / "scores.jsonl", exact_decode=False) == fast


def test_captions_of_images_decoded_exactly_are_results_of_their_own(album):
    caption(album)

    assert caption(album, exact_decode=True).predicted == 3
    assert caption(album, exact_decode=False).predicted == 0


def test_texts_of_exact_decoding_stay_where_nothing_is_stated(album, monkeypatch):
    tag(album, exact_decode=True)
    hide_models(monkeypatch)

    report = tag_by_default(album)

    assert (counts(report), report.other_settings) == ({"current": 3}, 0)


def test_kohyas_preparation_looks_at_every_pixel_in_any_case(album, monkeypatch):
    tag(album, preprocess="kohya")
    hide_models(monkeypatch)

    assert counts(tag(album, preprocess="kohya", exact_decode=True)) == {"current": 3}
