"""One sidecar of several authors: the user, a captioner, and two taggers, each with a part of their own."""

import pytest

from sdprep.tasks.history.runs import log
from sdprep.tasks.history.undo import undo
from tests.stories.telling import FAKE_CAPTION, STRICT, caption, counts, hide_models, tag, tags_of, texts, write


def caption_too(folder, **explicit):
    """A run of caption into the tag files."""
    return caption(folder, **{"model": FAKE_CAPTION, "caption_extension": ".txt", "existing": "append", **explicit})


@pytest.fixture
def both(tagged, other_model):
    """The album with the tags of two models."""
    tag(tagged, model=other_model, existing="append")
    return tagged


def test_appending_a_second_models_tags_keeps_those_of_the_first(tagged, other_model):
    before = texts(tagged)

    report = tag(tagged, model=other_model, existing="append")

    assert counts(report) == {"written": 3}
    assert all(after.startswith(before[name].rstrip(b"\n") + b", other_") for name, after in texts(tagged).items())


def test_a_second_round_with_two_models_changes_nothing(both, other_model, monkeypatch):
    before = texts(both)
    hide_models(monkeypatch)

    for model in ("demo-tag", other_model):
        assert counts(tag(both, model=model, existing="append")) == {"current": 3}
    assert texts(both) == before


def test_tags_that_both_models_give_are_written_once(both):
    tags = tags_of(both / "a.txt")

    assert len(tags) == len(set(tags))


def test_another_threshold_for_the_first_model_recomputes_its_part_in_its_place(both, monkeypatch):
    before = tags_of(both / "a.txt")
    hide_models(monkeypatch)

    tag(both, model="demo-tag", threshold=STRICT)

    after = tags_of(both / "a.txt")
    assert [tag for tag in after if tag.startswith("other_")] == [tag for tag in before if tag.startswith("other_")]
    assert len(after) < len(before)
    assert not after[0].startswith("other_")


def test_without_append_another_model_takes_the_place_of_both(both, other_model, tmp_path):
    third = tmp_path / "third-tagger"
    (tmp_path / "other-tagger").rename(third)

    report = tag(both, model=str(third))

    assert counts(report) == {"written": 3}
    assert all(tag.startswith("other_") or tag == "^_^" for tag in tags_of(both / "a.txt"))


def test_undo_gives_back_each_models_part_and_the_next_run_knows_them(both, other_model, monkeypatch):
    before = texts(both)
    tag(both, model="demo-tag", threshold=STRICT)
    undo(both)
    hide_models(monkeypatch)

    assert texts(both) == before
    assert counts(tag(both, model="demo-tag", threshold=0.35, existing="append")) == {"current": 3}
    assert counts(tag(both, model=other_model, threshold=0.35, existing="append")) == {"current": 3}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["caption first", "tags first"])
@pytest.mark.parametrize("existing", ["append", "prepend"])
@pytest.mark.parametrize("mine", [None, "my trigger, standing"], ids=["no text", "the user's text"])
def test_a_second_round_of_caption_and_tag_on_one_file_changes_nothing(album, order, existing, mine):
    if mine:
        write(album / "a.txt", mine)
    runs = [
        lambda: caption_too(album, existing=existing),
        lambda: tag(album, existing=existing, prefix=("trigger",)),
    ]
    for number in order:
        runs[number]()
    before = texts(album)

    for _ in range(2):
        for number in order:
            assert counts(runs[number]()) == {"current": 3}

    assert texts(album) == before
    assert all(text.count(b"\n") == 1 for text in before.values()), "trainers read the first line alone"


def test_append_after_prepend_goes_behind(album):
    write(album / "a.txt", "mine")
    tag(album, existing="prepend")
    assert tags_of(album / "a.txt")[-1] == "mine"

    tag(album, existing="append")

    assert tags_of(album / "a.txt")[0] == "mine"


def test_a_caption_goes_on_the_line_of_the_users_tags(album):
    write(album / "a.txt", "my trigger, standing")

    caption_too(album)

    assert (album / "a.txt").read_text(encoding="utf-8").startswith("my trigger, standing, ")
    assert texts(album)["a.txt"].count(b"\n") == 1


def test_several_captions_come_onto_one_line_when_tags_join_them(album):
    write(album / "a.txt", "mine")
    caption_too(album, num_beams=1)
    tag(album, existing="append")

    assert texts(album)["a.txt"].count(b"\n") == 1


# One tag a line


def test_appending_to_one_tag_a_line_puts_each_new_tag_on_its_line_and_doubles_none(album, tmp_path):
    tag(album, output_dir=tmp_path / "aside")
    machine = tags_of(tmp_path / "aside" / "a.txt")
    theirs = [machine[1].replace("_", " ").upper(), "my trigger", machine[0]]
    write(album / "a.txt", "\n".join(theirs) + "\n")

    tag(album, existing="append")
    once = texts(album)
    report = tag(album, existing="append")

    assert (album / "a.txt").read_text(encoding="utf-8").splitlines() == [*theirs, *machine[2:]]
    assert counts(report) == {"current": 3}
    assert texts(album) == once


@pytest.mark.parametrize("separator", ["; ", " | ", "\t", "\uff0c", "\u3001", ",\n"])
def test_added_tags_are_separated_as_the_users_are(album, separator):
    write(album / "a.txt", separator.join(["mine", "yours", "his"]))

    tag(album, existing="append")

    tags = (album / "a.txt").read_text(encoding="utf-8").rstrip("\n").split(separator)
    assert tags[:3] == ["mine", "yours", "his"]
    assert len(tags) > 4


def test_a_separator_that_is_stated_counts_more_than_the_users(album):
    write(album / "a.txt", "mine; yours")

    tag(album, existing="append", caption_separator=" | ")

    assert (album / "a.txt").read_text(encoding="utf-8").startswith("mine; yours | ")


# What trainers cannot read


def flagged(report):
    return {flag["path"]: flag["code"] for flag in report.flagged}


def test_a_run_that_appends_names_texts_of_several_lines(album):
    write(album / "a.txt", "mine\nand mine\n")

    assert flagged(tag(album)) == {}
    assert flagged(tag(album, existing="append")) == {"a.txt": "several_lines"}
    assert flagged(tag(album, existing="append")) == {"a.txt": "several_lines"}


@pytest.mark.parametrize("encoding", ["cp1252", "gbk", "utf-16"])
def test_a_kept_sidecar_that_is_not_utf_8_is_named(album, encoding):
    (album / "a.txt").write_bytes(("café" if encoding == "cp1252" else "青い髪").encode(encoding))

    assert flagged(tag(album)) == {"a.txt": "not_utf_8"}


# Empty files


@pytest.mark.parametrize("empty", ["", "\n", " \t\r\n", "\ufeff\n"], ids=ascii)
def test_fill_writes_where_a_file_is_absent_or_empty(album, empty):
    write(album / "a.txt", empty)
    write(album / "b.txt", "mine")

    report = tag(album, existing="fill")

    assert counts(report) == {"written": 2, "kept": 1}
    assert report.kept_paths == ["b.png"]
    assert len(tags_of(album / "a.txt")) > 1
    assert (album / "b.txt").read_bytes() == b"mine"


def test_fill_keeps_what_sdprep_wrote_where_any_other_run_would_rewrite_it(tagged):
    before = texts(tagged)

    report = tag(tagged, existing="fill", threshold=STRICT)

    assert counts(report) == {"kept": 3}
    assert texts(tagged) == before


# How often each tag occurs


def test_frequencies_count_kept_files_as_they_are_on_disk(album):
    write(album / "a.txt", "mine, Simple Background; mine too")

    report = tag(album, frequency_tags=True)

    assert report.kept == 1
    assert (report.tag_counts["mine"], report.tag_counts["mine too"], report.tag_counts["simple_background"]) == (
        1,
        1,
        3,
    )


def test_frequencies_of_a_dry_run_are_those_that_are_known_without_the_model(album, monkeypatch):
    write(album / "a.txt", "mine")
    hide_models(monkeypatch)

    assert tag(album, frequency_tags=True, dry_run=True).tag_counts == {"mine": 1}


def test_frequencies_leave_out_what_a_captioner_wrote(album):
    caption_too(album)

    report = tag(album, existing="append", frequency_tags=True)

    assert max(report.tag_counts.values()) == 3
    assert not any(" " in tag for tag in report.tag_counts)


def test_undoing_every_round_gives_the_first_bytes(album, other_model):
    write(album / "a.txt", "\ufeffmine,\r\nand mine\r\n")
    before = texts(album)
    caption_too(album, existing="prepend")
    tag(album, existing="append")
    tag(album, existing="append", model=other_model)
    tag(album, threshold=STRICT)
    tag(album, existing="overwrite")

    for entry in reversed(log(album)):
        undo(album, entry.uid)

    assert texts(album) == before
