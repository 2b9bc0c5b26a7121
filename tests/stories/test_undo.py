"""Taking a run back: exact bytes, refusals, and undo of undo."""

import json
import shutil
import sqlite3
import subprocess

import pytest

from sdprep.config import MergeSettings
from sdprep.errors import CatalogError, UsageError
from sdprep.report import NullListener
from sdprep.tasks.history.runs import log
from sdprep.tasks.history.undo import undo
from sdprep.tasks.merge import merge
from tests.stories.telling import (
    LOOSE,
    PYTHON,
    ROOT,
    STRICT,
    codes,
    counts,
    everything,
    hide_models,
    tag,
    texts,
    write,
)

ORIGINAL = "\ufeffmine,\r\nwith  odd spaces \r\n\r\n".encode()


@pytest.fixture
def overwritten(album):
    """The album where tags took the place of the user's text."""
    (album / "a.txt").write_bytes(ORIGINAL)
    tag(album, existing="overwrite")
    return album


def newest(folder):
    return log(folder)[-1]


def test_undo_deletes_files_that_the_run_made_and_gives_others_their_exact_bytes(overwritten):
    report = undo(overwritten)

    assert counts(report) == {"written": 3}
    assert texts(overwritten) == {"a.txt": ORIGINAL}


def test_undo_without_a_name_takes_the_last_run_back_alone(tagged):
    before = texts(tagged)
    tag(tagged, threshold=STRICT)

    undo(tagged)

    assert texts(tagged) == before


def test_undo_without_a_name_passes_over_runs_that_changed_nothing(overwritten):
    tag(overwritten)
    tag(overwritten)

    undo(overwritten)

    assert texts(overwritten) == {"a.txt": ORIGINAL}


def test_undo_takes_a_run_back_that_is_named(overwritten):
    first = newest(overwritten).uid
    tag(overwritten, threshold=STRICT)
    undo(overwritten)

    undo(overwritten, first)

    assert texts(overwritten) == {"a.txt": ORIGINAL}


def test_undo_takes_the_beginning_of_a_name(overwritten):
    undo(overwritten, newest(overwritten).uid[:-1])

    assert texts(overwritten) == {"a.txt": ORIGINAL}


def test_undo_of_an_unknown_run_is_reported(tagged):
    with pytest.raises(CatalogError, match="19990101"):
        undo(tagged, "19990101")


def test_undo_refuses_an_older_run_whose_files_were_written_again(tagged):
    first = newest(tagged).uid
    tag(tagged, threshold=STRICT)
    before = texts(tagged)

    report = undo(tagged, first)

    assert counts(report) == {"failed": 3}
    assert texts(tagged) == before


def test_undo_refuses_a_file_that_was_changed_since_and_takes_the_rest_back(overwritten):
    write(overwritten / "b.txt", "edited")

    report = undo(overwritten)

    assert counts(report) == {"written": 2, "failed": 1}
    assert list(codes(report).values()) == ["changed_since"]
    assert texts(overwritten) == {"a.txt": ORIGINAL, "b.txt": b"edited"}


def test_undo_takes_a_changed_file_back_when_forced(overwritten):
    write(overwritten / "b.txt", "edited")

    undo(overwritten, force=True)

    assert texts(overwritten) == {"a.txt": ORIGINAL}


def test_what_a_forced_undo_took_is_given_back_by_undoing_it(overwritten):
    write(overwritten / "b.txt", "edited")
    undo(overwritten, force=True)

    undo(overwritten)

    assert texts(overwritten)["b.txt"] == b"edited"


def test_undo_of_a_file_that_was_deleted_meanwhile_has_nothing_to_do(tagged):
    (tagged / "b.txt").unlink()

    report = undo(tagged)

    assert counts(report) == {"written": 2, "current": 1}
    assert texts(tagged) == {}


def test_undo_refuses_to_bring_back_what_stood_before_a_file_that_was_deleted(overwritten):
    (overwritten / "a.txt").unlink()

    report = undo(overwritten)

    assert counts(report) == {"written": 2, "failed": 1}
    assert texts(overwritten) == {}


def test_undo_of_undo_gives_the_work_back(overwritten):
    after = texts(overwritten)
    undo(overwritten)

    report = undo(overwritten)

    assert counts(report) == {"written": 3}
    assert texts(overwritten) == after


def test_undo_three_times_is_undo(overwritten):
    for _ in range(3):
        undo(overwritten)

    assert texts(overwritten) == {"a.txt": ORIGINAL}


def test_after_undo_the_earlier_text_is_still_sdpreps(tagged):
    tag(tagged, threshold=STRICT)
    undo(tagged)

    report = tag(tagged, threshold=STRICT)

    assert counts(report) == {"written": 3}


def test_after_undo_a_users_text_is_the_users_again(overwritten):
    undo(overwritten)

    report = tag(overwritten, threshold=STRICT)

    assert counts(report) == {"written": 2, "kept": 1}
    assert (overwritten / "a.txt").read_bytes() == ORIGINAL


def test_after_undo_of_undo_the_text_is_sdpreps(overwritten, monkeypatch):
    undo(overwritten)
    undo(overwritten)
    hide_models(monkeypatch)

    assert counts(tag(overwritten, threshold=STRICT)) == {"written": 3}


def test_after_undo_of_an_append_the_text_is_the_users_alone(album):
    write(album / "a.txt", "mine")
    tag(album, existing="append")
    undo(album)

    report = tag(album)

    assert report.kept_paths == ["a.png"]
    assert (album / "a.txt").read_bytes() == b"mine"


def test_undo_of_a_rewritten_append_gives_the_first_append_back(album):
    write(album / "a.txt", "mine")
    tag(album, existing="append")
    before = texts(album)
    tag(album, threshold=STRICT)

    undo(album)

    assert texts(album) == before
    assert counts(tag(album, threshold=STRICT)) == {"written": 3}


def test_undo_loses_no_results(tagged, monkeypatch):
    before = texts(tagged)
    undo(tagged)
    hide_models(monkeypatch)

    tag(tagged)

    assert texts(tagged) == before


def test_undo_in_a_folder_without_a_catalog_is_reported(album):
    with pytest.raises(CatalogError, match="no catalog"):
        undo(album)


def test_undo_where_no_run_changed_anything_is_reported(album):
    for name in ("a.txt", "b.txt", "c.txt"):
        write(album / name, "mine")
    tag(album)

    with pytest.raises(CatalogError):
        undo(album)


def test_undo_works_in_a_program_that_was_started_afresh(overwritten):
    done = subprocess.run(
        [PYTHON, "-m", "sdprep", "undo", "--dir", str(overwritten), "--json"], cwd=ROOT, capture_output=True, check=True
    )

    assert json.loads(done.stdout)["written"] == 3
    assert texts(overwritten) == {"a.txt": ORIGINAL}


def test_undo_brings_a_vanished_folder_back(album):
    (album / "sub").mkdir()
    (album / "a.png").rename(album / "sub" / "a.png")
    write(album / "sub" / "a.txt", "mine")
    tag(album, existing="overwrite")
    tag(album, threshold=STRICT)
    first = log(album)[0].uid
    for path in list((album / "sub").iterdir()):
        path.unlink()
    (album / "sub").rmdir()

    undo(album, first, force=True)

    assert texts(album) == {"sub/a.txt": b"mine"}


# Which dataset, and how much of it


@pytest.fixture
def parent(album):
    """A folder without a catalog above the album, which has a subfolder."""
    (album / "sub").mkdir()
    (album / "c.png").rename(album / "sub" / "c.png")
    tag(album)
    return album.parent


def second_album(parent):
    shutil.copytree(parent / "album", parent / "second")
    return parent / "second"


def test_undo_lists_several_datasets_below_the_folder_and_stops(parent):
    second = second_album(parent)
    last = tag(second, threshold=STRICT).run
    before = texts(parent)

    with pytest.raises(UsageError) as caught:
        undo(parent)

    assert texts(parent) == before
    assert str(parent / "album") in str(caught.value)
    assert f"{second}: {last} (tag, demo-tag)" in str(caught.value)
    assert "sdprep undo --dir" in str(caught.value)


def test_undo_acts_on_the_only_dataset_below_the_folder(parent):
    assert counts(undo(parent)) == {"written": 3}


def test_undo_acts_on_the_dataset_of_the_folder_and_not_on_one_below_it(parent):
    second = second_album(parent)
    second.rename(parent / "album" / "nested")
    tag(parent / "album" / "nested", threshold=STRICT)
    nested = texts(parent / "album" / "nested")

    undo(parent / "album")

    assert texts(parent / "album" / "nested") == nested
    assert not (parent / "album" / "a.txt").exists()


def test_undo_names_folder_command_model_and_count_before_it_changes_anything(parent):
    notes = []

    class Watching(NullListener):
        def note(self, message):
            notes.append((message, sorted(texts(parent))))

    uid = newest(parent).uid
    undo(parent, listener=Watching())

    message, before = notes[0]
    assert message == f"undoing run {uid} (tag, demo-tag) in {parent / 'album'}: 3 files"
    assert before == ["album/a.txt", "album/b.txt", "album/sub/c.txt"]


def test_a_dry_run_of_undo_lists_what_would_be_done(parent):
    tag(parent / "album", threshold=STRICT)
    before = everything(parent)

    report = undo(parent, dry_run=True)

    assert {each["path"]: each["change"] for each in report.planned} == {
        str(parent / "album" / name): "restore" for name in ("a.txt", "b.txt", "sub/c.txt")
    }
    assert counts(report) == {"remaining": 3}
    assert everything(parent) == before


def test_undo_of_a_subfolder_takes_back_only_what_is_below_it(parent):
    album = parent / "album"

    assert counts(undo(album / "sub")) == {"written": 1}
    assert sorted(texts(album)) == ["a.txt", "b.txt"]


def test_undo_of_a_subfolder_takes_the_last_run_that_changed_something_there(parent):
    album = parent / "album"
    before = texts(album / "sub")
    tag(album, threshold=STRICT)
    (album / "sub" / "c.png").rename(album.parent / "c.png")
    tag(album, threshold=LOOSE)
    (album.parent / "c.png").rename(album / "sub" / "c.png")

    undo(album / "sub")

    assert texts(album / "sub") == before


def test_a_run_can_be_undone_after_a_part_of_it_was(parent):
    album = parent / "album"
    run = newest(album).uid
    undo(album / "sub")

    report = undo(album, run)

    assert counts(report) == {"written": 2, "current": 1}
    assert texts(album) == {}


def test_the_log_of_a_subfolder_lists_the_runs_that_undo_would_find_there(parent):
    album = parent / "album"
    write(album / "sub" / "c.txt", "mine")
    tag(album, threshold=STRICT)

    assert [entry.changed for entry in log(album)] == [3, 2]
    assert [entry.changed for entry in log(album / "sub")] == [1]


# A catalog that came with the images


@pytest.mark.parametrize("key", ["../victim.txt", "sub/../../victim.txt", "ABSOLUTE"])
def test_undo_writes_no_file_outside_the_folder_of_a_catalog_that_it_found(overwritten, key):
    victim = overwritten.parent / "victim.txt"
    name = str(victim) if key == "ABSOLUTE" else key
    with sqlite3.connect(overwritten / ".sdprep" / "catalog.sqlite") as db:
        # As if the run had deleted the file: undo would make it, with bytes from the catalog.
        db.execute("UPDATE journal SET checksum = NULL, key = ?, after = NULL WHERE key = 'a.txt'", (name,))
    db.close()

    report = undo(overwritten)

    assert not victim.exists()
    assert counts(report) == {"written": 2, "failed": 1}
    assert [(each["code"], "outside the folder" in each["message"]) for each in report.failures] == [
        ("unwritable", True)
    ]


def test_undo_follows_a_catalog_that_a_user_names_anywhere(overwritten):
    (overwritten.parent / "dataset.json").write_text("{}", encoding="utf-8")
    merge(overwritten, MergeSettings(output=overwritten.parent / "dataset.json"))
    assert counts(undo(overwritten)) == {"failed": 1}

    report = undo(overwritten, newest(overwritten).uid, catalog=overwritten / ".sdprep" / "catalog.sqlite")

    assert counts(report) == {"written": 1}
    assert (overwritten.parent / "dataset.json").read_text(encoding="utf-8") == "{}"


def test_a_folder_in_place_of_a_run_is_answered_with_the_option(album):
    with pytest.raises(UsageError, match=rf"is a folder and no run\n.*sdprep undo --dir {album}"):
        undo(album.parent, str(album))
