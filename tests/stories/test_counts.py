"""Every image is in one count: limits, dry runs, interruptions."""

import os

import pytest

from sdprep.errors import NoImages
from sdprep.report import CancelToken
from sdprep.tasks.history.runs import log
from sdprep.tasks.settings import stating
from sdprep.tasks.tag import tag as tag_task
from tests.signals import Impatient
from tests.stories.telling import (
    STRICT,
    codes,
    counts,
    everything,
    hide_models,
    tag,
    tag_settings,
    texts,
    write,
)


@pytest.fixture
def mixed(album, drawings):
    """Five images: one has a text of the user's, one is broken."""
    (album / "d.png").write_bytes(drawings[3])
    (album / "e.png").write_bytes(drawings[4])
    (album / "b.png").write_bytes(b"no image")
    write(album / "c.txt", "mine")
    return album


# Limits


def test_a_limit_counts_only_images_that_need_work(mixed):
    report = tag(mixed, limit=2)

    assert report.found == 5
    assert counts(report) == {"written": 1, "failed": 1, "kept": 1, "remaining": 2}


def test_a_limit_works_on_the_next_ones_each_time(mixed):
    tag(mixed, limit=2)

    report = tag(mixed, limit=2)

    assert counts(report) == {"written": 2, "current": 1, "failed": 1, "kept": 1}
    assert list(texts(mixed)) == ["a.txt", "c.txt", "d.txt", "e.txt"]


def test_a_limit_of_one_comes_through_the_whole_album(album):
    written = [tag(album, limit=1).written for _ in range(4)]

    assert written == [1, 1, 1, 0]


def test_a_limit_holds_for_rewriting_too(tagged, monkeypatch):
    hide_models(monkeypatch)

    first, second = tag(tagged, threshold=STRICT, limit=2), tag(tagged, threshold=STRICT, limit=2)

    assert counts(first) == {"written": 2, "remaining": 1}
    assert counts(second) == {"written": 1, "current": 2}


def test_a_limit_holds_for_scores_too(tagged, tmp_path, other_model):
    report = tag(tagged, model=other_model, limit=1, scores=tmp_path / "scores.jsonl")

    assert counts(report) == {"written": 1, "remaining": 2}
    assert len((tmp_path / "scores.jsonl").read_text(encoding="utf-8").splitlines()) == 1


# Dry runs


def test_a_dry_run_counts_what_would_be_done(mixed):
    report = tag(mixed, dry_run=True)

    assert report.found == 5
    assert counts(report) == {"remaining": 4, "kept": 1}


def test_a_dry_run_in_a_fresh_folder_writes_nothing_and_loads_no_model(mixed, monkeypatch):
    before = everything(mixed)
    hide_models(monkeypatch)

    tag(mixed, dry_run=True)

    assert everything(mixed) == before
    assert not (mixed / ".sdprep").exists()


def test_a_dry_run_in_a_known_folder_writes_nothing(tagged, drawings):
    (tagged / "d.png").write_bytes(drawings[3])
    write(tagged / "c.txt", "mine")
    before = everything(tagged)

    report = tag(tagged, dry_run=True, threshold=STRICT)

    assert counts(report) == {"remaining": 3, "kept": 1}
    assert everything(tagged) == before


def test_a_dry_run_writes_no_scores(tagged, tmp_path):
    tag(tagged, dry_run=True, scores=tmp_path / "scores.jsonl")

    assert not (tmp_path / "scores.jsonl").exists()


def test_a_dry_run_counts_a_text_that_would_be_adopted_as_current_each_time(tagged):
    (tagged / "d.png").write_bytes((tagged / "a.png").read_bytes())
    (tagged / "d.txt").write_bytes((tagged / "a.txt").read_bytes())

    assert [counts(tag(tagged, dry_run=True)) for _ in range(2)] == [{"current": 4}] * 2


def test_a_dry_run_makes_no_output_folder(album, tmp_path):
    tag(album, dry_run=True, output_dir=tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_a_dry_run_with_a_limit_counts_as_the_run_would(mixed):
    report = tag(mixed, dry_run=True, limit=2)

    assert report.found == 5
    assert counts(report) == {"remaining": 4, "kept": 1}


def test_a_dry_run_names_a_broken_image_that_is_known(mixed):
    tag(mixed)

    report = tag(mixed, dry_run=True)

    assert counts(report) == {"current": 3, "failed": 1, "kept": 1}
    assert codes(report) == {"b.png": "not_an_image"}


def test_a_dry_run_with_refresh_does_not_count_a_kept_text_as_to_be_written(tagged):
    write(tagged / "c.txt", "mine")

    report = tag(tagged, dry_run=True, refresh=True)

    assert report.kept_paths == ["c.png"]


def test_a_dry_run_is_not_in_the_log(tagged):
    tag(tagged, dry_run=True, threshold=STRICT)

    assert len(log(tagged)) == 1


# Interruptions


def interrupted(folder, **explicit):
    stop = CancelToken()
    settings = tag_settings({"batch_size": 1, "workers": 0, **explicit})
    return tag_task(folder, settings, layers=stating(settings, explicit), listener=Impatient(stop), stop=stop)


def test_an_interrupted_run_writes_what_is_done_and_counts_the_rest(mixed):
    report = interrupted(mixed)

    assert report.found == 5
    assert report.written >= 1
    assert report.written + report.failed + report.remaining == 4
    assert report.exit_code == 130
    assert len(texts(mixed)) == report.written + 1


def test_the_next_run_goes_on_where_an_interrupted_one_ended(mixed):
    first = interrupted(mixed)

    report = tag(mixed)

    assert report.current == first.written
    assert counts(report) == {
        "written": 3 - first.written,
        "current": first.written,
        "kept": 1,
        "failed": 1,
    }


def test_a_run_that_is_stopped_before_it_begins_leaves_everything(tagged, monkeypatch):
    hide_models(monkeypatch)
    stop = CancelToken()
    stop.exit_code = 143

    settings = tag_settings({"threshold": STRICT})
    report = tag_task(tagged, settings, layers=stating(settings, {"threshold"}), stop=stop)

    assert counts(report) == {"remaining": 3}
    assert report.exit_code == 143


# What is found


def test_a_folder_without_images_is_reported(tmp_path):
    with pytest.raises(NoImages):
        tag(tmp_path)


def test_no_catalog_is_left_in_a_folder_without_images(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoImages):
        tag(tmp_path / "empty")

    assert os.listdir(tmp_path / "empty") == []  # noqa: PTH208 - names, hidden ones too


def test_hidden_folders_links_and_subfolders_that_were_not_asked_for_are_not_found(album, drawings):
    for name in (".hidden", "sub"):
        (album / name).mkdir()
        (album / name / "d.png").write_bytes(drawings[3])
    (album / "link.png").symlink_to(album / "a.png")

    assert tag(album, recursive=False).found == 3
    assert tag(album).found == 4


def test_a_run_ends_with_3_if_an_image_failed_and_with_0_if_none_did(mixed):
    first = tag(mixed)
    (mixed / "b.png").unlink()

    assert first.exit_code == 3
    assert tag(mixed).exit_code == 0
