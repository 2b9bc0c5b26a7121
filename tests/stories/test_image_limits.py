"""The user decides how large and how complete an image must be; results under one limit do not serve another."""

from functools import partial

import pytest
from PIL import Image

from sdprep.images import decoder
from sdprep.tasks.history.retry import retry
from tests.stories.telling import (
    FAKE_CAPTION,
    STRICT,
    caption,
    codes,
    counts,
    hide_models,
    run_cli,
    tag,
    texts,
    watch_model,
)

TRUNCATED = {"path": "b.png", "code": "truncated", "message": "truncated: part of what the model saw is blank"}

# A worker of the real captioner takes seconds to start.
EVERY_RUN = [(tag, 0), (tag, 1), (caption, 0), (partial(caption, model=FAKE_CAPTION), 1)]


@pytest.fixture
def halved(album, drawings):
    """The album of which one image lacks its end."""
    (album / "b.png").write_bytes(drawings[1][: len(drawings[1]) * 2 // 3])
    return album


# How large


@pytest.mark.parametrize(("run", "workers"), EVERY_RUN)
def test_a_lower_limit_refuses_larger_images(album, run, workers):
    Image.new("RGB", (200, 200)).save(album / "large.png")

    report = run(album, max_pixels=30_000, workers=workers)

    assert codes(report) == {"large.png": "too_large"}
    assert "200x200 is more than 0.03 megapixels; --max-pixels" in report.failures[0]["message"]
    assert report.written == 3


def test_an_image_that_was_too_large_is_tried_again_under_a_higher_limit_and_not_before(album, monkeypatch):
    Image.new("RGB", (200, 200)).save(album / "large.png")
    tag(album, max_pixels=30_000)
    with monkeypatch.context() as patch:
        hide_models(patch)
        assert codes(tag(album, max_pixels=30_000)) == {"large.png": "too_large"}

    assert counts(tag(album, max_pixels=40_000)) == {"written": 1, "current": 3}


def test_a_limit_that_lets_nothing_more_in_makes_no_work(tagged, monkeypatch):
    hide_models(monkeypatch)

    assert counts(tag(tagged, max_pixels=30_000, threshold=STRICT)) == {"written": 3}


# How whole


def test_half_an_image_is_refused_unless_that_is_asked_for(halved):
    assert codes(tag(halved)) == {"b.png": "truncated"}


@pytest.mark.parametrize(("run", "workers"), EVERY_RUN)
def test_half_an_image_is_written_where_that_is_asked_for_and_named(halved, run, workers):
    report = run(halved, allow_truncated=True, workers=workers)

    assert counts(report) == {"written": 3}
    assert TRUNCATED in report.flagged
    assert len([flag for flag in report.flagged if flag["code"] == "truncated"]) == 1


def test_an_image_that_was_refused_is_tried_again_where_half_of_it_will_do(halved):
    tag(halved)

    assert counts(tag(halved, allow_truncated=True)) == {"written": 1, "current": 2}


def test_images_that_are_whole_are_not_shown_to_the_model_again(halved, monkeypatch):
    tag(halved)
    seen = watch_model(monkeypatch)

    tag(halved, allow_truncated=True)

    assert seen == [1]


def test_what_was_seen_of_half_an_image_is_not_served_where_that_is_not_asked_for(halved):
    tag(halved, allow_truncated=True)
    (halved / "b.txt").unlink()

    report = tag(halved)

    assert codes(report) == {"b.png": "truncated"}
    assert "b.txt" not in texts(halved)


def test_what_was_seen_of_half_an_image_is_kept_for_where_it_is_asked_for_and_named_again(halved, monkeypatch):
    tag(halved, allow_truncated=True)
    before = texts(halved)
    (halved / "b.txt").unlink()
    hide_models(monkeypatch)

    report = tag(halved, allow_truncated=True)

    assert counts(report) == {"written": 1, "current": 2}
    assert texts(halved) == before
    assert report.flagged == [TRUNCATED]


def test_the_scores_of_half_an_image_are_written_where_it_was_let_in(halved, tmp_path):
    tag(halved, allow_truncated=True, scores=tmp_path / "scores.jsonl")

    assert len((tmp_path / "scores.jsonl").read_text("utf-8").splitlines()) == 3


def test_retry_forgets_failures_under_any_limits(halved):
    tag(halved, max_pixels=90_000)

    assert [each.path.name for each in retry(halved)] == ["b.png"]


# Both as options


def test_the_command_takes_both_options(halved):
    Image.new("RGB", (200, 200)).save(halved / "large.png")

    said = run_cli("tag", halved, "--model", "demo-tag", "--workers", "0", "--max-pixels", "30000", "--allow-truncated")

    assert said.returncode == 3
    assert "failed: large.png: too_large" in said.stderr
    assert f"{TRUNCATED['message']}: b.png" in said.stderr


# Files at rest


def test_an_image_that_changes_once_while_it_is_read_is_read_again(album, drawings, monkeypatch, tmp_path):
    pending = [lambda path: path.write_bytes(drawings[3])]
    meddle_while_reading(monkeypatch, album / "b.png", pending)

    report = tag(album)

    assert pending == []
    assert counts(report) == {"written": 3}
    assert texts(album)["b.txt"] == tags_alone(drawings[3], tmp_path / "alone")


def tags_alone(image, folder):
    """The sidecar of an image in a folder of its own."""
    folder.mkdir()
    (folder / "a.png").write_bytes(image)
    tag(folder)
    return texts(folder)["a.txt"]


def test_an_image_that_keeps_changing_fails_and_is_tried_by_the_next_run(album, drawings, monkeypatch):
    with monkeypatch.context() as patch:
        pending = [lambda path: path.write_bytes(drawings[3]), lambda path: path.write_bytes(drawings[3] + b"more")]
        meddle_while_reading(patch, album / "b.png", pending)
        report = tag(album)
    assert codes(report) == {"b.png": "changing"}
    (album / "b.png").write_bytes(drawings[1])

    assert counts(tag(album)) == {"written": 1, "current": 2}


def meddle_while_reading(monkeypatch, path, pending):
    """After an image was read, do what is pending, once each."""
    real = decoder.read_stream

    def read(file, limit, name):
        data = real(file, limit, name)
        if name == path.name and pending:
            pending.pop(0)(path)
        return data

    monkeypatch.setattr(decoder, "read_stream", read)


# How much at once


@pytest.mark.parametrize("workers", [0, 4])
@pytest.mark.parametrize("exact", [False, True])
def test_images_that_are_larger_than_all_the_memory_are_done_one_by_one(album, workers, exact):
    for number in range(4):
        Image.new("RGB", (600, 900 + number)).save(album / f"large-{number}.png")

    report = tag(album, memory=1, workers=workers, exact_decode=exact)

    assert counts(report) == {"written": 7}
