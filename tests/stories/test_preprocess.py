"""How pictures are prepared is a setting like any other, with results of its own."""

from tests.stories.telling import counts, hide_models, tag, tag_by_default, texts, watch_model

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
    assert report.other_settings == 3


def test_naming_the_model_again_is_no_statement_about_the_preparation(album, monkeypatch):
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
