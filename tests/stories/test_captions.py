"""Captions follow the same rules as tags; the captioner is loaded once or twice a story."""

import shutil
from pathlib import Path

import pytest

from sdprep.tasks.history.runs import log
from sdprep.tasks.history.undo import undo
from tests.stories.telling import STRICT, caption, counts, hide_models, tag, texts, write

OTHER_SIGHT = {"max_length": 6, "min_length": 3}


@pytest.fixture(scope="module")
def original(tmp_path_factory, drawings):
    """Two images with their captions, made once."""
    folder = tmp_path_factory.mktemp("captioned")
    for name, data in zip(("a.png", "b.png"), drawings, strict=False):
        (folder / name).write_bytes(data)
    caption(folder)
    return folder


@pytest.fixture
def captioned(original, tmp_path):
    """A copy of the images with their captions and their catalog."""
    return Path(shutil.copytree(original, tmp_path / "pair"))


@pytest.fixture
def pair(original, tmp_path):
    """A copy of the images alone."""
    return Path(shutil.copytree(original, tmp_path / "pair", ignore=shutil.ignore_patterns(".sdprep", "*.caption")))


def test_a_second_run_and_a_deleted_caption_need_no_captioner(captioned, monkeypatch):
    before = texts(captioned, ".caption")
    (captioned / "a.caption").unlink()
    hide_models(monkeypatch)

    report = caption(captioned, batch_size=1, workers=0)

    assert counts(report) == {"written": 1, "current": 1}
    assert texts(captioned, ".caption") == before


def test_other_decoding_rewrites_captions_by_the_model_and_the_first_comes_back_without(captioned, monkeypatch):
    before = texts(captioned, ".caption")
    other = caption(captioned, **OTHER_SIGHT)
    between = texts(captioned, ".caption")
    hide_models(monkeypatch)

    again = caption(captioned, max_length=75, min_length=5)

    assert counts(other) == counts(again) == {"written": 2}
    assert all(between[name] != before[name] for name in before)
    assert texts(captioned, ".caption") == before


def test_sampled_captions_belong_to_their_seed(captioned, monkeypatch):
    caption(captioned, sample=True, seed=1)
    first = texts(captioned, ".caption")
    caption(captioned, sample=True, seed=2)
    hide_models(monkeypatch)

    caption(captioned, sample=True, seed=1)

    assert texts(captioned, ".caption") == first


def test_neither_batch_size_nor_workers_change_a_caption(captioned, tmp_path):
    caption(captioned, output_dir=tmp_path / "out", batch_size=1, workers=0)

    assert texts(tmp_path / "out", ".caption") == texts(captioned, ".caption")


def test_neither_device_nor_batch_size_ask_for_new_captions(captioned, monkeypatch):
    hide_models(monkeypatch)

    assert counts(caption(captioned, device="cpu", batch_size=1)) == {"current": 2}


def test_the_decoder_asks_for_no_new_captions(captioned, monkeypatch):
    hide_models(monkeypatch)

    assert counts(caption(captioned, decoder="reference")) == {"current": 2}


def test_the_decoder_asks_for_new_samples(captioned):
    caption(captioned, sample=True)

    assert caption(captioned, sample=True, decoder="reference").predicted == 2


def test_an_edited_caption_is_kept_before_the_captioner_is_loaded(captioned, monkeypatch):
    write(captioned / "a.caption", "my own words")
    (captioned / "b.png").unlink()
    hide_models(monkeypatch)

    report = caption(captioned, **OTHER_SIGHT)

    assert report.kept_paths == ["a.png"]
    assert (captioned / "a.caption").read_bytes() == b"my own words"


def test_a_caption_is_appended_as_a_line_and_only_that_line_is_recomputed(pair):
    write(pair / "a.caption", "my own words,\n  and a second line")
    caption(pair, existing="append")
    long = (pair / "a.caption").read_text(encoding="utf-8").split("\n")

    report = caption(pair, **OTHER_SIGHT)

    short = (pair / "a.caption").read_text(encoding="utf-8").split("\n")
    assert counts(report) == {"written": 2}
    assert long[:2] == short[:2] == ["my own words,", "  and a second line"]
    assert len(long) == len(short) == 4
    assert long[2] != short[2]


# Captions and tags in one folder


def test_captions_and_tags_with_extensions_of_their_own_do_not_meet(captioned):
    before = texts(captioned, ".caption")

    assert counts(tag(captioned)) == {"written": 2}
    assert counts(tag(captioned, threshold=STRICT)) == {"written": 2}
    assert texts(captioned, ".caption") == before


def test_tags_do_not_replace_captions_under_the_same_extension(captioned, monkeypatch):
    before = texts(captioned, ".caption")
    hide_models(monkeypatch)

    report = tag(captioned, caption_extension=".caption", threshold=STRICT)

    assert counts(report) == {"kept": 2}
    assert texts(captioned, ".caption") == before


def test_captions_do_not_replace_tags_under_the_same_extension(tagged, monkeypatch):
    before = texts(tagged)
    hide_models(monkeypatch)

    report = caption(tagged, caption_extension=".txt", **OTHER_SIGHT)

    assert counts(report) == {"kept": 3}
    assert texts(tagged) == before


def test_tags_appended_to_captions_leave_the_caption_as_it_is_and_undo_gives_it_back(captioned):
    before = texts(captioned, ".caption")
    tag(captioned, caption_extension=".caption", existing="append")
    tag(captioned, caption_extension=".caption", threshold=STRICT)
    both = texts(captioned, ".caption")

    undo(captioned)
    undo(captioned, log(captioned)[1].uid)

    assert all(both[name].startswith(text.rstrip(b"\n") + b", ") for name, text in before.items())
    assert texts(captioned, ".caption") == before


def test_a_caption_to_which_tags_were_appended_is_recomputed_in_its_place(captioned):
    tag(captioned, caption_extension=".caption", existing="append")
    before = {name: data.decode().rstrip("\n").split(", ") for name, data in texts(captioned, ".caption").items()}

    report = caption(captioned, **OTHER_SIGHT)

    after = {name: data.decode().rstrip("\n").split(", ") for name, data in texts(captioned, ".caption").items()}
    assert counts(report) == {"written": 2}
    assert all(after[name][0] != before[name][0] and after[name][1:] == before[name][1:] for name in before)


def test_undo_after_tags_were_appended_makes_captions_sdpreps_again(captioned, monkeypatch):
    tag(captioned, caption_extension=".caption", existing="append")
    undo(captioned)
    hide_models(monkeypatch)

    assert counts(caption(captioned)) == {"current": 2}
