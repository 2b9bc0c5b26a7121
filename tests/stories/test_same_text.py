"""What sdprep writes, byte for byte, and which texts it takes for the same."""

import csv
import hashlib
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import sdprep.demo
from sdprep.catalog.results import decode_scores
from sdprep.errors import UsageError
from tests.stories.telling import (
    ALBUM,
    CATALOG,
    SIDECARS,
    STRICT,
    counts,
    hide_models,
    tag,
    tags_of,
    texts,
    watch_model,
    write,
)

EDITORS = {
    "CRLF": lambda data: data.replace(b"\n", b"\r\n"),
    "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "both of them": lambda data: b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n"),
    "no final newline": lambda data: data.rstrip(b"\n"),
    "two more newlines": lambda data: data + b"\n\n",
    "UTF-16": lambda data: data.decode("utf-8").encode("utf-16"),
}


@pytest.fixture(params=EDITORS.values(), ids=EDITORS)
def resaved(request, tagged):
    """The tagged album after an editor has saved its texts in its own manner."""
    for name in SIDECARS:
        (tagged / name).write_bytes(request.param((tagged / name).read_bytes()))
    return tagged


def test_a_text_that_an_editor_only_saved_is_current_and_not_rewritten(resaved, monkeypatch):
    before = texts(resaved)
    hide_models(monkeypatch)

    report = tag(resaved)

    assert counts(report) == {"current": 3}
    assert texts(resaved) == before


def test_a_text_that_an_editor_only_saved_is_still_sdpreps(resaved):
    report = tag(resaved, threshold=STRICT)

    assert counts(report) == {"written": 3}


def test_a_text_that_both_wrote_and_an_editor_only_saved_is_still_known(album):
    write(album / "a.txt", "mine")
    tag(album, existing="append")
    (album / "a.txt").write_bytes(b"\xef\xbb\xbf" + (album / "a.txt").read_bytes().replace(b"\n", b"\r\n"))

    report = tag(album, threshold=STRICT)

    assert counts(report) == {"written": 3}
    assert (album / "a.txt").read_bytes().startswith(b"mine, ")


def test_appending_to_a_text_with_byte_order_mark_and_crlf_gives_sdpreps_format(album):
    (album / "a.txt").write_bytes(b"\xef\xbb\xbfmine\r\n")

    tag(album, existing="append")

    data = (album / "a.txt").read_bytes()
    assert data.startswith(b"mine, ")
    assert b"\r" not in data


def test_a_line_break_in_the_midst_of_the_tags_is_an_edit(tagged):
    write(tagged / "a.txt", (tagged / "a.txt").read_text(encoding="utf-8").replace(", ", ",\n", 1))

    assert tag(tagged, threshold=STRICT).kept_paths == ["a.png"]


def test_an_edit_that_keeps_size_and_time_is_seen(tagged):
    path = tagged / "a.txt"
    stat = path.stat()
    edited = path.read_bytes().swapcase()
    path.write_bytes(edited)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    report = tag(tagged, threshold=STRICT)

    assert report.kept_paths == ["a.png"]
    assert path.read_bytes() == edited


def test_a_sidecar_is_utf_8_without_byte_order_mark_and_ends_in_one_line_feed(tagged):
    for data in texts(tagged).values():
        assert not data.startswith(b"\xef\xbb\xbf")
        assert b"\r" not in data
        assert data.decode("utf-8").count("\n") == 1
        assert data.endswith(b"\n")


def test_a_users_letters_stay_utf_8(album):
    write(album / "a.txt", "青い髪, café")

    tag(album, existing="append")

    assert (album / "a.txt").read_bytes().startswith("青い髪, café, ".encode())


def test_no_tags_give_a_lone_newline(album):
    report = tag(album, exclude=("nothing",), threshold=1.5)

    assert counts(report) == {"written": 3}
    assert set(texts(album).values()) == {b"\n"}


def test_a_lone_newline_is_current_afterwards(album):
    tag(album, threshold=1.5)

    assert counts(tag(album, threshold=1.5)) == {"current": 3}


def test_a_rerun_with_refresh_gives_the_same_bytes(tagged):
    before = texts(tagged)

    report = tag(tagged, refresh=True)

    assert counts(report) == {"current": 3}
    assert texts(tagged) == before


@pytest.mark.parametrize(
    "work", [{"batch_size": 1}, {"batch_size": 2, "workers": 0}, {"workers": 4}], ids=lambda work: str(work)
)
def test_neither_batch_size_nor_workers_change_a_byte(tagged, tmp_path, work):
    tag(tagged, output_dir=tmp_path / "out", **work)

    assert texts(tmp_path / "out") == texts(tagged)


def test_neither_batch_size_nor_workers_ask_for_the_model_again(tagged, monkeypatch):
    (tagged / "a.txt").unlink()
    hide_models(monkeypatch)

    assert counts(tag(tagged, batch_size=1, workers=0)) == {"written": 1, "current": 2}


def test_the_first_run_reads_the_stored_scores_too(tagged):
    before = texts(tagged)
    for name in SIDECARS:
        (tagged / name).unlink()

    tag(tagged)

    assert texts(tagged) == before


@pytest.fixture
def stored(tagged):
    """The stored scores of image a, and the labels of the demo tagger."""
    digest = hashlib.sha256((tagged / "a.png").read_bytes()).digest()
    with closing(sqlite3.connect(tagged / CATALOG)) as database:
        [(data,)] = database.execute("SELECT data FROM results WHERE digest = ?", (digest,)).fetchall()
    with (Path(sdprep.demo.__file__).parent / "models" / "demo-tag" / "selected_tags.csv").open() as stream:
        labels = list(csv.DictReader(stream))
    return decode_scores(data), labels


def test_stored_scores_are_sparse(stored):
    scores, labels = stored

    assert len(scores) < len(labels)
    assert all(value >= 0.0099 for index, value in scores if labels[index]["category"] != "9")


def test_tags_are_in_the_order_of_the_stored_scores_and_ties_in_label_order(stored, tagged):
    scores, labels = stored
    chosen = [(-value, index) for index, value in scores if value >= 0.35 and labels[index]["category"] != "9"]

    assert len({value for value, _ in chosen}) < len(chosen), "this image has no ties"
    assert tags_of(tagged / "a.txt") == [labels[index]["name"] for _, index in sorted(chosen)]


def test_a_threshold_below_what_is_stored_is_refused(tagged):
    with pytest.raises(UsageError):
        tag(tagged, threshold=0.001)


def test_a_sidecar_keeps_the_permissions_that_it_had(tagged):
    (tagged / "a.txt").chmod(0o640)

    tag(tagged, threshold=STRICT)

    assert (tagged / "a.txt").stat().st_mode & 0o777 == 0o640


def test_batches_are_of_the_size_that_was_asked_for(album, monkeypatch):
    seen = watch_model(monkeypatch)

    tag(album, batch_size=2)

    assert seen == [2, len(ALBUM) - 2]
