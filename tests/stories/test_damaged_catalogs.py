"""Damage anywhere in a catalog, and errors of its disk, which are not damage.

`pytest tests/stories/test_damaged_catalogs.py --damages 5000` tries more places.
"""

import csv
import hashlib
import json
import random
import shutil
import sqlite3
import tracemalloc
import zlib
from contextlib import closing
from pathlib import Path

import pytest

import sdprep.cli.main
import sdprep.demo
from sdprep.catalog import database
from sdprep.catalog import schema as content
from sdprep.catalog.catalog import Catalog
from sdprep.errors import CatalogError, CatalogFailed, DamagedCatalog
from sdprep.tasks.history.restore import file_versions, restore
from sdprep.tasks.history.runs import log
from sdprep.tasks.history.undo import undo
from tests.stories.telling import CATALOG, STRICT, USUAL, counts, everything, run_cli, tag, texts, write


def pytest_generate_tests(metafunc):
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(metafunc.config.getoption("--damages")))


@pytest.fixture
def past(tagged):
    """The album with a text by hand that was overwritten, an edit, and three runs."""
    write(tagged / "a.txt", "mine, by hand")
    tag(tagged, existing="overwrite", threshold=STRICT)
    write(tagged / "b.txt", "mine, " + (tagged / "b.txt").read_text(encoding="utf-8"))
    # Stated, since the threshold of the run before stays in use; the other texts stay as that run wrote them.
    tag(tagged / "b.png", existing="append", threshold=USUAL)
    return tagged


# Any damage


def flip_a_bit(data, rng):
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def flip_a_bit_of_the_definitions(data, rng):
    """The first page has the header and the list of tables, or leads to it."""
    data[rng.randrange(min(len(data), 8192))] ^= 1 << rng.randrange(8)


def flip_a_bit_of_what_is_kept(data, rng):
    used = [place for place in rng.sample(range(len(data)), min(len(data), 4000)) if data[place]]
    data[rng.choice(used)] ^= 1 << rng.randrange(8)


def overwrite_some_bytes(data, rng):
    start = rng.randrange(len(data))
    some = rng.randbytes(rng.randrange(1, 40))
    data[start : start + len(some)] = some


def empty_a_sector(data, rng):
    start = rng.randrange(len(data)) // 512 * 512
    data[start : start + 512] = bytes(512)


def swap_two_pages(data, rng):
    one, two = (rng.randrange(len(data) // 4096) * 4096 for _ in range(2))
    data[one : one + 4096], data[two : two + 4096] = data[two : two + 4096], data[one : one + 4096]


def cut_the_end(data, rng):
    del data[rng.randrange(len(data)) :]


DAMAGES = [
    flip_a_bit,
    flip_a_bit_of_the_definitions,
    flip_a_bit_of_what_is_kept,
    flip_a_bit_of_what_is_kept,
    overwrite_some_bytes,
    empty_a_sector,
    swap_two_pages,
    cut_the_end,
]
COMMANDS = (
    ["log"],
    ["log", "a.txt"],
    ["tag", "--model", "demo-tag", "--workers", "0", "--dry-run"],
    ["undo"],
    ["restore", "a.txt"],
    ["retry"],
    ["merge"],
    ["tag", "--model", "demo-tag", "--workers", "0", "--threshold", "0.5"],
    ["tag", "--model", "demo-tag", "--workers", "0", "--existing", "append"],
    ["undo", "--force"],
    ["log"],
)


def command_line(folder, words):
    """The words of a command as a user of this folder gives them."""
    name, *rest = words
    if name == "undo":
        return [name, "--dir", str(folder), *rest]
    if rest[:1] == ["a.txt"]:
        return [name, str(folder / "a.txt")]
    return [name, str(folder), *rest]


def run(words, monkeypatch):
    """The exit code of a command; an error that is none of sdprep's raises."""
    monkeypatch.setattr("sys.argv", ["sdprep", *words])
    try:
        sdprep.cli.main.main()
    except SystemExit as left:
        return left.code or 0
    return 0


def known_texts(folder):
    """Every text that the catalog of a folder keeps."""
    with closing(sqlite3.connect(folder / CATALOG)) as db:
        return {content.unpacked(packed, data, key) for key, packed, data in db.execute("SELECT * FROM texts")}


@pytest.fixture(scope="session")
def words_of_the_model():
    table = Path(sdprep.demo.__file__).parent / "models" / "demo-tag" / "selected_tags.csv"
    with table.open(encoding="utf-8", newline="") as stream:
        return {row["name"] for row in csv.DictReader(stream)}


def is_sound(after, before, known, words):
    """Whether a text is one that was there or was kept, or the model's tags with what stood there by hand."""
    if after == before or after in known:
        return True
    pieces = [piece.strip() for piece in (after or b"").decode("utf-8").strip().split(",")]
    by_hand = [piece for piece in ("mine", "by hand") if before is not None and piece.encode() in before]
    return after is not None and set(pieces) - words == set(by_hand)


def test_any_damage_is_met_with_a_clear_message_and_no_text_is_touched(
    past, words_of_the_model, seed, monkeypatch, capfd
):
    rng = random.Random(seed)
    before, known = texts(past), known_texts(past) | {None}
    damaged = bytearray((past / CATALOG).read_bytes())
    DAMAGES[seed % len(DAMAGES)](damaged, rng)
    pristine = everything(past)
    for words in rng.sample(COMMANDS, 4):
        shutil.rmtree(past)
        for name, data in pristine.items():
            (past / name).parent.mkdir(parents=True, exist_ok=True)
            (past / name).write_bytes(damaged if name == CATALOG.as_posix() else data)

        code = run(command_line(past, words), monkeypatch)

        said, after = capfd.readouterr(), texts(past)
        assert code in (0, 1, 3), (words, said)
        assert "Traceback" not in said.err, said.err
        if code == 1:
            # The catalog is put aside in words, or stays.
            aside = list((past / ".sdprep").glob("*.broken-1"))
            assert (past / CATALOG).exists() or aside, (words, said)
        for name in before.keys() | after.keys():
            assert is_sound(after.get(name), before.get(name), known, words_of_the_model), (words, name, after[name])


# One flipped bit in a row, of which SQLite knows nothing

# Only rows of earlier schemas have a text in the column `person`.
ROWS = {
    "states": [column for column in content.STATE.split(", ") if column != "person"],
    "journal": [*content.CHANGE.split(", "), "status"],
}


def flip_a_bit_of_a_row(folder, rng):
    """Flip a bit of one value of states or journal; what was changed."""
    table = rng.choice(list(ROWS))
    column = rng.choice(ROWS[table])
    with closing(sqlite3.connect(folder / CATALOG)) as db, db:
        rows = db.execute(f"SELECT id, {column} FROM {table} WHERE length({column}) > 0").fetchall()
        number, value = rng.choice(rows)
        if isinstance(value, int):
            flipped = value ^ 1 << rng.randrange(4)
        else:
            data = bytearray(value.encode() if isinstance(value, str) else value)
            # The highest bit of a letter makes a text that is no Unicode, which Python refuses by itself.
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(7 if isinstance(value, str) else 8)
            flipped = data.decode() if isinstance(value, str) else bytes(data)
        db.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", (flipped, number))
    return table, column, number, value, flipped


def texts_of_each_file(folder):
    """The texts that each file has held, as the journal knows them."""
    with closing(sqlite3.connect(folder / CATALOG)) as db:
        kept = {key: content.unpacked(packed, data, key) for key, packed, data in db.execute("SELECT * FROM texts")}
        known = {}
        for key, *hashes in db.execute("SELECT key, before, after FROM journal"):
            known.setdefault(key, set()).update(kept.get(each) for each in hashes)
    return known


AFTER_A_FLIP = (
    ["tag", "--model", "demo-tag", "--workers", "0", "--existing", "append"],
    ["tag", "--model", "demo-tag", "--workers", "0", "--threshold", "0.5"],
    ["undo"],
    ["undo", "--force"],
)


def test_a_flipped_bit_in_a_row_changes_no_word_of_the_user(past, words_of_the_model, seed, monkeypatch, capfd):
    rng, words, before = random.Random(seed), AFTER_A_FLIP[seed % len(AFTER_A_FLIP)], texts(past)
    known, pristine, catalog = texts_of_each_file(past), everything(past), (past / CATALOG).read_bytes()
    undo(past)
    undone = texts(past)
    for name in before:
        (past / name).write_bytes(pristine[name])
    (past / CATALOG).write_bytes(catalog)
    flip = flip_a_bit_of_a_row(past, rng)

    code = run(command_line(past, words), monkeypatch)

    after, said = texts(past), capfd.readouterr()
    assert code in (0, 1, 3), (flip, words, said)
    assert "Traceback" not in said.err, (flip, words, said)
    for name in before:
        if words[0] == "undo":
            assert after.get(name) in known[name] | {before[name]}, (flip, words, name)
        else:
            assert is_sound(after[name], before[name], set(), words_of_the_model), (flip, words, name)
    assert words[0] != "undo" or code != 0 or after == undone, (flip, words)


FLIPS = {
    "the name of a file": "UPDATE journal SET key = 'c.txt' WHERE key = 'b.txt'",
    "what became of a change": "UPDATE journal SET status = 'dond' WHERE id = (SELECT max(id) FROM journal)",
    "the run of a change": "UPDATE journal SET run = run - 1 WHERE id = (SELECT max(id) FROM journal)",
}


@pytest.mark.parametrize("summed", [True, False], ids=["of now", "of schema 1"])
@pytest.mark.parametrize("flip", FLIPS)
def test_undo_refuses_a_flipped_bit_in_the_journal(past, flip, summed):
    if not summed:
        alter(past, "UPDATE journal SET checksum = NULL")
        if flip == "the run of a change":
            pytest.skip("rows of schema 1 do not tell")
    before, first_run = texts(past), log(past)[0].uid
    alter(past, FLIPS[flip])

    for force in (False, True):
        with pytest.raises(CatalogError, match="its journal is not as sdprep wrote it"):
            undo(past, first_run, force=force)
    assert texts(past) == before


@pytest.mark.parametrize("of_schema_1", [False, True], ids=["of now", "of schema 1"])
@pytest.mark.parametrize(("origin", "flipped"), [("mixed", "lixed"), ("user", "uses"), ("mixed", "machine")])
def test_a_flipped_bit_in_the_origin_of_a_text_takes_nothing_out_of_it(past, origin, flipped, of_schema_1):
    if origin == "user":
        # Every tag is there already, so that nothing of the text is sdprep's.
        write(past / "c.txt", "mine, " + (past / "c.txt").read_text(encoding="utf-8"))
        tag(past, existing="append")
    if of_schema_1:
        turn_states_into_schema_1(past)
    before = texts(past)
    alter(past, "UPDATE states SET origin = ? WHERE origin = ?", flipped, origin)

    with pytest.raises(CatalogFailed, match="run the command again to continue"):
        tag(past, threshold=STRICT)
    tag(past, threshold=STRICT)

    assert texts(past) == before


def turn_states_into_schema_1(folder):
    """Keep the states of a catalog as its first schema did: without checksums, and in other columns than `parts`."""
    with closing(sqlite3.connect(folder / CATALOG)) as db, db:
        for number, parts in db.execute("SELECT id, parts FROM states").fetchall():
            pieces = {part["author"]: part["pieces"] for part in json.loads(parts)["parts"]}
            [theirs], generated = pieces.get("user", [""]), pieces.get("tag", [])
            db.execute(
                "UPDATE states SET checksum = NULL, parts = NULL, person = ?, machine = ? WHERE id = ?",
                (theirs, json.dumps(generated), number),
            )


# Content that is not what was kept


def alter(folder, statement, *values):
    with closing(sqlite3.connect(folder / CATALOG)) as db, db:
        assert db.execute(statement, values).rowcount > 0


LOOK_BACK = {
    "undo": lambda folder: undo(folder, log(folder)[1].uid),
    "restore": lambda folder: restore(folder / "a.txt", 2),
    "file_versions": lambda folder: file_versions(folder / "a.txt"),
}


@pytest.mark.parametrize("command", LOOK_BACK)
def test_a_kept_text_with_a_flipped_bit_is_not_given_back(past, command):
    before = texts(past)
    alter(past, "UPDATE texts SET data = ? WHERE data = ?", b"mine, by hanf", b"mine, by hand")

    with pytest.raises(DamagedCatalog, match="a kept text is not as sdprep wrote it"):
        LOOK_BACK[command](past)
    assert texts(past) == before


def test_a_kept_text_that_unpacks_without_end_is_refused(past, monkeypatch):
    monkeypatch.setattr(content, "FILE_LIMIT", 1_000_000)
    bomb = zlib.compress(bytes(50_000_000))
    alter(past, "UPDATE texts SET packed = 1, data = ? WHERE data = ?", bomb, b"mine, by hand")

    with pytest.raises(DamagedCatalog, match="a kept text"):
        undo(past, log(past)[1].uid)


@pytest.mark.parametrize("command", ["tag", "log"])
def test_a_small_catalog_whose_texts_unpack_to_much_takes_little_memory(past, command):
    big = bytes(200_000_000)
    alter(past, "INSERT INTO texts VALUES (?, 1, ?)", sha(big), zlib.compress(big))
    alter(past, "UPDATE states SET checksum = NULL, text = ?", sha(big))
    alter(past, "UPDATE journal SET checksum = NULL, before = ? WHERE before NOT NULL", sha(big))
    del big
    before = texts(past)

    tracemalloc.start()
    counts(tag(past, threshold=STRICT)) if command == "tag" else file_versions(past / "a.txt")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 100_000_000
    assert texts(past) == before


def test_a_stored_result_with_a_flipped_bit_is_made_again(tagged):
    expected = texts(tagged)
    for name in expected:
        (tagged / name).unlink()
    with closing(sqlite3.connect(tagged / CATALOG)) as db, db:
        [(digest, data)] = db.execute("SELECT digest, data FROM results LIMIT 1").fetchall()
        # The lowest bit of the last score: another number, and still one.
        db.execute(
            "UPDATE results SET data = ? WHERE digest = ?", (data[:-2] + bytes([data[-2] ^ 1, data[-1]]), digest)
        )

    report = tag(tagged)

    assert (report.predicted, counts(report)) == (1, {"written": 3})
    assert texts(tagged) == expected


def test_what_a_catalog_says_moves_no_cursor(past):
    hostile = b"\x1b]0;x\x07"
    alter(past, "UPDATE runs SET command = ?, model = ?", "tag\x1b[2J\n", "a\x9b\u202eb")
    alter(past, "UPDATE texts SET hash = ?, data = ? WHERE data = ?", sha(hostile), hostile, b"mine, by hand")
    alter(past, "UPDATE journal SET checksum = NULL, before = ? WHERE before = ?", sha(hostile), sha(b"mine, by hand"))

    for words in (["log", past], ["log", past / "a.txt"]):
        done = run_cli(*words)
        assert done.returncode == 0, done.stderr
        assert done.stdout.replace("\n", "").isprintable(), done.stdout


def sha(data):
    return hashlib.sha256(data).digest()


# Errors that are not damage


@pytest.fixture
def failing_looks(monkeypatch):
    """Makes the next looks through a catalog find a page that could not be read."""
    real, pending = database.damage_in, []

    def damage_in(*args):
        return pending.pop() if pending else real(*args)

    monkeypatch.setattr(database, "damage_in", damage_in)
    return pending


def test_a_look_that_goes_wrong_once_moves_nothing_aside(tagged, failing_looks):
    failing_looks.append("Tree 3 page 5: btreeInitPage() returns error code 11")

    assert counts(tag(tagged)) == {"current": 3}
    assert list((tagged / ".sdprep").glob("*.broken-*")) == []


class Db:
    """A connection whose look through the file reports one finding."""

    def __init__(self, finding):
        self.finding = finding

    def execute(self, _):
        return self

    def fetchone(self):
        return [f"*** in database main ***\n{self.finding}"]


@pytest.mark.parametrize(
    "finding",
    [
        "Tree 3 page 5: unable to get the page. error code=10",
        "Tree 3 page 5: unable to get the page. error code=266",
        "Tree 3 page 5 cell 0: failed to get page 9",
    ],
)
def test_a_page_that_could_not_be_read_is_not_damage(finding):
    with pytest.raises(CatalogFailed, match=r"a\.sqlite cannot be read"):
        database.damage_in(Db(finding), Path("a.sqlite"), "quick_check")


ERRORS = {
    "SQLITE_IOERR_READ": (sqlite3.OperationalError, "disk I/O error", 266),
    "SQLITE_FULL": (sqlite3.OperationalError, "database or disk is full", 13),
    "SQLITE_BUSY": (sqlite3.OperationalError, "database is locked", 5),
    "SQLITE_CANTOPEN": (sqlite3.OperationalError, "unable to open database file", 14),
    "SQLITE_READONLY": (sqlite3.OperationalError, "attempt to write a readonly database", 8),
}


def error_of(name, *, coded):
    kind, message, code = ERRORS[name]
    error = kind(message)
    if coded:
        error.sqlite_errorcode, error.sqlite_errorname = code, name
    return error


@pytest.mark.parametrize("coded", [True, False], ids=["with its code", "as Python 3.10 has it"])
@pytest.mark.parametrize("name", ERRORS)
def test_an_error_of_the_disk_is_not_damage_and_moves_nothing(tagged, monkeypatch, name, coded):
    held = (tagged / CATALOG).read_bytes()

    def fail(*_):
        raise error_of(name, coded=coded)

    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "results", fail)
        with pytest.raises(CatalogFailed, match=ERRORS[name][1]):
            tag(tagged, threshold=STRICT)
    assert (tagged / CATALOG).read_bytes() == held
    assert counts(tag(tagged, threshold=STRICT)) == {"written": 3}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_of_the_disk_at_opening_moves_nothing(tagged, monkeypatch, name):
    def fail(*_):
        raise error_of(name, coded=True)

    with monkeypatch.context() as patch:
        patch.setattr(database, "_schema_of", fail)
        with pytest.raises(CatalogFailed, match=ERRORS[name][1]):
            tag(tagged)
    assert counts(tag(tagged)) == {"current": 3}


@pytest.mark.parametrize("kind", [sqlite3.IntegrityError, sqlite3.OperationalError, sqlite3.InterfaceError])
def test_an_odd_error_over_a_sound_catalog_moves_nothing(tagged, monkeypatch, kind):
    def fail(*_):
        raise kind("odd")

    with monkeypatch.context() as patch:
        patch.setattr(Catalog, "results", fail)
        with pytest.raises(CatalogFailed, match="odd"):
            tag(tagged, threshold=STRICT)
    assert counts(tag(tagged, threshold=STRICT)) == {"written": 3}
