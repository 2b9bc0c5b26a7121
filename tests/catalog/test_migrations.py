"""Catalogs of older schemas: brought up to date in one step that fails as a whole, after a copy was kept.

`catalog-0.1.sqlite` was written by `sdprep tag` 0.1 with demo-tag over two images of 8x8 pixels, a.bmp and b.bmp, of
which a.bmp had a text by hand: first with `--existing overwrite --threshold 0.35`, then with `--threshold 0.02`.
"""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sdprep.catalog import database, migrations
from sdprep.catalog.catalog import Catalog
from sdprep.catalog.schema import STEPS
from sdprep.errors import CatalogFailed, DamagedCatalog
from sdprep.tasks.history.restore import file_versions, restore
from sdprep.tasks.history.retry import retry
from sdprep.tasks.history.runs import log
from sdprep.tasks.history.undo import undo

OLD = Path(__file__).with_name("catalog-0.1.sqlite")
BY_HAND = b"mine, by hand"


def content(file):
    with closing(sqlite3.connect(file)) as db:
        return list(db.iterdump()), db.execute("PRAGMA user_version").fetchone()


@pytest.fixture
def album(tmp_path):
    """The folder of the old catalog as its last run left it, without the images."""
    folder = tmp_path / "album"
    (folder / ".sdprep").mkdir(parents=True)
    file = folder / ".sdprep" / "catalog.sqlite"
    file.write_bytes(OLD.read_bytes())
    with closing(sqlite3.connect(OLD.absolute().as_uri() + "?immutable=1", uri=True)) as db:
        for key, text in db.execute(
            "SELECT key, data FROM sidecars JOIN states ON states.id = state JOIN texts ON hash = text"
        ):
            (folder / key).write_bytes(text)
    return folder


@pytest.fixture
def file(album):
    return album / ".sdprep" / "catalog.sqlite"


def further_step(monkeypatch, step):
    steps = [*STEPS, step]
    monkeypatch.setattr(database, "STEPS", steps)
    monkeypatch.setattr(migrations, "STEPS", steps)


def names(folder):
    return sorted(path.name for path in (folder / ".sdprep").iterdir() if not path.name.endswith((".lock", "-shm")))


def test_undo_of_everything_gives_the_first_texts_with_a_catalog_of_0_1(album):
    for run in [entry.uid for entry in reversed(log(album))]:
        assert undo(album, run).written == 2

    assert (album / "a.txt").read_bytes() == BY_HAND
    assert not (album / "b.txt").exists()


def test_restore_works_with_a_catalog_of_0_1(album):
    restore(album / "a.txt", 1)

    assert (album / "a.txt").read_bytes() == BY_HAND


def test_a_catalog_of_0_1_keeps_all_that_it_had(album, file):
    before = content(file)[0]
    retry(album)

    after = content(file)
    assert after[1] == (len(STEPS),)
    added = [
        line
        for line in after[0]
        if re.match(
            r'CREATE TABLE (stated|moves|marks)|INSERT INTO "stated"|CREATE INDEX (images|states|sidecars|moves)_by',
            line,
        )
    ]
    assert len(after[0]) == len(before) + len(added)
    # Each row of these tables has one or two columns more, which are empty.
    changed = [line for line in before if re.search(r'"(results|states|journal)"|TABLE (results|states|journal)', line)]
    assert set(before) - set(after[0]) == set(changed)
    rows = [line for line in changed if line.startswith("INSERT")]
    assert {line.replace(");", ",NULL,NULL);" if '"states"' in line else ",NULL);") for line in rows} <= set(after[0])


def test_before_a_catalog_is_changed_it_is_copied_whole(album, file):
    before = content(file)
    retry(album)

    assert content(album / ".sdprep" / "catalog.sqlite.schema-1") == before


def test_the_copy_is_spoken_of_once(album):
    notes = []
    for _ in range(2):
        retry(album, listener=type("Heard", (), {"note": lambda _, message: notes.append(message)})())

    assert [note for note in notes if "catalog.sqlite.schema-1" in note] == notes
    assert len(notes) == 1


def test_a_copy_that_is_there_is_not_replaced(album):
    (album / ".sdprep" / "catalog.sqlite.schema-1").write_bytes(b"older still")
    retry(album)

    assert (album / ".sdprep" / "catalog.sqlite.schema-1").read_bytes() == b"older still"
    assert "catalog.sqlite.schema-1.2" in names(album)


def test_what_only_looks_reads_an_old_catalog_and_leaves_it_as_it_is(album, file):
    before = file.read_bytes()

    assert [entry.changed for entry in log(album)] == [2, 2]
    assert file_versions(album / "a.txt")[0].excerpt == BY_HAND.decode()
    assert file.read_bytes() == before
    assert names(album) == ["catalog.sqlite"]


def test_a_new_catalog_has_the_definitions_of_one_that_was_brought_up_to_date(album, file, tmp_path):
    retry(album)
    Catalog(tmp_path / "new.sqlite", tmp_path).close()

    with closing(sqlite3.connect(file)) as old, closing(sqlite3.connect(tmp_path / "new.sqlite")) as new:
        assert database._definitions(old) == database._definitions(new)


@pytest.mark.parametrize("step", ["CREATE TABLE more (a); INSERT INTO gone VALUES (1);", "CREATE TABLE more (a); no;"])
def test_a_step_that_fails_leaves_everything_as_it_was_and_moves_nothing_aside(album, file, monkeypatch, step):
    before = content(file)
    further_step(monkeypatch, step)

    with pytest.raises(CatalogFailed, match=f"cannot be migrated to schema {len(STEPS) + 1} and is unchanged"):
        Catalog(file, album)
    assert content(file) == before
    assert "catalog.sqlite.schema-1" in names(album)


def test_a_further_step_follows_the_others(album, file, monkeypatch):
    retry(album)
    further_step(monkeypatch, "CREATE TABLE more (a);")
    opened = Catalog(file, album)
    opened.db.execute("INSERT INTO more VALUES (1)")
    opened.close()

    assert opened.backup.name == f"catalog.sqlite.schema-{len(STEPS)}"
    assert content(file)[1] == (len(STEPS) + 1,)


def test_a_copy_that_cannot_be_made_leaves_the_catalog_as_it_is(album, file, monkeypatch):
    before = content(file)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(migrations.os, "fsync", fail)
    with pytest.raises(CatalogFailed, match="No space left"):
        Catalog(file, album)
    assert content(file) == before
    assert names(album) == ["catalog.sqlite"]


def test_an_old_number_over_other_tables_is_damage(album, file):
    with closing(sqlite3.connect(file)) as db:
        db.execute("DROP TABLE failures")

    with pytest.raises(DamagedCatalog, match="other tables"):
        Catalog(file, album)


def test_a_folder_in_the_place_of_the_copy_is_named(album, file):
    (file.parent / "catalog.sqlite.copy.tmp").mkdir()

    with pytest.raises(CatalogFailed, match=r"catalog\.sqlite\.copy\.tmp: .*Move that file or folder away"):
        Catalog(file, album)


def test_a_link_in_the_place_of_the_copy_is_not_followed(album, file, tmp_path):
    (tmp_path / "victim").write_bytes(b"dear diary")
    for name in ("catalog.sqlite.copy.tmp", "catalog.sqlite.schema-1"):
        (file.parent / name).symlink_to(tmp_path / "victim")

    retry(album)

    assert (tmp_path / "victim").read_bytes() == b"dear diary"
