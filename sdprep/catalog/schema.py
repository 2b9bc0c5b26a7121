"""The tables of a catalog, its keys for files, and the encoding of its rows.

The readers accept any value that a damaged or foreign catalog may contain, and raise one of NO_SENSE for what sdprep
never wrote.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from sdprep.files import FILE_LIMIT
from sdprep.types import FailureCode

# Where a dataset folder has its catalog.
FOLDER = ".sdprep"
FILE = "catalog.sqlite"
AT_ONCE = 256
# Step 1 creates the tables in an empty file, step 2 turns schema 1 into schema 2, and so on. A released step is never
# changed, since a catalog's definitions are compared with those of the steps.
STEPS = [
    """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, uid TEXT UNIQUE NOT NULL, command TEXT NOT NULL, settings TEXT NOT NULL,
    versions TEXT NOT NULL, model TEXT, started REAL NOT NULL, ended REAL, report TEXT);
CREATE TABLE images (key PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, digest BLOB NOT NULL)
    WITHOUT ROWID;
CREATE TABLE recipes (id INTEGER PRIMARY KEY, json TEXT UNIQUE NOT NULL);
CREATE TABLE results (digest BLOB NOT NULL, recipe INTEGER NOT NULL REFERENCES recipes, data BLOB NOT NULL,
    PRIMARY KEY (digest, recipe)) WITHOUT ROWID;
CREATE TABLE failures (digest BLOB NOT NULL, decoder TEXT NOT NULL, code TEXT NOT NULL, message TEXT NOT NULL,
    PRIMARY KEY (digest, decoder)) WITHOUT ROWID;
CREATE TABLE texts (hash BLOB PRIMARY KEY, packed INTEGER NOT NULL, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE settings (id INTEGER PRIMARY KEY, json TEXT UNIQUE NOT NULL);
CREATE TABLE states (
    id INTEGER PRIMARY KEY, task TEXT NOT NULL, origin TEXT NOT NULL, text BLOB NOT NULL REFERENCES texts,
    digest BLOB NOT NULL, settings INTEGER NOT NULL REFERENCES settings, side TEXT NOT NULL,
    person TEXT NOT NULL, machine TEXT NOT NULL, removed TEXT NOT NULL);
CREATE TABLE sidecars (key PRIMARY KEY, state INTEGER NOT NULL REFERENCES states) WITHOUT ROWID;
CREATE TABLE journal (
    id INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES runs, key NOT NULL,
    before BLOB REFERENCES texts, after BLOB REFERENCES texts,
    state_before INTEGER REFERENCES states, state_after INTEGER REFERENCES states, status TEXT NOT NULL);
CREATE INDEX journal_by_key ON journal (key, id);
CREATE INDEX journal_by_run ON journal (run, id);
CREATE INDEX journal_open ON journal (status) WHERE status = 'intent';
""",
    # Checksums detect damaged rows; rows of schema 1 have none, and count if their content has the right types.
    """
ALTER TABLE results ADD COLUMN checksum INTEGER;
ALTER TABLE states ADD COLUMN checksum INTEGER;
ALTER TABLE journal ADD COLUMN checksum INTEGER;
""",
    # The options that were stated for a folder or an image, the parts of a sidecar that several models wrote, and
    # indexes that find a sidecar by its text and an image by its content, wherever they were moved. A row of `moves`
    # says that a sidecar of the former key was found at another; `last` is the newest row of the journal then, and
    # `gone` whether it is no longer at the former key.
    """
CREATE TABLE stated (
    place NOT NULL, task TEXT NOT NULL, option TEXT NOT NULL, value TEXT NOT NULL, origin TEXT NOT NULL,
    run TEXT NOT NULL, signature BLOB, since TEXT, PRIMARY KEY (place, task, option)) WITHOUT ROWID;
CREATE TABLE stated_before (
    until TEXT NOT NULL, place NOT NULL, task TEXT NOT NULL, option TEXT NOT NULL, value TEXT NOT NULL,
    origin TEXT NOT NULL, run TEXT NOT NULL, signature BLOB, PRIMARY KEY (until, place, task, option)) WITHOUT ROWID;
ALTER TABLE states ADD COLUMN parts TEXT;
CREATE INDEX images_by_digest ON images (digest);
CREATE TABLE moves (
    id INTEGER PRIMARY KEY, key NOT NULL, former NOT NULL, last INTEGER NOT NULL, gone INTEGER NOT NULL);
CREATE INDEX moves_by_key ON moves (key);
CREATE INDEX moves_by_former ON moves (former);
""",
    # What the user has marked on an image, wherever it goes.
    """
CREATE TABLE marks (digest BLOB PRIMARY KEY, stars INTEGER NOT NULL) WITHOUT ROWID;
""",
]


def select_many(db: sqlite3.Connection, query: str, keys: Sequence[str | bytes], *first: int) -> Iterator[Any]:
    """The rows for many keys, in any order; the placeholders of the keys come after those of `first`."""
    query = query.format(",".join("?" * AT_ONCE))
    for start in range(0, len(keys), AT_ONCE):
        some = keys[start : start + AT_ONCE]
        # NULL equals nothing, and SQLite compiles a query of the same text only once.
        # Fetched at once: an unfinished cursor would be closed after its connection.
        yield from db.execute(query, (*first, *some, *[None] * (AT_ONCE - len(some)))).fetchall()


Key = str | bytes
# Size in bytes and time of change in nanoseconds of a file.
FileStat = tuple[int, int]


def as_key(text: str) -> Key:
    """The key of a path with forward slashes: itself, or its bytes if it is not Unicode."""
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return os.fsencode(text)
    return text


def file_stat(found: os.stat_result) -> FileStat:
    """Return size and time of a file. Times after the year 2262 are wrapped to fit SQLite's integers."""
    return found.st_size, (found.st_mtime_ns + (1 << 63)) % (1 << 64) - (1 << 63)


# The exceptions that decoding raises for content that sdprep never wrote.
NO_SENSE = (ValueError, TypeError, KeyError, RecursionError, OverflowError, zlib.error)
CODES = frozenset(code.value for code in FailureCode)
# The columns of states and changes that never change, in the order of their checksum. States of schemas before 3 have
# no `parts`, and their checksum is without it: `side`, `person` and `machine` say who wrote what.
STATE = "task, origin, text, digest, settings, side, person, machine, removed, parts"
CHANGE = "run, key, before, after, state_before, state_after"
STATUSES = ("intent", "done", "void", "unclear")
# Characters; more than the settings of a run or the tags of an image take as JSON.
JSON_LIMIT = 10_000_000
# Bytes; more than the scores of 100,000 tags take. Larger results are not read.
RESULT_LIMIT = 1_000_000


def unpacked(packed: Any, data: Any, digest: bytes, limit: int | None = None) -> bytes:
    """Return the bytes of a stored text, which must have this SHA-256; a text beyond `limit` is cut after it.

    Raises one of NO_SENSE, also for more than FILE_LIMIT bytes without a limit.
    """
    text = as_bytes(data)
    if packed:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(text, FILE_LIMIT if limit is None else limit + 1)
    if limit is not None and len(text) > limit:
        return text[: limit + 1]
    if packed and not unpacker.eof:
        raise ValueError("a compressed text is incomplete, or larger than any that sdprep stores")
    if hashlib.sha256(text).digest() != digest:
        raise ValueError("a text does not match its hash")
    return text


def checksum(digest: bytes, data: bytes) -> int:
    """Return the checksum of the stored result of an image."""
    return zlib.crc32(data, zlib.crc32(digest))


def row_checksum(row: Sequence[Any]) -> int:
    """Return the checksum of the columns of a row that never change."""
    return zlib.crc32(repr(tuple(row)).encode("utf-8", "surrogatepass"))


def check_change(row: Sequence[Any], known: Any, status: Any) -> None:
    """Check the CHANGE columns and the status of a row of `journal`. Raises ValueError if sdprep never wrote them."""
    check_sum(row, known)
    one_of(status, STATUSES)


def check_sum(row: Sequence[Any], known: Any) -> None:
    """Check columns that never change against their checksum, None in a row of schema 1. Raises ValueError."""
    if known is not None and known != row_checksum(row):
        raise ValueError("a row does not match its checksum")


def as_table(text: Any) -> dict[str, Any]:
    """Return the JSON object of a row. Raises one of NO_SENSE."""
    return dict(**parse_json(text))


def as_pieces(text: Any) -> tuple[str, ...]:
    """Return the JSON list of texts of a row. Raises one of NO_SENSE."""
    return as_texts(parse_json(text))


def as_texts(values: Any) -> tuple[str, ...]:
    """Return a list of texts in the JSON of a row. Raises TypeError."""
    if not isinstance(values, list):
        raise TypeError(f"{values!r:.100} is not a list")
    return tuple(map(as_text, values))


def parse_json(text: Any) -> Any:
    """Return the JSON value of a row. Raises one of NO_SENSE."""
    if len(as_text(text)) > JSON_LIMIT:
        raise ValueError(f"JSON of more than {JSON_LIMIT} characters")
    return json.loads(text)


def as_text(value: Any) -> str:
    """Return a text of a row. Raises TypeError."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.100} is not a text")
    return value


def as_bytes(value: Any) -> bytes:
    """Return bytes of a row. Raises TypeError."""
    if not isinstance(value, bytes):
        raise TypeError(f"{value!r:.100} is not bytes")
    return value


def as_number(value: Any) -> int:
    """Return a whole number of a row. Raises TypeError."""
    if not isinstance(value, int):
        raise TypeError(f"{value!r:.100} is not a whole number")
    return value


def one_of(value: Any, known: tuple[str, ...]) -> str:
    """Return a text of a row that must be one of these values. Raises ValueError."""
    if value not in known:
        raise ValueError(f"{value!r:.100} is not one of {known}")
    return str(value)


def as_time(value: Any) -> float:
    """Return a time of a row, which may come from a wrong clock. Raises ValueError."""
    if not isinstance(value, int | float) or not abs(value) < 2**63:
        raise ValueError(f"{value!r:.100} is not a time")
    return value


def dump(value: Any) -> str:
    """Return JSON for a row."""
    # Escaped, since SQLite could not store a file name that is not Unicode.
    return json.dumps(value, ensure_ascii=True, sort_keys=True)
