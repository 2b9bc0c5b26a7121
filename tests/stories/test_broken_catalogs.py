"""A catalog that is damaged, foreign or from a newer sdprep, or lies where SQLite's log does not work."""

import random
import shutil
import sqlite3
import sys
from contextlib import closing

import pytest

from sdprep.catalog import database
from sdprep.catalog.catalog import Catalog
from sdprep.errors import CatalogError, CatalogFailed, DamagedCatalog, NewerCatalog, UsageError
from sdprep.tasks.history.restore import file_versions, restore
from sdprep.tasks.history.retry import retry
from sdprep.tasks.history.runs import log
from sdprep.tasks.history.undo import undo
from sdprep.tasks.merge import merge
from sdprep.tasks.settings import stating
from sdprep.tasks.tag import tag as tag_task
from tests.stories.telling import CATALOG, STRICT, caption, codes, counts, run_cli, tag, tag_settings, texts, write
from tests.stories.test_one_run_at_a_time import Heard


def zeros(data):
    return bytes(len(data))


def cut(data):
    return data[: len(data) // 2]


def header(data):
    return data[:100]


def text(data):
    return b"this is no database, whatever its name says\n" * 500


def scrambled(data):
    """Every page but the first has other bytes."""
    return data[:4096] + random.Random(7).randbytes(len(data) - 4096)


DAMAGES = pytest.mark.parametrize("damage", [zeros, cut, header, text, scrambled])


def spoil(folder, damage):
    """Damage the catalog of a folder; what it holds now."""
    file = folder / CATALOG
    file.write_bytes(damage(file.read_bytes()))
    return file.read_bytes()


def make_newer(folder):
    with closing(sqlite3.connect(folder / CATALOG)) as database:
        database.execute("CREATE TABLE newer (a)")
        database.execute("PRAGMA user_version = 999")


def heard(folder, **explicit):
    """A run of tag, and what it said."""
    listener = Heard()
    settings = tag_settings(explicit)
    report = tag_task(folder, settings, layers=stating(settings, explicit), listener=listener)
    return report, "\n".join(listener.notes)


def whole(file):
    with closing(sqlite3.connect(file)) as database:
        return database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# Moved aside


@DAMAGES
def test_a_damaged_catalog_is_moved_aside_and_the_run_goes_on(tagged, drawings, damage):
    held = spoil(tagged, damage)
    (tagged / "d.png").write_bytes(drawings[3])

    report, said = heard(tagged)

    assert counts(report) == {"written": 1, "kept": 3}
    assert (tagged / ".sdprep" / "catalog.sqlite.broken-1").read_bytes() == held
    assert whole(tagged / CATALOG)
    assert "catalog.sqlite.broken-1" in said


@DAMAGES
def test_no_text_is_touched_for_a_damaged_catalog(tagged, damage):
    before = texts(tagged)
    spoil(tagged, damage)

    tag(tagged, threshold=STRICT)

    assert texts(tagged) == before


def test_what_is_lost_is_said_once(tagged):
    spoil(tagged, text)

    said = [heard(tagged)[1] for _ in range(2)]

    assert "Your sidecar files are unchanged. Undo, the stored results" in said[0]
    assert said[1] == ""


def test_refresh_takes_back_what_was_sdpreps(tagged):
    spoil(tagged, text)

    assert counts(tag(tagged, refresh=True)) == {"current": 3}


def test_the_second_damaged_catalog_has_the_next_number(tagged):
    for _ in range(2):
        spoil(tagged, text)
        tag(tagged)

    names = sorted(path.name for path in (tagged / ".sdprep").glob("*.broken-*"))
    assert names == ["catalog.sqlite.broken-1", "catalog.sqlite.broken-2"]


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be renamed there")
def test_the_log_of_a_catalog_goes_with_it(tagged):
    with closing(sqlite3.connect(tagged / CATALOG)) as open_still, open_still:
        open_still.execute("DROP INDEX journal_open")
        open_still.commit()
        tag(tagged)

        with closing(sqlite3.connect(tagged / ".sdprep" / "catalog.sqlite.broken-1")) as kept:
            assert kept.execute("SELECT name FROM sqlite_master WHERE name = 'journal_open'").fetchone() is None
    assert whole(tagged / CATALOG)


@pytest.mark.parametrize("command", [caption, merge])
def test_caption_and_merge_go_on_too(tagged, command):
    spoil(tagged, zeros)

    assert command(tagged).exit_code == 0
    assert (tagged / ".sdprep" / "catalog.sqlite.broken-1").exists()


def test_a_dry_run_says_what_would_happen_and_moves_nothing(tagged):
    held = spoil(tagged, zeros)

    report, said = heard(tagged, dry_run=True)

    assert counts(report) == {"kept": 3}
    assert "would move it aside" in said
    assert (tagged / CATALOG).read_bytes() == held


def test_damage_that_shows_only_at_work_ends_the_run_and_makes_room_for_the_next(tagged, monkeypatch):
    monkeypatch.setattr(database, "CHECKED_BYTES", 0)
    before = texts(tagged)
    spoil(tagged, scrambled_but_tables)

    with pytest.raises(CatalogFailed, match="malformed"):
        tag(tagged)
    report = tag(tagged)

    assert counts(report) == {"kept": 3}
    assert texts(tagged) == before
    assert (tagged / ".sdprep" / "catalog.sqlite.broken-1").exists()


def scrambled_but_tables(data):
    """The list of tables stays readable, which fills the first pages; what they hold does not."""
    keep = 3 * 4096
    return data[:keep] + random.Random(7).randbytes(len(data) - keep)


# Content that sdprep never wrote, in a sound file


def alter(folder, *statements):
    """Change a catalog as someone with sqlite3 would."""
    with closing(sqlite3.connect(folder / CATALOG)) as opened, opened:
        for statement in statements:
            opened.execute(statement)


ROWS = {
    "settings that are cut": "UPDATE settings SET json = substr(json, 2)",
    "settings that are a list": "UPDATE settings SET json = '[1]'",
    "settings that are gone": "DELETE FROM settings",
    "settings that are no Unicode": "UPDATE settings SET json = CAST(x'7bff' AS TEXT)",
    "parts that are cut": "UPDATE states SET checksum = NULL, parts = '{'",
    "parts that are bytes": "UPDATE states SET checksum = NULL, parts = x'00'",
    "parts of nobody": "UPDATE states SET checksum = NULL, parts = replace(parts, '\"tag\"', '\"tog\"')",
    "pieces that are numbers": """UPDATE states SET checksum = NULL, parts = '{"parts": [{"author": "user",
        "pieces": [1]}]}'""",
    "pieces that are cut, of schema 2": "UPDATE states SET checksum = NULL, parts = NULL, machine = '{'",
    "pieces that are numbers, of schema 2": "UPDATE states SET checksum = NULL, parts = NULL, machine = '[1]'",
    "pieces without end": "UPDATE states SET checksum = NULL, removed = printf('%.*c', 200000, '[')",
    "a text that is gone": "UPDATE states SET checksum = NULL, text = x'00'",
    "a user's text that is bytes, of schema 2": "UPDATE states SET checksum = NULL, parts = NULL, person = x'00'",
    "a packed text that is none": "UPDATE texts SET packed = 1",
    "a text that is no Unicode": "UPDATE texts SET data = x'ff'",
}


@pytest.mark.parametrize("row", ROWS)
def test_a_row_that_makes_no_sense_ends_the_run_and_makes_room_for_the_next(tagged, row):
    write(tagged / "a.txt", "mine")
    before = texts(tagged)
    alter(tagged, ROWS[row])

    with pytest.raises(CatalogFailed, match=r"run the command again to continue"):
        tag(tagged, threshold=STRICT)
    report = tag(tagged, threshold=STRICT)

    assert counts(report) == {"kept": 3}
    assert texts(tagged) == before
    assert (tagged / ".sdprep" / "catalog.sqlite.broken-1").exists()


def test_a_dry_run_that_meets_such_a_row_moves_nothing(tagged):
    alter(tagged, ROWS["parts that are cut"])

    with pytest.raises(CatalogError, match="A run would move it aside"):
        tag(tagged, dry_run=True)
    assert whole(tagged / CATALOG)


def test_a_damaged_row_of_an_image_leaves_no_trace_of_the_interpreter(tagged):
    alter(tagged, "UPDATE images SET digest = 'text'")

    done = run_cli("tag", tagged, "--model", "demo-tag", "--workers", "0", "--threshold", "0.5")

    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("command", [log, undo])
@pytest.mark.parametrize("time", ["'y'", "x'00'", "9e999", "9e99"])
def test_a_time_that_is_invalid_is_reported_by_commands_that_look_back(tagged, command, time):
    alter(tagged, f"UPDATE runs SET started = {time}")

    with pytest.raises(DamagedCatalog, match=r"its list of runs is not as sdprep wrote it\. Move it away"):
        command(tagged)


@pytest.mark.parametrize("key", ["7", "x'00'"])
def test_undo_says_that_a_name_is_none_of_a_file(tagged, key):
    alter(tagged, f"UPDATE journal SET checksum = NULL, key = {key}")

    with pytest.raises(DamagedCatalog, match="the name of a file is not as sdprep wrote it"):
        undo(tagged)


def test_undo_says_that_a_text_is_gone(tagged):
    write(tagged / "a.txt", "mine")
    tag(tagged, existing="overwrite", threshold=STRICT)
    alter(tagged, "DELETE FROM texts")

    with pytest.raises(DamagedCatalog, match="a kept text is not as sdprep wrote it"):
        undo(tagged)


@pytest.mark.parametrize("data", ["x'00'", "'text'", "7", "x'ffffffff003c'"])
def test_a_stored_result_that_cannot_be_read_is_made_again(tagged, data):
    expected = texts(tagged)
    for name in expected:
        (tagged / name).unlink()
    alter(tagged, f"UPDATE results SET data = {data}")

    report = tag(tagged)

    assert (report.predicted, counts(report)) == (3, {"written": 3})
    assert texts(tagged) == expected


def test_a_stored_caption_that_cannot_be_read_is_made_again(album):
    caption(album)
    expected = texts(album, ".caption")
    alter(album, "UPDATE results SET data = x'00'")
    for name in expected:
        (album / name).unlink()

    assert caption(album).predicted == 3
    assert texts(album, ".caption") == expected


def test_a_failure_that_is_remembered_under_no_known_code_is_tried_again(tagged):
    write(tagged / "d.png", "no image")
    first = codes(tag(tagged))
    alter(tagged, "UPDATE failures SET code = 'of old'")

    assert codes(tag(tagged)) == first == {"d.png": "not_an_image"}


SCHEMAS = {
    "other columns": ["DROP TABLE sidecars", "CREATE TABLE sidecars(x)"],
    "a trigger": ["CREATE TRIGGER no BEFORE INSERT ON runs BEGIN SELECT RAISE(ABORT, 'no'); END"],
    "a view": ["DROP TABLE failures", "CREATE VIEW failures AS SELECT * FROM results"],
    "an index": ["CREATE UNIQUE INDEX only_one ON results (recipe) WHERE recipe > 5"],
    "no index": ["DROP INDEX journal_open"],
}


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_catalog_with_other_definitions_is_moved_aside_and_the_run_goes_on(tagged, schema):
    before = texts(tagged)
    alter(tagged, *SCHEMAS[schema])

    report, said = heard(tagged, threshold=STRICT)

    assert counts(report) == {"kept": 3}
    assert texts(tagged) == before
    assert "it has other tables" in said
    assert (tagged / ".sdprep" / "catalog.sqlite.broken-1").exists()


def test_what_sqlite_counts_for_itself_is_not_damage(tagged):
    alter(tagged, "ANALYZE")

    assert counts(tag(tagged)) == {"current": 3}


# Not moved


LOOKS = {
    "log": log,
    "file_versions": lambda folder: file_versions(folder / "a.txt"),
    "undo": undo,
    "restore": lambda folder: restore(folder / "a.txt"),
    "retry": retry,
}


@pytest.mark.parametrize("look", LOOKS)
def test_a_command_that_looks_back_says_that_the_catalog_is_damaged_and_leaves_it(tagged, look):
    held = spoil(tagged, text)

    with pytest.raises(CatalogError, match=r"catalog\.sqlite is not a catalog: .*Move it away"):
        LOOKS[look](tagged)
    assert (tagged / CATALOG).read_bytes() == held


EVERY_COMMAND = {
    **LOOKS,
    "tag": tag,
    "a dry run": lambda folder: tag(folder, dry_run=True),
    "caption": caption,
    "merge": merge,
}


@pytest.mark.parametrize("command", EVERY_COMMAND)
def test_every_command_refuses_a_newer_catalog_with_what_to_install_and_leaves_it_in_place(tagged, command, plain_pip):
    make_newer(tagged)
    before, held = texts(tagged), (tagged / CATALOG).read_bytes()

    with pytest.raises(NewerCatalog, match=r"pip install --upgrade sdprep.*schema 999"):
        EVERY_COMMAND[command](tagged)
    assert (tagged / CATALOG).read_bytes() == held
    assert texts(tagged) == before
    assert list((tagged / ".sdprep").glob("*.newer-*")) == []


@pytest.mark.parametrize("last", ['{"sdprep": "0.1.0"}', "[", '{"sdprep": "0.8\'; rm"}'])
def test_a_newer_catalog_says_which_version_to_install(tagged, last, plain_pip):
    make_newer(tagged)
    with pytest.raises(NewerCatalog, match="pip install --upgrade sdprep"):
        log(tagged)
    alter(tagged, """UPDATE runs SET versions = '{"sdprep": "0.10.2"}'""")
    with pytest.raises(NewerCatalog, match=r'newer sdprep 0\.10\.2\. .*pip install "sdprep>=0\.10\.2".*schema 999'):
        log(tagged)
    with closing(sqlite3.connect(tagged / CATALOG)) as opened, opened:
        opened.execute("UPDATE runs SET versions = ?", (last,))
    with pytest.raises(NewerCatalog, match="pip install --upgrade sdprep"):
        log(tagged)


@pytest.mark.parametrize("number", [7, 11, 67])
def test_a_flipped_bit_in_the_number_of_the_schema_is_damage(tagged, number):
    alter(tagged, f"PRAGMA user_version = {number}")

    with pytest.raises(DamagedCatalog, match=f"it has schema number {number}"):
        log(tagged)
    assert counts(tag(tagged, threshold=STRICT)) == {"kept": 3}


@pytest.mark.parametrize("content", [b"", b"not a catalog " * 1000], ids=["of another program", "a text"])
def test_a_file_that_catalog_names_is_never_moved_nor_changed(album, tmp_path, content):
    file = tmp_path / "precious"
    file.write_bytes(content)
    if not content:
        with closing(sqlite3.connect(file)) as other:
            other.execute("CREATE TABLE theirs (a)")
    before = file.read_bytes()

    with pytest.raises(CatalogError, match="precious is not a catalog"):
        tag(album, catalog=file)
    assert file.read_bytes() == before


# Where the write-ahead log does not work


@pytest.fixture
def no_shared_memory(monkeypatch):
    """File systems are as network shares may be: SQLite finds no memory there that processes share."""
    real = sqlite3.connect

    def connect(name, **options):
        return real(f"file:{name}?vfs=unix-none", uri=True, **options)

    monkeypatch.setattr(database.sqlite3, "connect", connect)


def journal_mode(folder):
    with closing(sqlite3.connect(folder / CATALOG)) as opened:
        return opened.execute("PRAGMA journal_mode").fetchone()[0]


POSIX = pytest.mark.skipif(sys.platform == "win32", reason="SQLite's file systems of Unix serve as the share")


@POSIX
@pytest.mark.usefixtures("no_shared_memory")
def test_on_a_share_without_shared_memory_a_run_works_and_says_so_once(album):
    first, second = heard(album), heard(album, threshold=STRICT)

    assert counts(first[0]) == {"written": 3}
    assert "--catalog PATH puts it on a local disk" in first[1]
    assert counts(second[0]) == {"written": 3}
    assert second[1] == ""


@POSIX
def test_a_catalog_that_was_copied_to_such_a_share_keeps_what_it_knows(tagged, request):
    modes = [journal_mode(tagged)]
    request.getfixturevalue("no_shared_memory")

    report, said = heard(tagged, threshold=STRICT)

    assert counts(report) == {"written": 3}
    assert "does not support a write-ahead log" in said
    assert [*modes, journal_mode(tagged)] == ["wal", "delete"]


@POSIX
@pytest.mark.parametrize("there", [False, True], ids=["new", "old"])
def test_shared_memory_that_cannot_be_opened_is_done_without(album, there):
    if there:
        tag(album)
    (album / ".sdprep").mkdir(exist_ok=True)
    (album / ".sdprep" / "catalog.sqlite-shm").symlink_to("nowhere/at-all")

    report, said = heard(album, threshold=STRICT)

    assert counts(report) == {"written": 3}
    assert "does not support a write-ahead log" in said


@POSIX
@pytest.mark.usefixtures("no_shared_memory")
def test_undo_works_without_the_log(album):
    write(album / "a.txt", "mine")
    tag(album, existing="overwrite")

    undo(album)

    assert texts(album) == {"a.txt": b"mine"}


def test_on_a_local_disk_the_log_is_used_and_nothing_is_reported(album):
    report, said = heard(album)

    assert counts(report) == {"written": 3}
    assert (journal_mode(album), said) == ("wal", "")


def test_a_fault_of_the_catalog_at_work_says_what_to_do_and_leaves_the_folder_free(tagged, monkeypatch):
    def fail(*_):
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "end_run", fail)
        with pytest.raises(CatalogFailed, match=r"disk I/O error\. What was written so far is kept"):
            tag(tagged, threshold=STRICT)

    assert counts(tag(tagged, threshold=STRICT)) == {"current": 3}


@pytest.fixture
def datasets(tagged, tmp_path):
    """A folder with two datasets, of which one has a damaged catalog."""
    for name in ("good", "spoiled"):
        shutil.copytree(tagged, tmp_path / "datasets" / name)
    spoil(tmp_path / "datasets" / "spoiled", text)
    return tmp_path / "datasets"


def test_the_runs_of_one_dataset_are_listed_although_the_catalog_of_another_is_damaged(datasets):
    listener = Heard()
    assert log(datasets, listener=listener) == log(datasets / "good")
    [note] = listener.notes
    assert note.startswith("left out: ")
    assert "spoiled" in note


def test_a_run_is_looked_for_in_the_datasets_whose_catalogs_are_not_damaged(datasets):
    with pytest.raises(CatalogError, match="no run is named nope"):
        undo(datasets, "nope")
    [run] = log(datasets / "good")
    assert undo(datasets, run.uid).written == 3
    assert texts(datasets / "good") == {}


def test_undo_without_a_run_lists_a_dataset_with_a_damaged_catalog_too(datasets):
    with pytest.raises(UsageError, match=r"good: .* \(tag, demo-tag\)\n  .*spoiled: its catalog is damaged"):
        undo(datasets)
