"""The catalog: what sdprep remembers of a dataset. The folder is the truth; this is memory.

One SQLite file in `.sdprep/` of the dataset's folder holds runs, model results, and what is known of every sidecar;
`journal.py` writes the texts. Keys are paths relative to the catalog's folder, so a dataset can move.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdprep.data.database import open_database
from sdprep.rules.compose import Parts, normalize
from sdprep.rules.decide import SidecarState

FOLDER = ".sdprep"
FILE = "catalog.sqlite"
SCHEMA_VERSION = 1
SCHEMA = """
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
"""

Key = str | bytes


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What is remembered of a run: the command, its settings, the versions at work, and the model."""

    uid: str
    command: str
    settings: dict[str, Any]
    versions: dict[str, str]
    model: str | None
    started: float


@dataclass(frozen=True, slots=True)
class OpenIntent:
    """A change in the journal that was begun: the hashes of before and after, and the state it leads to."""

    row: int
    uid: str
    key: Key
    before: bytes | None
    after: bytes | None
    state: int | None


class Catalog:
    """One catalog file. Rows are written inside `transaction()`; in a rehearsal none is.

    `rollback` says that its file system bears no write-ahead log, which was found out now. Raises CatalogError.
    """

    def __init__(self, file: Path | None, root: Path, *, rehearsal: bool = False) -> None:
        self.file, self.root, self.rehearsal = file, root, rehearsal
        self._images: list[tuple[Key, int, int, bytes]] = []
        self.db, self.rollback = open_database(file, SCHEMA, SCHEMA_VERSION)
        self._prepare()

    def _prepare(self) -> None:
        self.db.execute("PRAGMA synchronous = FULL")
        if self.rehearsal:
            self.db.execute("PRAGMA query_only = ON")

    def close(self) -> None:
        """End the connection."""
        if self._images and not self.rehearsal:
            with self.transaction():
                pass
        self.db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All rows written inside are committed together, or none is; an inner one is part of the outer."""
        if self.db.in_transaction:
            yield
            return
        self.db.execute("BEGIN IMMEDIATE")
        try:
            self.db.executemany("INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?)", self._images)
            self._images.clear()
            yield
            self.db.execute("COMMIT")
        except BaseException:
            # A disk that is full may have ended it already.
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise

    # Paths and keys

    def key(self, path: Path) -> Key:
        """The key of a path: relative to the root with forward slashes, absolute outside it, bytes if not Unicode."""
        text = path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            return os.fsencode(text)
        return text

    def path(self, key: Key) -> Path:
        """The path of a key."""
        return self.root / (os.fsdecode(key) if isinstance(key, bytes) else key)

    # Images and results

    def known_digest(self, key: Key, stat: os.stat_result) -> bytes | None:
        """The SHA-256 of an image whose size and time have not changed since it was read."""
        row = self.db.execute(
            "SELECT digest FROM images WHERE key = ? AND size = ? AND mtime_ns = ?",
            (key, stat.st_size, stat.st_mtime_ns),
        ).fetchone()
        return row[0] if row else None

    def digest_of(self, key: Key) -> bytes | None:
        """The SHA-256 that an image had when it was last read, or None."""
        row = self.db.execute("SELECT digest FROM images WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def remember_image(self, key: Key, stat: os.stat_result, digest: bytes) -> None:
        """Note the SHA-256 of an image together with its size and time; written with the next transaction."""
        self._images.append((key, stat.st_size, stat.st_mtime_ns, digest))

    def recipe_id(self, recipe: dict[str, Any]) -> int:
        """The number of a recipe: everything besides the image that a result depends on."""
        return self._intern("recipes", recipe) if not self.rehearsal else self._interned("recipes", recipe) or 0

    def has_results(self, recipe: int) -> bool:
        """Whether any image has a result of this recipe."""
        return self.db.execute("SELECT 1 FROM results WHERE recipe = ? LIMIT 1", (recipe,)).fetchone() is not None

    def result(self, digest: bytes, recipe: int) -> bytes | None:
        """The stored result of an image, or None."""
        row = self.db.execute("SELECT data FROM results WHERE digest = ? AND recipe = ?", (digest, recipe)).fetchone()
        return row[0] if row else None

    def store_result(self, digest: bytes, recipe: int, data: bytes) -> None:
        """Keep the result of an image."""
        self.db.execute("INSERT OR REPLACE INTO results VALUES (?, ?, ?)", (digest, recipe, data))

    def failure(self, digest: bytes, decoder: str) -> tuple[str, str] | None:
        """Code and message with which this decoder failed on these bytes before, or None."""
        row = self.db.execute(
            "SELECT code, message FROM failures WHERE digest = ? AND decoder = ?", (digest, decoder)
        ).fetchone()
        return (row[0], row[1]) if row else None

    def remember_failure(self, digest: bytes, decoder: str, code: str, message: str) -> None:
        """Keep a decode failure until the file or the decoder changes."""
        self.db.execute("INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?)", (digest, decoder, code, message))

    # Texts and states

    def store_text(self, data: bytes) -> bytes:
        """Keep the bytes of a text, once, and return their SHA-256."""
        digest = hashlib.sha256(data).digest()
        packed = len(data) > 1024
        self.db.execute(
            "INSERT OR IGNORE INTO texts VALUES (?, ?, ?)", (digest, packed, zlib.compress(data) if packed else data)
        )
        return digest

    def text(self, digest: bytes) -> bytes:
        """The bytes of a kept text."""
        packed, data = self.db.execute("SELECT packed, data FROM texts WHERE hash = ?", (digest,)).fetchone()
        return zlib.decompress(data) if packed else bytes(data)

    def state_id_of(self, key: Key) -> int | None:
        """The number of the state of a sidecar, or None."""
        row = self.db.execute("SELECT state FROM sidecars WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def state_of(self, key: Key) -> SidecarState | None:
        """What is known of a sidecar, or None."""
        row = self.db.execute(
            "SELECT task, origin, text, digest, json, side, person, machine, removed FROM sidecars"
            " JOIN states ON states.id = sidecars.state JOIN settings ON settings.id = states.settings"
            " WHERE key = ?",
            (key,),
        ).fetchone()
        if row is None:
            return None
        task, origin, text, digest, settings, side, person, machine, removed = row
        parts = Parts(person, tuple(json.loads(machine)), tuple(json.loads(removed)))
        known = normalize(self.text(text).decode("utf-8"))
        return SidecarState(task, origin, known, digest, json.loads(settings), parts, side)

    def store_state(self, state: SidecarState) -> int:
        """Keep a state and return its number."""
        text = self.store_text((state.text + "\n").encode("utf-8"))
        cursor = self.db.execute(
            "INSERT INTO states (task, origin, text, digest, settings, side, person, machine, removed)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (state.task, state.origin, text, state.digest, self._intern("settings", dict(state.settings)),
             state.where, state.parts.person, _dump(state.parts.machine), _dump(state.parts.removed)),
        )  # fmt: skip
        return int(cursor.lastrowid or 0)

    def set_state(self, key: Key, state: int | None) -> None:
        """Point a sidecar at a state; None forgets the sidecar."""
        if state is None:
            self.db.execute("DELETE FROM sidecars WHERE key = ?", (key,))
        else:
            self.db.execute("INSERT OR REPLACE INTO sidecars VALUES (?, ?)", (key, state))

    def _intern(self, table: str, value: dict[str, Any]) -> int:
        known = self._interned(table, value)
        if known is not None:
            return known
        return int(self.db.execute(f"INSERT INTO {table} (json) VALUES (?)", (_dump(value),)).lastrowid or 0)

    def _interned(self, table: str, value: dict[str, Any]) -> int | None:
        row = self.db.execute(f"SELECT id FROM {table} WHERE json = ?", (_dump(value),)).fetchone()
        return int(row[0]) if row else None

    # Runs and their changes

    def open_intents(self) -> list[OpenIntent]:
        """The changes that were begun and not settled, oldest first."""
        rows = self.db.execute(
            "SELECT journal.id, uid, key, before, after, state_after FROM journal JOIN runs ON runs.id = journal.run"
            " WHERE status = 'intent' ORDER BY journal.id"
        )
        return [OpenIntent(*row) for row in rows]

    def begin_run(self, info: RunInfo) -> int:
        """Write a run down before its first change, and return its number."""
        row = self.db.execute("SELECT id FROM runs WHERE uid = ?", (info.uid,)).fetchone()
        if row:
            return int(row[0])
        cursor = self.db.execute(
            "INSERT INTO runs (uid, command, settings, versions, model, started) VALUES (?, ?, ?, ?, ?, ?)",
            (info.uid, info.command, _dump(info.settings), _dump(info.versions), info.model, info.started),
        )
        return int(cursor.lastrowid or 0)

    def end_run(self, uid: str, report: dict[str, Any]) -> None:
        """Note how a run ended. A run that changed nothing here was never begun, and stays unknown."""
        self.db.execute("UPDATE runs SET ended = ?, report = ? WHERE uid = ?", (time.time(), _dump(report), uid))


def _dump(value: Any) -> str:
    # Escaped, since a file name that is not Unicode could not be stored otherwise.
    return json.dumps(value, ensure_ascii=True, sort_keys=True)
