"""Two models over one album: each has results of its own, and what a description says of a model counts too."""

import shutil
from pathlib import Path

from tests.stories.telling import SIDECARS, counts, hide_models, tag, tag_by_default, tags_of, texts, write

DESCRIPTION = """
name = "mine"
task = "tag"
backend = "onnx"
files = ["model.onnx", "selected_tags.csv"]
source = { path = "other-tagger" }
image = { fit = "pad", channels = "CHANNELS" }
labels = { file = "selected_tags.csv", categories = CATEGORIES }
"""
RIGHT, SWAPPED = "{ general = 0, character = 4, rating = 9 }", "{ general = 9, character = 4, rating = 0 }"


def describe(other_model, channels="bgr", categories=RIGHT):
    """A TOML file that describes the second tagger."""
    path = Path(other_model).with_name("mine.toml")
    return str(write(path, DESCRIPTION.replace("CHANNELS", channels).replace("CATEGORIES", categories)))


def test_another_model_rewrites_what_the_first_one_wrote(tagged, other_model):
    report = tag(tagged, model=other_model)

    assert counts(report) == {"written": 3}
    assert all(tag.startswith("other_") for name in SIDECARS for tag in tags_of(tagged / name))


def test_going_back_to_the_first_model_needs_neither_of_them(tagged, other_model, monkeypatch):
    before = texts(tagged)
    tag(tagged, model=other_model)
    hide_models(monkeypatch)

    report = tag(tagged, model="demo-tag")

    assert counts(report) == {"written": 3}
    assert texts(tagged) == before


def test_another_default_model_is_not_even_loaded(tagged, other_model, monkeypatch):
    hide_models(monkeypatch)

    report = tag_by_default(tagged, model=other_model)

    assert counts(report) == {"current": 3}
    assert report.other_settings == 3


def test_a_model_in_another_folder_with_the_same_weights_has_the_same_results(tagged, other_model, tmp_path):
    tag(tagged, model=other_model)
    before = texts(tagged)
    moved = shutil.move(other_model, tmp_path / "moved")

    report = tag(tagged, model=str(moved))

    assert report.failed == report.kept == 0
    assert texts(tagged) == before


def test_a_model_is_found_again_by_the_content_of_its_files(tagged, other_model, monkeypatch):
    tag(tagged, model=other_model)
    (Path(other_model) / "selected_tags.csv").open("a", encoding="utf-8").close()
    hide_models(monkeypatch)

    assert counts(tag(tagged, model=other_model)) == {"current": 3}


def test_other_weights_under_the_same_name_rewrite_what_the_former_wrote(tagged, other_model):
    tag(tagged, model=other_model)
    labels = Path(other_model) / "selected_tags.csv"
    write(labels, labels.read_text(encoding="utf-8").replace("other_", "newer_"))

    report = tag(tagged, model=other_model)

    assert counts(report) == {"written": 3}
    assert all(tag.startswith("newer_") for name in SIDECARS for tag in tags_of(tagged / name))


def test_a_description_that_was_fixed_rewrites_what_was_made_by_the_wrong_one(album, other_model):
    tag(album, model=describe(other_model, channels="rgb"))
    wrong = texts(album)

    report = tag(album, model=describe(other_model, channels="bgr"))

    assert report.written > 0
    assert texts(album) != wrong


def test_label_categories_that_were_fixed_rewrite_what_was_made_by_the_wrong_ones(album, other_model, monkeypatch):
    tag(album, model=describe(other_model, categories=SWAPPED))
    wrong = texts(album)

    report = tag(album, model=describe(other_model))

    assert counts(report) == {"written": 3}
    assert all(text != wrong[name] for name, text in texts(album).items())
