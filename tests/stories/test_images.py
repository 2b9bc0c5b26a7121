"""Results belong to the content of an image; an image that cannot be read is counted each time."""

import os
import shutil

import pytest

from sdprep.models.taggers import onnx_tagger
from tests.stories.telling import (
    STRICT,
    codes,
    counts,
    hide_models,
    renew_times,
    tag,
    texts,
    watch_model,
    while_the_model_looks,
    write,
)

# Results by content


def test_a_renamed_image_is_not_predicted_again(tagged, monkeypatch):
    before = texts(tagged)
    (tagged / "b.png").rename(tagged / "z.png")
    hide_models(monkeypatch)

    report = tag(tagged)

    assert counts(report) == {"written": 1, "current": 2}
    assert texts(tagged)["z.txt"] == before["b.txt"]


def test_a_renamed_image_takes_its_text_along(tagged, monkeypatch):
    before = texts(tagged)
    (tagged / "b.png").rename(tagged / "z.png")
    (tagged / "b.txt").rename(tagged / "z.txt")
    hide_models(monkeypatch)

    report = tag(tagged)

    assert counts(report) == {"current": 3}
    assert texts(tagged)["z.txt"] == before["b.txt"]


def test_a_copied_image_is_not_predicted_again(tagged, monkeypatch):
    (tagged / "more").mkdir()
    shutil.copyfile(tagged / "b.png", tagged / "more" / "copy.png")
    hide_models(monkeypatch)

    report = tag(tagged)

    assert counts(report) == {"written": 1, "current": 3}
    assert (tagged / "more" / "copy.txt").read_bytes() == (tagged / "b.txt").read_bytes()


def test_two_images_that_change_places_change_texts_without_the_model(tagged, monkeypatch):
    before = texts(tagged)
    (tagged / "a.png").rename(tagged / "x.png")
    (tagged / "b.png").rename(tagged / "a.png")
    (tagged / "x.png").rename(tagged / "b.png")
    hide_models(monkeypatch)

    tag(tagged)

    assert texts(tagged) == {"a.txt": before["b.txt"], "b.txt": before["a.txt"], "c.txt": before["c.txt"]}


def test_only_a_new_image_is_looked_at(tagged, drawings, monkeypatch):
    (tagged / "d.png").write_bytes(drawings[3])
    seen = watch_model(monkeypatch)

    report = tag(tagged)

    assert seen == [1]
    assert counts(report) == {"written": 1, "current": 3}


# The user's text beside a replaced image


def test_a_users_text_is_kept_and_named_when_its_image_was_replaced(tagged, drawings):
    write(tagged / "a.txt", "my own words")
    (tagged / "a.png").write_bytes(drawings[3])

    report = tag(tagged)

    assert counts(report) == {"current": 2, "kept": 1}
    assert report.image_changed == ["a.png"]
    assert (tagged / "a.txt").read_bytes() == b"my own words"


def test_a_users_text_beside_the_same_image_is_not_called_changed(tagged):
    write(tagged / "a.txt", "my own words")

    assert tag(tagged).image_changed == []


# Images that cannot be read


@pytest.fixture
def broken(album):
    """The album with an image that is none."""
    (album / "b.png").write_bytes(b"no image")
    return album


def test_a_broken_image_fails_and_the_rest_is_written(broken):
    report = tag(broken)

    assert counts(report) == {"written": 2, "failed": 1}
    assert codes(report) == {"b.png": "not_an_image"}
    assert list(texts(broken)) == ["a.txt", "c.txt"]


def test_a_broken_image_is_counted_each_time_without_being_tried_again(broken, monkeypatch):
    tag(broken)
    hide_models(monkeypatch)

    report = tag(broken)

    assert counts(report) == {"current": 2, "failed": 1}
    assert codes(report) == {"b.png": "not_an_image"}


def test_a_broken_image_that_was_only_touched_is_not_tried_again(broken, monkeypatch):
    tag(broken)
    renew_times(broken)
    hide_models(monkeypatch)

    assert counts(tag(broken)) == {"current": 2, "failed": 1}


def test_a_fixed_image_is_written(broken, drawings):
    tag(broken)
    (broken / "b.png").write_bytes(drawings[1])

    assert counts(tag(broken)) == {"written": 1, "current": 2}


def test_a_newer_decoder_tries_a_broken_image_again(broken, monkeypatch):
    tag(broken)
    monkeypatch.setattr("sdprep.tasks.tag.DECODER", "a newer one")
    opened, real = [], onnx_tagger.OnnxSession
    monkeypatch.setattr(onnx_tagger, "OnnxSession", lambda path, *rest: opened.append(path) or real(path, *rest))

    report = tag(broken)

    assert len(opened) == 1
    assert counts(report) == {"current": 2, "failed": 1}


def test_an_image_that_breaks_after_its_first_run_fails_and_keeps_its_text(tagged):
    before = texts(tagged)
    (tagged / "b.png").write_bytes(b"no image")

    report = tag(tagged, threshold=STRICT)

    assert counts(report) == {"written": 2, "failed": 1}
    assert texts(tagged)["b.txt"] == before["b.txt"]


def test_a_broken_image_with_a_users_text_is_kept(broken):
    write(broken / "b.txt", "mine")

    report = tag(broken)

    assert counts(report) == {"written": 2, "kept": 1}


def test_an_empty_file_has_a_code_of_its_own(album):
    (album / "b.png").write_bytes(b"")

    assert codes(tag(album)) == {"b.png": "empty_file"}


# Images that change while a run is on its way


def test_an_image_that_vanishes_while_the_model_looks_does_not_take_its_batch_with_it(album, monkeypatch):
    while_the_model_looks(monkeypatch, (album / "b.png").unlink)

    report = tag(album)

    assert report.found == 3
    assert {"a.txt", "c.txt"} <= set(texts(album))


def test_a_broken_image_that_vanishes_while_the_model_looks_does_not_stop_the_run(broken, monkeypatch):
    while_the_model_looks(monkeypatch, (broken / "b.png").unlink)

    report = tag(broken)

    assert counts(report) == {"written": 2, "failed": 1}


def test_an_image_replaced_while_the_model_looks_gets_its_own_tags_in_the_next_run(album, drawings, monkeypatch):
    while_the_model_looks(monkeypatch, lambda: (album / "b.png").write_bytes(drawings[3]))
    tag(album)

    report = tag(album)

    assert counts(report) == {"written": 1, "current": 2}


# Names


def test_an_image_whose_name_is_not_unicode_is_an_ordinary_image(album):
    (album / "b.png").rename(album / os.fsdecode(b"b\xff.png"))
    (album / os.fsdecode(b"b\xff.txt")).write_bytes(b"mine")

    report = tag(album)

    assert counts(report) == {"written": 2, "kept": 1}


def test_tags_of_an_image_whose_name_is_not_unicode_are_remembered(album, monkeypatch):
    (album / "b.png").rename(album / os.fsdecode(b"b\xff.png"))
    tag(album)
    hide_models(monkeypatch)

    assert counts(tag(album, threshold=STRICT)) == {"written": 3}
