"""Sidecars that trainers cannot read, or of which they read one line, are named by each run that meets them."""

import pytest

from tests.stories.telling import FAKE_CAPTION, caption, tag


def flagged(report):
    return [(flag["path"], flag["code"]) for flag in report.flagged]


@pytest.mark.parametrize("encoding", ["cp1252", "gbk", "utf-16"])
def test_a_kept_sidecar_that_trainers_cannot_read_is_named(album, encoding):
    text = "café, 1girl\n" if encoding == "cp1252" else "你好, 1girl\n"
    (album / "a.txt").write_bytes(text.encode(encoding))
    (album / "b.caption").write_bytes(text.encode(encoding))
    assert flagged(tag(album)) == [("a.txt", "not_utf_8")]
    assert flagged(tag(album)) == [("a.txt", "not_utf_8")]
    assert flagged(caption(album, model=FAKE_CAPTION)) == [("b.caption", "not_utf_8")]


def test_a_run_that_adds_to_a_text_of_several_lines_names_it_each_time(album):
    (album / "a.txt").write_text("my words\nmy other words\n", encoding="utf-8")
    assert flagged(tag(album)) == []
    assert flagged(tag(album, existing="append")) == [("a.txt", "several_lines")]
    assert flagged(tag(album, existing="append")) == [("a.txt", "several_lines")]


def test_a_sidecar_of_0_bytes_that_is_written_needs_no_word(album):
    (album / "a.txt").touch()
    assert flagged(tag(album)) == []
    assert (album / "a.txt").read_bytes() != b""


def test_a_threshold_that_no_tag_reaches_is_not_silent(album):
    assert flagged(tag(album, threshold=1.5)) == [(name, "no_tags") for name in ("a.png", "b.png", "c.png")]
    assert flagged(tag(album, threshold=0.35)) == []
