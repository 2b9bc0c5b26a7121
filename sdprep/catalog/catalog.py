"""The catalog: what sdprep remembers of a dataset. The files in the folder always count; this is only a record.

One SQLite file in `.sdprep/` of the dataset folder has the runs, the model results, and the state of every sidecar;
`journal.py` writes files. Keys are paths relative to the catalog's folder, so a dataset can move.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdprep.catalog.database import open_database
from sdprep.catalog.schema import (
    CHANGE,
    CODES,
    NO_SENSE,
    RESULT_LIMIT,
    STATE,
    FileStat,
    Key,
    as_bytes,
    as_key,
    as_number,
    as_table,
    as_text,
    check_change,
    checksum,
    dump,
    row_checksum,
    select_many,
    unpacked,
)
from sdprep.catalog.states import decode_state, encode_state
from sdprep.errors import CatalogFailed, DamagedCatalog
from sdprep.folders import SIDECAR_LIMIT
from sdprep.rules.mixed_text import Settings, normalize
from sdprep.rules.policy import SidecarState


@dataclass(frozen=True, slots=True)
class RunInfo:
    """The record of a run: the command, its settings, the versions of packages, and the model.

    `remember` is called with each catalog in which the run begins, in the transaction of its first change.
    """

    uid: str
    command: str
    settings: dict[str, Any]
    versions: dict[str, str]
    model: str | None
    started: float
    remember: Callable[[Catalog], None] | None = None


@dataclass(frozen=True, slots=True)
class RecordedChange:
    """A row of the journal: hashes and states before and after; `is_summed` says whether it has a checksum."""

    row: int
    status: str
    uid: str
    command: str
    is_summed: bool
    key: Key
    before: bytes | None
    after: bytes | None
    state_before: int | None
    state_after: int | None


class Catalog:
    """One catalog: an open file, or one in memory. Rows are written inside `transaction()`; in a dry run none is.

    `rollback` says that its file system was just found to have no write-ahead log; `backup` is the copy that was kept
    before its schema was migrated, if that was done now.

    Raises:
        DamagedCatalog: it is not a catalog, or a row holds what sdprep never wrote.
        NewerCatalog: a newer sdprep wrote it.
        CatalogFailed: it cannot be read or written, or was deleted or replaced since it was opened.
    """

    def __init__(self, file: Path | None, root: Path, *, dry_run: bool = False) -> None:
        self.file, self.dry_run = file, dry_run
        opened = open_database(file, read_only=dry_run)
        self.db, self.rollback, self.backup = opened.db, opened.rollback, opened.backup
        self._identity = self._identity_now()
        self._prepare()
        self.root, self._root = root, root.as_posix().removesuffix("/") + "/"
        self._images: list[tuple[Key, int, int, bytes]] = []
        self._known_settings: dict[int, dict[str, Any]] = {}
        self._last_settings: tuple[Settings, int] | None = None
        # In a catalog that is only read: the former keys of sidecars that were found at new ones, the new keys of those
        # that are no longer at their former ones, and the former places of settings.
        self.formers: dict[Key, Key] = {}
        self.moved_places: dict[Key, Key] = {}
        self.left: dict[Key, Key] = {}
        # In a catalog that is only read: the rows of `stated` that images keep from their former places.
        self.kept_settings: list[Any] = []
        # The outcome of unfinished changes, by row, in a catalog that is only read.
        self.outcomes: dict[int, str] = {}
        self.db.create_function("outcome", 1, self.outcomes.get)

    def _prepare(self) -> None:
        self.db.execute("PRAGMA synchronous = FULL")
        if self.dry_run:
            self.db.execute("PRAGMA query_only = ON")

    def close(self) -> None:
        """Write the images that were noted, and end the connection."""
        self.flush()
        self.db.close()

    def flush(self) -> None:
        """Write the images that were noted."""
        if self._images:
            with self.transaction():
                pass

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all rows that are written inside together, or none; an inner transaction joins the outer one."""
        if self.db.in_transaction:
            yield
            return
        try:
            self.db.execute("BEGIN IMMEDIATE")
            self.db.executemany("INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?)", self._images)
            self._images.clear()
            yield
            self.db.execute("COMMIT")
        except BaseException as error:
            self._last_settings = None
            # A full disk may have ended it already.
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                # A missing file explains more than SQLite's error.
                self.check_identity()
            raise
        self.check_identity()

    def check_identity(self) -> None:
        """Raise CatalogFailed if the file was deleted, moved or replaced: anything written to it would be lost."""
        if self.is_replaced:
            raise CatalogFailed(
                f"{self.file} was deleted, moved or replaced while this command was using it. "
                "Files that were written are kept; run the command again to continue"
            )

    @property
    def is_replaced(self) -> bool:
        """Whether the file was deleted, moved or replaced since it was opened."""
        return self._identity_now() != self._identity

    def _identity_now(self) -> tuple[int, int] | None:
        """What identifies the file at the path of the catalog; None if there is none."""
        if self.file is None:
            return None
        try:
            found = self.file.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    @contextlib.contextmanager
    def decoding(self, what: str) -> Iterator[None]:
        """Raise DamagedCatalog if the content of rows cannot be decoded inside."""
        try:
            yield
        except NO_SENSE as error:
            raise DamagedCatalog(f"{self.file} is damaged: {what} is not as sdprep wrote it") from error

    # Paths and keys

    def key(self, path: Path) -> Key:
        """The key of a path: relative to the root with forward slashes, absolute outside it, bytes if not Unicode."""
        # As `Path.relative_to`, which takes twenty times as long.
        return as_key(path.as_posix().removeprefix(self._root))

    def prefix(self, folder: Path) -> str:
        """What comes before the name of a file of this folder in its key, which `as_key` makes of both."""
        text = folder.relative_to(self.root).as_posix() if folder.is_relative_to(self.root) else folder.as_posix()
        return "" if text == "." else text.removesuffix("/") + "/"

    def path(self, key: Key) -> Path:
        """The path of a key. Raises DamagedCatalog if it is not the name of a file."""
        with self.decoding("the name of a file"):
            name = os.fsdecode(key)
            if "\0" in name:
                raise ValueError("a file name has a NUL")
            return self.root / name

    # Images and results

    def images(self, keys: Sequence[Key]) -> dict[Key, tuple[FileStat, bytes]]:
        """Size, time and SHA-256 of images when they were last read."""
        rows = select_many(self.db, "SELECT key, size, mtime_ns, digest FROM images WHERE key IN ({})", keys)
        with self.decoding("what it knows of an image"):
            return {
                key: ((as_number(size), as_number(time_ns)), as_bytes(digest)) for key, size, time_ns, digest in rows
            }

    def remember_image(self, key: Key, stamp: FileStat, digest: bytes) -> None:
        """Note the SHA-256 of an image together with its size and time; written with the next transaction."""
        if not self.dry_run:
            self._images.append((key, *stamp, digest))

    def recipe_id(self, recipe: dict[str, Any]) -> int:
        """The number of a recipe, which is everything but the image that a result depends on; stored if it is new."""
        return self._intern("recipes", recipe)

    def known_recipe(self, recipe: dict[str, Any]) -> int | None:
        """The number of a recipe, or None if it is not stored."""
        return self._interned("recipes", recipe)

    def results(self, digests: Sequence[bytes], recipe: int) -> dict[bytes, bytes]:
        """The stored results of images by their SHA-256; damaged ones are left out."""
        select = (
            "SELECT digest, data, checksum FROM results"
            f" WHERE recipe = ? AND length(data) <= {RESULT_LIMIT} AND digest IN ({{}})"
        )
        rows = select_many(self.db, select, digests, recipe)
        return {
            digest: data
            for digest, data, known in rows
            if isinstance(data, bytes) and known in (None, checksum(digest, data))
        }

    def store_result(self, digest: bytes, recipe: int, data: bytes) -> None:
        """Store the result of an image."""
        self.db.execute(
            "INSERT OR REPLACE INTO results (digest, recipe, data, checksum) VALUES (?, ?, ?, ?)",
            (digest, recipe, data, checksum(digest, data)),
        )

    def failure(self, digest: bytes, decoder: str) -> tuple[str, str] | None:
        """Code and message of an earlier failure of this decoder on these bytes, or None; unknown codes are ignored."""
        row = self.db.execute(
            "SELECT code, message FROM failures WHERE digest = ? AND decoder = ?", (digest, decoder)
        ).fetchone()
        return (row[0], str(row[1])) if row and row[0] in CODES else None

    def remember_failure(self, digest: bytes, decoder: str, code: str, message: str) -> None:
        """Store a decode failure, which counts until the file or the decoder changes."""
        self.db.execute("INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?)", (digest, decoder, code, message))

    # Texts and states

    def store_text(self, data: bytes) -> bytes:
        """Store the bytes of a text, once, and return their SHA-256."""
        digest = hashlib.sha256(data).digest()
        packed = len(data) > 1024
        self.db.execute(
            "INSERT OR IGNORE INTO texts VALUES (?, ?, ?)", (digest, packed, zlib.compress(data) if packed else data)
        )
        return digest

    def text(self, digest: bytes, limit: int | None = None) -> bytes:
        """The bytes of a stored text, cut after `limit` + 1. Raises DamagedCatalog if it is missing or damaged."""
        row = self.db.execute("SELECT packed, data FROM texts WHERE hash = ?", (digest,)).fetchone()
        with self.decoding("a kept text"):
            return unpacked(row[0], row[1], digest, limit)

    def state_id_of(self, key: Key) -> int | None:
        """The number of the state of a sidecar, or None."""
        row = self.db.execute("SELECT state FROM sidecars WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def state_of(self, key: Key) -> SidecarState | None:
        """The state of a sidecar, or None."""
        return self.states([key]).get(key)

    def states(self, keys: Sequence[Key], held: Iterable[bytes] = ()) -> dict[Key, SidecarState]:
        """The states of sidecars; `held` is content that need not be read from the catalog if a text equals it."""
        select = (
            f"SELECT key, checksum, {STATE} FROM sidecars JOIN states ON states.id = sidecars.state WHERE key IN ({{}})"
        )
        rows = list(select_many(self.db, select, keys))
        if self.formers:
            own = {key: self.formers[key] for key in keys if key in self.formers}
            by_former = {row[0]: row[1:] for row in select_many(self.db, select, list(own.values()))}
            rows = [row for row in rows if row[0] not in own]
            rows += [(key, *by_former[former]) for key, former in own.items() if former in by_former]
        texts = {hashlib.sha256(data).digest(): data for data in held}
        missing = [row[4] for row in rows if row[4] not in texts]
        kept = list(select_many(self.db, "SELECT hash, packed, data FROM texts WHERE hash IN ({})", missing))
        found = {}
        with self.decoding("what it knows of a text file"):
            texts.update((text, unpacked(packed, data, text, SIDECAR_LIMIT)) for text, packed, data in kept)
            for key, known_sum, *row in rows:
                text = texts[row[2]]
                # No sidecar of more than the limit is read, so none is unmodified.
                if len(text) <= SIDECAR_LIMIT:
                    found[key] = decode_state(row, known_sum, normalize(text.decode("utf-8")), self._settings)
        return found

    def _settings(self, number: int) -> dict[str, Any]:
        # Thousands of states share their settings.
        if number not in self._known_settings:
            row = self.db.execute("SELECT json FROM settings WHERE id = ?", (number,)).fetchone()
            self._known_settings[number] = as_table(*row)
        return self._known_settings[number]

    def store_state(self, state: SidecarState) -> int:
        """Store a state and return its number."""
        text = self.store_text((state.text + "\n").encode("utf-8"))
        row = encode_state(state, text, self._settings_id)
        cursor = self.db.execute(
            f"INSERT INTO states ({STATE}, checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*row, row_checksum(row)),
        )
        return int(cursor.lastrowid or 0)

    def _settings_id(self, settings: Settings) -> int:
        # All states of a run share one object; encoding it for each would be slow.
        if self._last_settings is None or self._last_settings[0] is not settings:
            self._last_settings = settings, self._intern("settings", dict(settings))
        return self._last_settings[1]

    def set_state(self, key: Key, state: int | None) -> None:
        """Set the state of a sidecar; None forgets the sidecar."""
        if state is None:
            self.db.execute("DELETE FROM sidecars WHERE key = ?", (key,))
        else:
            self.db.execute("INSERT OR REPLACE INTO sidecars VALUES (?, ?)", (key, state))

    def _intern(self, table: str, value: dict[str, Any]) -> int:
        known = self._interned(table, value)
        if known is not None:
            return known
        return int(self.db.execute(f"INSERT INTO {table} (json) VALUES (?)", (dump(value),)).lastrowid or 0)

    def _interned(self, table: str, value: dict[str, Any]) -> int | None:
        row = self.db.execute(f"SELECT id FROM {table} WHERE json = ?", (dump(value),)).fetchone()
        return int(row[0]) if row else None

    # Runs and their changes

    def changes(self, where: str = "", *values: Key | int) -> Iterator[RecordedChange]:
        """The rows of the journal, oldest first, each checked. Raises DamagedCatalog."""
        last = 0
        rows = self.db.execute(
            f"SELECT journal.id, status, checksum, uid, command, {CHANGE} FROM journal LEFT JOIN runs"
            f" ON runs.id = journal.run {where} ORDER BY journal.id",
            values,
        )
        with self.decoding("its journal"):
            for number, status, known, uid, command, run, key, before, after, state_before, state_after in rows:
                check_change((run, key, before, after, state_before, state_after), known, status)
                # In a damaged file the same page may be listed repeatedly.
                if number <= last:
                    raise ValueError("a row comes twice")
                last = number
                yield RecordedChange(
                    row=number,
                    status=status,
                    uid=as_text(uid),
                    command=as_text(command),
                    is_summed=known is not None,
                    key=key,
                    before=before,
                    after=after,
                    state_before=state_before,
                    state_after=state_after,
                )

    def begin_run(self, info: RunInfo) -> int:
        """Record a run before its first change, and return its number."""
        row = self.db.execute("SELECT id FROM runs WHERE uid = ?", (info.uid,)).fetchone()
        if row:
            return int(row[0])
        cursor = self.db.execute(
            "INSERT INTO runs (uid, command, settings, versions, model, started) VALUES (?, ?, ?, ?, ?, ?)",
            (info.uid, info.command, dump(info.settings), dump(info.versions), info.model, info.started),
        )
        if info.remember is not None:
            info.remember(self)
        return int(cursor.lastrowid or 0)

    def end_run(self, uid: str, report: dict[str, Any]) -> None:
        """Record how a run ended. A run that changed nothing here was never begun, and is not recorded."""
        self.db.execute("UPDATE runs SET ended = ?, report = ? WHERE uid = ?", (time.time(), dump(report), uid))
