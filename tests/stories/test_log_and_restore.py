"""What is remembered: runs, the texts of a file with their origin, and giving one of them back."""

import json
import sqlite3
from contextlib import closing

import pytest

from sdprep.errors import CatalogError
from sdprep.tasks.history.restore import file_versions, restore
from sdprep.tasks.history.runs import log
from sdprep.tasks.history.undo import undo
from tests.stories.telling import CATALOG, STRICT, counts, tag, texts, write


@pytest.fixture
def lived(album):
    """The album whose first text was the user's, then tags, then fewer tags."""
    write(album / "a.txt", "mine")
    tag(album, existing="overwrite")
    tag(album, threshold=STRICT)
    return album


def remembered(folder, query):
    with closing(sqlite3.connect(folder / CATALOG)) as database:
        return database.execute(query).fetchall()


def test_a_run_is_remembered_with_command_model_settings_and_versions(tagged):
    [(command, model, settings, versions)] = remembered(tagged, "SELECT command, model, settings, versions FROM runs")

    assert command == "tag"
    assert model.startswith("demo-tag#")
    assert json.loads(settings)["rules"]["threshold"] == 0.35
    assert {"python", "sdprep", "onnxruntime"} <= set(json.loads(versions))


def test_a_run_is_remembered_with_its_report(tagged):
    [(report,)] = remembered(tagged, "SELECT report FROM runs")

    assert json.loads(report)["written"] == 3


def test_the_log_lists_runs_in_their_order_with_what_they_changed(lived):
    undo(lived)

    assert [(entry.command, entry.changed) for entry in log(lived)] == [("tag", 3), ("tag", 3), ("undo", 3)]


def test_the_log_says_of_every_run_that_it_ended(lived):
    assert all(entry.ended is not None for entry in log(lived))


def test_the_log_of_a_folder_without_a_catalog_is_reported(album):
    with pytest.raises(CatalogError, match="no catalog"):
        log(album)


def test_the_journal_remembers_every_text_with_the_one_that_it_replaced(lived):
    rows = remembered(
        lived,
        "SELECT old.data, new.data, status FROM journal LEFT JOIN texts old ON old.hash = before"
        " LEFT JOIN texts new ON new.hash = after WHERE key = 'a.txt' ORDER BY id",
    )

    assert rows[0][0] == b"mine"
    assert rows[0][1] == rows[1][0]
    assert rows[1][1] == (lived / "a.txt").read_bytes()
    assert {status for *_, status in rows} == {"done"}


def test_the_journal_remembers_the_origin_of_both_texts(album):
    write(album / "a.txt", "mine")
    tag(album, existing="append")
    tag(album, existing="overwrite")

    rows = remembered(
        album,
        "SELECT old.origin, new.origin FROM journal LEFT JOIN states old ON old.id = state_before"
        " LEFT JOIN states new ON new.id = state_after WHERE key = 'a.txt' ORDER BY journal.id",
    )

    assert rows == [(None, "mixed"), ("mixed", "machine")]


def test_the_texts_of_a_file_are_listed_oldest_first_with_their_origin(lived):
    origins = [version.origin for version in file_versions(lived / "a.txt")]

    assert len(origins) == 3
    assert origins[0].startswith("found by")
    assert all(origin.startswith("written by tag") for origin in origins[1:])


def test_a_file_that_was_edited_between_two_runs_is_listed_with_the_edit(lived):
    write(lived / "a.txt", "an edit")
    tag(lived, existing="overwrite", threshold=STRICT)

    assert len(file_versions(lived / "a.txt")) == 5


def test_restore_gives_the_text_before_the_present_one(lived):
    now = texts(lived)["a.txt"]

    report = restore(lived / "a.txt")

    assert counts(report) == {"written": 1}
    assert texts(lived)["a.txt"] not in (b"mine", now)


def test_restore_gives_the_text_of_a_number(lived):
    restore(lived / "a.txt", 1)

    assert texts(lived)["a.txt"] == b"mine"


def test_restore_leaves_every_other_file_alone(lived):
    before = texts(lived)

    restore(lived / "a.txt", 1)

    assert {**texts(lived), "a.txt": before["a.txt"]} == before


def test_restore_gives_a_deleted_file_its_last_text(lived):
    last = texts(lived)["a.txt"]
    (lived / "a.txt").unlink()

    restore(lived / "a.txt")

    assert texts(lived)["a.txt"] == last


def test_restore_gives_an_edited_file_the_last_text_that_sdprep_knows(lived):
    last = texts(lived)["a.txt"]
    write(lived / "a.txt", "an edit")

    restore(lived / "a.txt")

    assert texts(lived)["a.txt"] == last


def test_the_edit_that_restore_replaced_comes_back_by_undo(lived):
    write(lived / "a.txt", "an edit")
    restore(lived / "a.txt")

    undo(lived)

    assert texts(lived)["a.txt"] == b"an edit"


def test_a_restored_text_is_what_the_user_asked_for_and_is_kept(lived):
    restore(lived / "a.txt", 2)
    before = texts(lived)["a.txt"]

    report = tag(lived, threshold=STRICT)

    assert report.kept_paths == ["a.png"]
    assert texts(lived)["a.txt"] == before


def test_restoring_the_present_text_changes_nothing(lived):
    before = texts(lived)

    report = restore(lived / "a.txt", 3)

    assert counts(report) == {"current": 1}
    assert texts(lived) == before


def test_restoring_a_number_that_there_is_not_says_which_there_are(lived):
    with pytest.raises(CatalogError, match="1 to 3"):
        restore(lived / "a.txt", 4)


def test_restoring_a_file_that_sdprep_never_wrote_is_reported(lived):
    write(lived / "notes.txt", "mine")

    with pytest.raises(CatalogError, match=r"notes\.txt"):
        restore(lived / "notes.txt")


def test_restoring_where_there_is_no_earlier_text_is_reported(tagged):
    with pytest.raises(CatalogError, match="no earlier text"):
        restore(tagged / "a.txt")
