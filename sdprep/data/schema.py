"""The tables of a catalog, made by numbered steps, and how many of their rows are asked for at once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

AT_ONCE = 256
# Step 1 makes the tables of an empty file, step 2 makes schema 2 of schema 1, and so on. A step that was released is
# never changed, since a catalog's definitions are compared with those that its steps make.
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
    # What tells a damaged row; rows of schema 1 have none, and are believed if their content has the right shape.
    """
ALTER TABLE results ADD COLUMN checksum INTEGER;
ALTER TABLE states ADD COLUMN checksum INTEGER;
ALTER TABLE journal ADD COLUMN checksum INTEGER;
""",
]


def select_many(db: sqlite3.Connection, query: str, keys: Sequence[str | bytes], *first: int) -> Iterator[Any]:
    """The rows for many keys, in any order; the marks of the keys are put into the query, behind those of `first`."""
    query = query.format(",".join("?" * AT_ONCE))
    for start in range(0, len(keys), AT_ONCE):
        some = keys[start : start + AT_ONCE]
        # NULL equals nothing, and SQLite needs to read a query of the same length only once.
        # Fetched whole: a cursor that is left half read would be closed after its connection.
        yield from db.execute(query, (*first, *some, *[None] * (AT_ONCE - len(some)))).fetchall()
