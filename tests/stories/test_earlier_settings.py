"""Settings of sdprep 0.1, which stored those of each run but not which were stated: they stay too."""

import json
from contextlib import closing
from sqlite3 import connect

import pytest
from click.testing import CliRunner

from sdprep.api import tag as api_tag
from sdprep.catalog.migrations import DEFAULTS
from sdprep.catalog.schema import STEPS
from sdprep.cli.main import cli
from sdprep.config import SETTINGS, remembered_options
from sdprep.errors import UsageError
from sdprep.tasks.remembered import remembered
from tests.stories.telling import CATALOG, STRICT, tags_of, texts

NEW = {"stated", "folder"}


def sdprep(*words):
    """Run a command; every result must be a success."""
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result


def sdprep_tag(folder, *words):
    return sdprep("tag", folder, "--workers", 0, "--model", "demo-tag", *words)


def as_of_0_1(folder):
    """Turn a catalog into one of sdprep 0.1: with its tables and columns, and runs that do not say what was stated."""
    file = folder / CATALOG
    new, old = file.with_name("new.sqlite"), file.with_name("old.sqlite")
    with closing(connect(file)) as db:
        db.execute("VACUUM INTO ?", (str(new),))
    with closing(connect(old)) as db:
        db.executescript(STEPS[0])
        db.execute("ATTACH ? AS new", (str(new),))
        for [table] in db.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'").fetchall():
            columns = ", ".join(row[1] for row in db.execute(f"PRAGMA main.table_info({table})"))
            db.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM new.{table}")
        for number, text in db.execute("SELECT id, settings FROM main.runs").fetchall():
            settings = {name: value for name, value in json.loads(text).items() if name not in NEW}
            db.execute("UPDATE main.runs SET settings = ? WHERE id = ?", (json.dumps(settings), number))
        db.commit()
        db.execute("DETACH new")
        db.execute("PRAGMA user_version = 1")
    for path in file.parent.glob("catalog.sqlite*"):
        path.unlink()
    new.unlink()
    old.rename(file)


def flags_by_place(folder):
    rows = [row for row in remembered(folder) if row.option != "model"]
    return {(row.place.relative_to(folder).as_posix(), row.flags) for row in rows}


@pytest.fixture
def styled(album):
    sdprep_tag(album, "--prefix", "mychar", "--exclude", "simple_background", "--remove-underscore")
    as_of_0_1(album)
    return album


def test_what_0_1_was_told_stays_when_another_option_is_stated(styled):
    before = texts(styled)

    sdprep("tag", styled, "--workers", 0, "--threshold", STRICT)

    assert all(len(after) < len(before[name]) for name, after in texts(styled).items())
    assert all(tags_of(styled / name)[0] == "mychar" for name in before)
    assert b"simple" not in b"".join(texts(styled).values())


def test_the_first_run_with_a_catalog_of_0_1_rewrites_nothing_and_says_what_it_uses(styled):
    before = texts(styled)

    result = sdprep("tag", styled, "--workers", 0, "--json")

    assert texts(styled) == before
    assert json.loads(result.stdout)["written"] == 0
    assert (
        "using settings of earlier runs: --exclude simple_background --model demo-tag --prefix mychar "
        "--remove-underscore"
    ) in result.stderr


def test_the_settings_of_0_1_are_listed_with_their_run_and_can_be_forgotten(styled):
    [row] = [row for row in remembered(styled) if row.option == "prefix"]
    assert (row.origin, row.place, row.is_signed) == ("an earlier sdprep", styled, False)
    assert row.run in sdprep("log", styled).stdout

    sdprep("settings", styled, "--forget")

    assert remembered(styled) == []


def test_a_stated_option_replaces_that_of_0_1(styled):
    sdprep("tag", styled, "--workers", 0, "--prefix", "other")

    assert {row.value: row.is_signed for row in remembered(styled) if row.option == "prefix"} == {("other",): True}


def nested(album):
    for name in ("b", "c"):
        (album / name).mkdir()
        (album / f"{name}.png").rename(album / name / f"{name}.png")


def test_folders_that_0_1_treated_differently_stay_different(album):
    nested(album)
    sdprep_tag(album, "--prefix", "mine", "--remove-underscore")
    sdprep_tag(album / "b", "--prefix", "hers")
    before = texts(album)
    as_of_0_1(album)

    assert flags_by_place(album) == {(".", "--prefix mine"), (".", "--remove-underscore"), ("b", "--prefix hers")}
    sdprep("tag", album, "--workers", 0)
    assert texts(album) == before


def test_a_run_of_0_1_over_the_whole_replaces_what_one_over_a_part_had(album):
    nested(album)
    sdprep_tag(album / "b", "--prefix", "hers", "--catalog", album / CATALOG)
    sdprep_tag(album, "--no-remembered", "--prefix", "mine")
    as_of_0_1(album)

    assert flags_by_place(album) == {(".", "--prefix mine")}


def test_a_built_in_value_below_another_is_a_setting_too(album):
    nested(album)
    sdprep_tag(album, "--prefix", "mine")
    sdprep_tag(album / "b", "--no-remembered")
    before = texts(album)
    as_of_0_1(album)

    sdprep("tag", album, "--workers", 0)

    assert texts(album) == before


def test_what_an_undone_run_of_0_1_had_does_not_count(album):
    sdprep_tag(album, "--prefix", "mine")
    sdprep_tag(album, "--prefix", "wrong")
    sdprep("undo", "--dir", album)
    as_of_0_1(album)

    assert flags_by_place(album) == {(".", "--prefix mine")}


def test_a_dry_run_uses_the_settings_of_0_1_and_leaves_the_catalog_as_it_is(styled):
    content = (styled / CATALOG).read_bytes()

    result = sdprep("tag", styled, "--workers", 0, "--dry-run")

    assert "--prefix mychar" in result.stderr
    assert (styled / CATALOG).read_bytes() == content


def test_the_python_api_uses_what_may_come_with_a_folder(styled):
    before = texts(styled)

    report = api_tag(styled, workers=0, threshold=STRICT)

    assert report.written == len(before)
    assert all(tags_of(styled / name)[0] == "mychar" for name in before)


def test_what_may_not_come_with_a_folder_is_named_with_what_helps(album):
    sdprep_tag(album, "--exclude", "/simple.*/")
    as_of_0_1(album)

    error = CliRunner().invoke(cli, ["tag", str(album), "--workers", "0"]).exception

    assert isinstance(error, UsageError)
    assert "--exclude '/simple.*/', which has a regular expression" in str(error)
    assert "State --exclude yourself, or drop it with: sdprep settings" in str(error)


def test_the_settings_of_merges_of_0_1_stay(styled):
    sdprep("merge", styled, "--keys", "relative", "--fields", "tags")
    as_of_0_1(styled)

    result = sdprep("merge", styled)

    assert "using settings of earlier runs: --fields tags --keys relative" in result.stderr


def test_every_option_of_0_1_is_one_that_is_remembered_today():
    for command, defaults in DEFAULTS.items():
        assert defaults.keys() <= remembered_options(SETTINGS[command])
