"""What the user typed and removed, between runs of every kind; tests of composing try any sequence."""

import json
import sqlite3
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdprep.config import MergeSettings
from sdprep.tasks.history.restore import restore
from sdprep.tasks.history.runs import log
from sdprep.tasks.history.undo import undo
from sdprep.tasks.merge import merge
from tests.stories.telling import CATALOG, LOOSE, STRICT, USUAL, counts, hide_models, tag, tags_of, texts, write

NOTHING = 1.5
SEPARATORS = (", ", " | ", "; ")


def forget_texts(album):
    """As if no run had written a text yet; the stored results stay, so that no model is needed."""
    with closing(sqlite3.connect(album / CATALOG)) as catalog, catalog:
        catalog.execute("DELETE FROM sidecars")


@pytest.mark.parametrize(
    "settings", [MergeSettings(fields=("tags",)), MergeSettings(fields=("tags",), missing="empty")]
)
def test_merge_takes_a_text_of_no_bytes_for_what_the_last_run_left(tagged, settings):
    merge(tagged, settings)
    before = (tagged / "metadata.json").read_bytes()
    write(tagged / "a.txt", "")

    merge(tagged, settings)

    assert (tagged / "metadata.json").read_bytes() == before


def test_merge_takes_an_empty_line_for_what_it_says(tagged):
    write(tagged / "a.txt", "\n")
    merge(tagged, MergeSettings(fields=("tags",), keys="stem"))

    assert json.loads((tagged / "metadata.json").read_bytes())["a"] == {"tags": ""}


def test_an_empty_line_stays_when_a_run_that_has_no_tags_finds_it(tagged):
    forget_texts(tagged)
    write(tagged / "a.txt", "\n")

    tag(tagged, threshold=NOTHING)
    report = tag(tagged, threshold=USUAL)

    assert "a.png" in report.kept_paths
    assert (tagged / "a.txt").read_bytes() == b"\n"


def test_an_empty_line_in_place_of_sdpreps_tags_stays_too(tagged):
    write(tagged / "a.txt", "\n")

    tag(tagged, threshold=NOTHING)
    report = tag(tagged, threshold=USUAL)

    assert report.kept_paths == ["a.png"]
    assert (tagged / "a.txt").read_bytes() == b"\n"


def test_a_typed_tag_that_makes_the_text_what_another_run_would_write_stays(album):
    tag(album, threshold=USUAL)
    usual = (album / "a.txt").read_bytes()
    tag(album, threshold=STRICT)
    (album / "a.txt").write_bytes(usual)

    tag(album, threshold=USUAL)
    report = tag(album, threshold=STRICT)

    assert "a.png" in report.kept_paths
    assert (album / "a.txt").read_bytes() == usual


def test_a_tag_that_was_typed_after_an_append_that_added_nothing_stays(album):
    tag(album, threshold=STRICT)
    first, second, *_ = tags_of(album / "a.txt")
    write(album / "a.txt", "mine")
    tag(album, existing="append", threshold=STRICT)
    write(album / "a.txt", f"mine, {second}")
    tag(album, existing="append", threshold=STRICT)

    tag(album, threshold=NOTHING)

    assert tags_of(album / "a.txt") == ["mine", second]
    assert first not in tags_of(album / "a.txt")


def test_a_text_to_which_nothing_was_added_is_the_users_whatever_a_later_run_would_write(album):
    tag(album, threshold=STRICT)
    strict = (album / "a.txt").read_text(encoding="utf-8")
    kept = tags_of(album / "a.txt")[0]
    write(album / "a.txt", kept)
    tag(album, existing="append", threshold=STRICT)

    report = tag(album, threshold=NOTHING)

    assert strict != kept
    assert "a.png" in report.kept_paths
    assert tags_of(album / "a.txt") == [kept]


@pytest.mark.parametrize("first", SEPARATORS)
@pytest.mark.parametrize("second", SEPARATORS)
def test_appending_with_another_separator_doubles_no_tag(tagged, first, second, monkeypatch):
    hide_models(monkeypatch)
    theirs = tags_of(tagged / "a.txt")
    forget_texts(tagged)
    write(tagged / "a.txt", first.join(["mine", theirs[0].replace("_", " ").upper()]))

    for separator in (second, first, ", "):
        tag(tagged, existing="append", caption_separator=separator)

    words = [word.strip() for word in (tagged / "a.txt").read_text().replace("|", ",").replace(";", ",").split(",")]
    folded = [word.replace("_", " ").casefold() for word in words]
    assert len(folded) == len(set(folded))


def test_a_flipped_bit_in_what_the_catalog_knows_of_the_users_part_reaches_no_file(album, monkeypatch):
    write(album / "a.txt", "my trigger, a Thing")
    tag(album, existing="append")
    hide_models(monkeypatch)
    with closing(sqlite3.connect(album / CATALOG)) as catalog, catalog:
        catalog.execute("UPDATE states SET checksum = NULL, person = 'my trigger, a Thinf' WHERE person != ''")

    report = tag(album, threshold=STRICT)

    assert counts(report) == {"written": 3}
    assert tags_of(album / "a.txt")[:2] == ["my trigger", "a Thing"]


def test_a_flipped_bit_in_what_the_catalog_knows_of_its_own_part_doubles_no_tag(album):
    write(album / "a.txt", "mine")
    tag(album, existing="append")
    with closing(sqlite3.connect(album / CATALOG)) as catalog, catalog:
        catalog.execute(
            "UPDATE states SET checksum = NULL, machine = replace(machine, 'simple', 'sample') WHERE person != ''"
        )

    tag(album, threshold=LOOSE)

    tags = tags_of(album / "a.txt")
    assert "simple_background" in tags
    assert len(tags) == len(set(tags))


def test_a_text_that_a_power_cut_emptied_is_written_again(tagged, monkeypatch):
    before = texts(tagged)
    hide_models(monkeypatch)
    (tagged / "a.txt").write_bytes(b"")

    report = tag(tagged)

    assert counts(report) == {"written": 1, "current": 2}
    assert texts(tagged) == before


@pytest.mark.parametrize("existing", ["append", "prepend"])
def test_a_text_that_both_wrote_and_a_power_cut_emptied_is_written_again_with_the_users_part(album, existing):
    write(album / "a.txt", "my trigger, a Thing")
    tag(album, existing=existing)
    before = texts(album)
    (album / "a.txt").write_bytes(b"")

    report = tag(album)

    assert counts(report) == {"written": 1, "current": 2}
    assert texts(album) == before


RUNS = st.fixed_dictionaries(
    {},
    optional={
        "existing": st.sampled_from(["keep", "append", "prepend", "overwrite"]),
        "threshold": st.sampled_from([STRICT, USUAL, LOOSE]),
        "caption_separator": st.sampled_from(SEPARATORS),
    },
)


def test_undoing_every_run_gives_the_first_bytes(tagged, request, monkeypatch):
    hide_models(monkeypatch)
    firsts = st.sampled_from(["mine, solo", "\ufeffmine\r\n", "\n", "", "mine|x"])

    @settings(max_examples=max(1, request.config.getoption("--edits") // 20), suppress_health_check=list(HealthCheck))
    @given(st.lists(RUNS, min_size=1, max_size=4), firsts)
    def live(runs, first):
        forget_texts(tagged)
        write(tagged / "a.txt", first)
        before, known = texts(tagged), {entry.uid for entry in log(tagged)}
        for explicit in runs:
            tag(tagged, **explicit)
        for entry in reversed([entry for entry in log(tagged) if entry.uid not in known and entry.changed]):
            undo(tagged, entry.uid)
        assert texts(tagged) == before

    live()


@pytest.mark.parametrize("first", [None, "mine"])
def test_undo_takes_a_file_that_a_power_cut_emptied_for_the_text_of_the_run(album, first):
    if first is not None:
        write(album / "a.txt", first)
    before = texts(album)
    tag(album, existing="overwrite")
    (album / "a.txt").write_bytes(b"")

    assert counts(undo(album)) == {"written": 3}
    assert texts(album) == before


def test_restore_takes_a_file_that_a_power_cut_emptied_for_the_text_of_the_last_run(album):
    write(album / "a.txt", "mine")
    tag(album, existing="overwrite")
    (album / "a.txt").write_bytes(b"")

    restore(album / "a.txt")

    assert (album / "a.txt").read_bytes() == b"mine"


def test_restore_gives_an_emptied_file_its_only_text(tagged):
    before = texts(tagged)
    (tagged / "a.txt").write_bytes(b"")

    restore(tagged / "a.txt")

    assert texts(tagged) == before


def test_merge_takes_a_json_that_a_power_cut_emptied_for_what_it_wrote(tagged):
    merge(tagged, MergeSettings(keys="relative"))
    output = tagged / "metadata.json"
    output.write_text(output.read_text().replace('"tags"', '"mine": 1e999,\n    "tags"', 1))
    tag(tagged, threshold=STRICT)
    merge(tagged, MergeSettings(keys="relative"))
    before = output.read_bytes()
    output.write_bytes(b"")

    report = merge(tagged, MergeSettings(keys="relative"))

    assert counts(report) == {"written": 3}
    assert output.read_bytes() == before
    assert b"1e999" in before


def test_merge_makes_a_json_of_no_bytes_that_it_does_not_know_anew(tagged):
    (tagged / "metadata.json").write_bytes(b"")

    assert counts(merge(tagged, MergeSettings(keys="relative"))) == {"written": 3}
