"""What sdprep remembers of a dataset."""

import os
import sqlite3
import sys
from pathlib import Path

import pytest

from sdprep.catalog.catalog import Catalog, RunInfo
from sdprep.catalog.schema import AT_ONCE, FILE, STEPS, as_key, row_checksum
from sdprep.errors import CatalogError, DamagedCatalog, NewerCatalog
from sdprep.rules.mixed_text import USER, MixedText, Part
from sdprep.rules.policy import SidecarState

RUN = RunInfo("run-1", "tag", {"threshold": 0.35}, {"sdprep": "0"}, "demo-tag", 1.0)
PARTS = (
    Part("tag", ("日本", "1girl"), " | ", {"model": "a", "threshold": 0.35}, b"d" * 32),
    Part(USER, ("mine",)),
    Part("caption", ("a girl",), " | ", {"model": "b"}, b"e" * 32),
)
STATE = SidecarState("tag", "日本 | 1girl | mine | a girl", b"d" * 32, MixedText(PARTS, ("solo",), (" / ",)))


@pytest.fixture
def catalog(tmp_path: Path):
    opened = Catalog(tmp_path / FILE, tmp_path)
    yield opened
    opened.close()


def reopened(catalog: Catalog, **options: bool) -> Catalog:
    return Catalog(catalog.file, catalog.root, **options)


# Keys


def test_a_key_is_relative_to_the_root_with_forward_slashes(catalog: Catalog) -> None:
    assert catalog.key(catalog.root / "sub" / "a.txt") == "sub/a.txt"


def test_a_key_outside_the_root_is_absolute(catalog: Catalog) -> None:
    outside = catalog.root.parent / "elsewhere" / "a.txt"
    assert catalog.key(outside) == outside.as_posix()


def test_a_folder_whose_name_only_begins_like_the_root_is_outside(catalog: Catalog) -> None:
    outside = catalog.root.with_name(catalog.root.name + "2") / "a.txt"
    assert catalog.key(outside) == outside.as_posix()


@pytest.mark.skipif(sys.platform == "win32", reason="names are Unicode there")
def test_the_key_of_a_name_that_is_not_unicode_is_its_bytes(catalog: Catalog) -> None:
    assert catalog.key(catalog.root / os.fsdecode(b"caf\xe9.txt")) == b"caf\xe9.txt"


@pytest.mark.parametrize("name", ["a.txt", "sub/日本 🎨.txt", "a\nb.txt", "caf\udce9.txt", "../elsewhere/a.txt"])
@pytest.mark.skipif(sys.platform == "win32", reason="some of these names do not exist there")
def test_a_key_leads_back_to_its_path(catalog: Catalog, name: str) -> None:
    path = Path(os.path.normpath(catalog.root / name))
    assert catalog.path(catalog.key(path)) == path


def test_a_dataset_can_move_with_its_catalog(catalog: Catalog, tmp_path: Path) -> None:
    with catalog.transaction():
        catalog.set_state(catalog.key(tmp_path / "sub" / "a.txt"), catalog.store_state(STATE))
    moved = Catalog(catalog.file, Path("/moved"))
    assert moved.state_of(moved.key(Path("/moved/sub/a.txt"))) == STATE
    moved.close()


# What is remembered


@pytest.mark.parametrize("key", ["a.txt", "日本\n.txt", b"caf\xe9.txt"])
def test_a_state_comes_back_as_it_was(catalog: Catalog, key: str | bytes) -> None:
    catalog.set_state(key, catalog.store_state(STATE))
    assert catalog.state_of(key) == STATE


@pytest.mark.parametrize(
    ("row", "parts", "text"),
    [
        (("tag", "machine", "append", "", '["1girl", "solo"]'), ["tag"], "1girl | solo"),
        (("tag", "mixed", "append", "mine", '["solo"]'), [USER, "tag"], "mine | solo"),
        (("tag", "mixed", "prepend", "mine", '["solo"]'), ["tag", USER], "solo | mine"),
        (("caption", "mixed", "append", "mine", '["a girl"]'), [USER, "caption"], "mine\na girl"),
        (("tag", "user", "append", "mine", "[]"), [USER], "mine"),
    ],
)
def test_a_row_without_parts_is_read_as_earlier_versions_wrote_it(
    catalog: Catalog, row: tuple[str, ...], parts: list[str], text: str
) -> None:
    task, origin, side, person, machine = row
    settings = catalog.db.execute(
        "INSERT INTO settings (json) VALUES (?)", ('{"caption_separator": " | ", "separators": [" / "]}',)
    ).lastrowid
    hashed = catalog.store_text(f"{text}\n".encode())
    columns = (task, origin, hashed, b"d" * 32, settings, side, person, machine, '["gone"]')
    number = catalog.db.execute(
        "INSERT INTO states (task, origin, text, digest, settings, side, person, machine, removed, checksum)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*columns, row_checksum(columns)),
    ).lastrowid
    catalog.set_state("a.txt", number)

    state = catalog.state_of("a.txt")
    assert state is not None
    assert [part.author for part in state.content.parts] == parts
    assert state.text == state.content.text == text
    assert state.content.removed == ("gone",)


def test_a_row_whose_parts_do_not_give_its_origin_is_damaged(catalog: Catalog) -> None:
    catalog.set_state("a.txt", catalog.store_state(STATE))
    catalog.db.execute("UPDATE states SET checksum = NULL, origin = 'machine'")
    with pytest.raises(DamagedCatalog):
        catalog.state_of("a.txt")


def test_a_state_that_is_taken_away_is_unknown(catalog: Catalog) -> None:
    catalog.set_state("a.txt", catalog.store_state(STATE))
    catalog.set_state("a.txt", None)
    assert (catalog.state_of("a.txt"), catalog.state_id_of("a.txt")) == (None, None)


@pytest.mark.parametrize("text", [b"", b"short\n", b"\xff\xfe not utf-8", b"long " * 1000], ids=len)
def test_the_bytes_of_a_text_come_back(catalog: Catalog, text: bytes) -> None:
    assert catalog.text(catalog.store_text(text)) == text


def test_a_text_is_kept_once(catalog: Catalog) -> None:
    assert catalog.store_text(b"same") == catalog.store_text(b"same")
    assert catalog.db.execute("SELECT count(*) FROM texts").fetchone() == (1,)


def test_a_result_is_found_under_its_image_and_recipe(catalog: Catalog) -> None:
    recipe = catalog.recipe_id({"weights": "x"})
    catalog.store_result(b"image", recipe, b"result")
    assert catalog.results([b"image", b"another"], recipe) == {b"image": b"result"}


def test_a_result_of_another_recipe_is_another_result(catalog: Catalog) -> None:
    catalog.store_result(b"image", catalog.recipe_id({"weights": "x"}), b"result")
    assert catalog.results([b"image"], catalog.recipe_id({"weights": "y"})) == {}


def test_a_recipe_has_one_number_in_any_order_of_its_entries(catalog: Catalog) -> None:
    assert catalog.recipe_id({"a": 1, "b": 2}) == catalog.recipe_id({"b": 2, "a": 1})


def test_a_recipe_is_unknown_until_a_result_is_to_be_stored(catalog: Catalog) -> None:
    before = catalog.known_recipe({"weights": "x"})
    number = catalog.recipe_id({"weights": "x"})
    assert (before, catalog.known_recipe({"weights": "x"})) == (None, number)


def test_an_image_is_known_with_its_size_and_time(catalog: Catalog) -> None:
    catalog.remember_image("a.png", (5, 10**18), b"digest")
    catalog.flush()
    assert catalog.images(["a.png", "b.png"]) == {"a.png": ((5, 10**18), b"digest")}


def test_many_things_can_be_asked_for_at_once(catalog: Catalog) -> None:
    keys = [f"{number}.png" for number in range(2 * AT_ONCE + 1)]
    for key in keys:
        catalog.remember_image(key, (0, 0), key.encode())
    catalog.flush()
    assert catalog.images(keys) == {key: ((0, 0), key.encode()) for key in keys}


def test_images_that_were_noted_last_are_kept_when_the_catalog_closes(catalog: Catalog) -> None:
    catalog.remember_image("a.png", (0, 0), b"digest")
    catalog.close()
    again = reopened(catalog)
    assert again.images(["a.png"]) == {"a.png": ((0, 0), b"digest")}
    again.close()
    catalog.db = sqlite3.connect(":memory:")


@pytest.mark.parametrize("place", [".", "sub/deep", "../elsewhere"])
def test_the_key_of_a_file_begins_as_its_folder_says(catalog: Catalog, place: str) -> None:
    folder = Path(os.path.normpath(catalog.root / place))
    assert as_key(catalog.prefix(folder) + "a.txt") == catalog.key(folder / "a.txt")


@pytest.mark.skipif(sys.platform == "win32", reason="names are Unicode there")
def test_the_key_of_a_file_in_a_folder_that_is_not_unicode_is_bytes(catalog: Catalog) -> None:
    folder = catalog.root / os.fsdecode(b"caf\xe9")
    assert as_key(catalog.prefix(folder) + "a.txt") == catalog.key(folder / "a.txt") == b"caf\xe9/a.txt"


def test_a_decode_failure_is_remembered_for_this_decoder_alone(catalog: Catalog) -> None:
    catalog.remember_failure(b"image", "decoder-1", "truncated", "why")
    found = [catalog.failure(b"image", decoder) for decoder in ("decoder-1", "decoder-2")]
    assert found == [("truncated", "why"), None]


def test_a_run_is_begun_once(catalog: Catalog) -> None:
    assert catalog.begin_run(RUN) == catalog.begin_run(RUN)


def test_a_run_that_changed_nothing_stays_unknown(catalog: Catalog) -> None:
    catalog.end_run("never begun", {})
    assert catalog.db.execute("SELECT count(*) FROM runs").fetchone() == (0,)


# Transactions and dry runs


def fail_halfway(catalog: Catalog) -> None:
    with catalog.transaction():
        with catalog.transaction():
            catalog.store_text(b"inner")
        catalog.store_text(b"outer")
        raise KeyError


def test_what_fails_halfway_leaves_nothing_of_itself_or_of_its_inner_transactions(catalog: Catalog) -> None:
    with pytest.raises(KeyError):
        fail_halfway(catalog)
    assert catalog.db.execute("SELECT count(*) FROM texts").fetchone() == (0,)


def test_a_dry_run_cannot_write(catalog: Catalog) -> None:
    other = reopened(catalog, dry_run=True)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        other.store_state(STATE)
    other.close()


def test_a_dry_run_does_not_hold_up_a_run_that_writes(catalog: Catalog) -> None:
    other = reopened(catalog, dry_run=True)
    other.known_recipe({"weights": "new"})
    catalog.db.execute("PRAGMA busy_timeout = 0")
    try:
        with catalog.transaction():
            catalog.store_text(b"written meanwhile")
    finally:
        other.close()


def test_a_dry_run_without_a_catalog_makes_no_file(tmp_path: Path) -> None:
    Catalog(None, tmp_path, dry_run=True).close()
    assert list(tmp_path.iterdir()) == []


# Files that cannot be used


def test_a_catalog_of_a_newer_sdprep_is_refused(catalog: Catalog) -> None:
    catalog.db.execute("CREATE TABLE newer (a)")
    catalog.db.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    with pytest.raises(NewerCatalog, match="written by a newer sdprep"):
        reopened(catalog)


def test_a_catalog_of_a_newer_sdprep_is_left_as_it_is(catalog: Catalog) -> None:
    catalog.db.execute("CREATE TABLE newer (a)")
    catalog.db.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    with pytest.raises(CatalogError):
        reopened(catalog)
    assert catalog.db.execute("PRAGMA user_version").fetchone() == (len(STEPS) + 1,)


def test_a_corrupt_catalog_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"this is no database, whatever its name says" * 100)
    with pytest.raises(DamagedCatalog, match=r"catalog\.sqlite is not a catalog"):
        Catalog(tmp_path / FILE, tmp_path)


def test_a_corrupt_catalog_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"this is no database" * 100)
    with pytest.raises(CatalogError):
        Catalog(tmp_path / FILE, tmp_path)
    assert (tmp_path / FILE).read_bytes() == b"this is no database" * 100


def test_a_catalog_in_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"gone.*catalog\.sqlite"):
        Catalog(tmp_path / "gone" / FILE, tmp_path)
