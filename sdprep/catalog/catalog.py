"""The catalog: what sdprep remembers of a dataset. The folder is the truth; this is memory.

One SQLite file in `.sdprep/` of the dataset's folder holds runs, model results, and what is known of every sidecar;
`journal.py` writes the texts. Keys are paths relative to the catalog's folder, so a dataset can move.
"""

from __future__ import annotations

import hashlib
import os
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdprep.catalog.connection import CatalogFile
from sdprep.catalog.schema import (
    CHANGE,
    CODES,
    RESULT_LIMIT,
    STATE,
    FileStat,
    Key,
    as_bytes,
    as_key,
    as_number,
    as_pieces,
    as_table,
    as_text,
    check_change,
    check_state,
    checksum,
    dump,
    row_checksum,
    select_many,
    unpacked,
)
from sdprep.folders import SIDECAR_LIMIT
from sdprep.rules.mixed_text import MixedText, normalize
from sdprep.rules.policy import Settings, SidecarState


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
class RecordedChange:
    """A row of the journal: the hashes of before and after, and the states; `is_summed` says it has a checksum."""

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


class Catalog(CatalogFile):
    """One catalog. Rows are written inside `transaction()`; in a dry run none is."""

    def __init__(self, file: Path | None, root: Path, *, rehearsal: bool = False) -> None:
        super().__init__(file, rehearsal=rehearsal)
        self.root, self._root = root, root.as_posix().removesuffix("/") + "/"
        self._images: list[tuple[Key, int, int, bytes]] = []
        self._known_settings: dict[int, dict[str, Any]] = {}
        self._last_settings: tuple[Settings, int] | None = None
        # What became of changes that were begun and not settled, by row, where that cannot be written down.
        self.outcomes: dict[int, str] = {}
        self.db.create_function("outcome", 1, self.outcomes.get)

    def close(self) -> None:
        """End the connection."""
        self.flush()
        super().close()

    def flush(self) -> None:
        """Write the images that were noted."""
        if self._images:
            with self.transaction():
                pass

    def _write_noted(self) -> None:
        self.db.executemany("INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?)", self._images)
        self._images.clear()

    def _forget_uncommitted(self) -> None:
        self._last_settings = None

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
        """The path of a key. Raises DamagedCatalog for one that is none."""
        with self.decoding("the name of a file"):
            name = os.fsdecode(key)
            if "\0" in name:
                raise ValueError("a NUL is in no name of a file")
            return self.root / name

    # Images and results

    def images(self, keys: Sequence[Key]) -> dict[Key, tuple[FileStat, bytes]]:
        """Size, time and SHA-256 of images as they were when they were last read."""
        rows = select_many(self.db, "SELECT key, size, mtime_ns, digest FROM images WHERE key IN ({})", keys)
        with self.decoding("what it knows of an image"):
            return {
                key: ((as_number(size), as_number(time_ns)), as_bytes(digest)) for key, size, time_ns, digest in rows
            }

    def remember_image(self, key: Key, stamp: FileStat, digest: bytes) -> None:
        """Note the SHA-256 of an image together with its size and time; written with the next transaction."""
        if not self.rehearsal:
            self._images.append((key, *stamp, digest))

    def recipe_id(self, recipe: dict[str, Any]) -> int:
        """The number of a recipe, everything besides the image that a result depends on; for storing a result."""
        return self._intern("recipes", recipe)

    def known_recipe(self, recipe: dict[str, Any]) -> int | None:
        """The number of a recipe, or None if no image has a result of it."""
        return self._interned("recipes", recipe)

    def results(self, digests: Sequence[bytes], recipe: int) -> dict[bytes, bytes]:
        """The stored results of images by their SHA-256; one that is damaged counts as none."""
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
        """Keep the result of an image."""
        self.db.execute(
            "INSERT OR REPLACE INTO results (digest, recipe, data, checksum) VALUES (?, ?, ?, ?)",
            (digest, recipe, data, checksum(digest, data)),
        )

    def failure(self, digest: bytes, decoder: str) -> tuple[str, str] | None:
        """Code and message with which this decoder failed on these bytes before, or None; an unknown code is none."""
        row = self.db.execute(
            "SELECT code, message FROM failures WHERE digest = ? AND decoder = ?", (digest, decoder)
        ).fetchone()
        return (row[0], str(row[1])) if row and row[0] in CODES else None

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

    def text(self, digest: bytes, limit: int | None = None) -> bytes:
        """The bytes of a kept text, or the first ones beyond a limit. Raises DamagedCatalog if it is not there."""
        row = self.db.execute("SELECT packed, data FROM texts WHERE hash = ?", (digest,)).fetchone()
        with self.decoding("a kept text"):
            return unpacked(row[0], row[1], digest, limit)

    def state_id_of(self, key: Key) -> int | None:
        """The number of the state of a sidecar, or None."""
        row = self.db.execute("SELECT state FROM sidecars WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def state_of(self, key: Key) -> SidecarState | None:
        """What is known of a sidecar, or None."""
        return self.states([key]).get(key)

    def states(self, keys: Sequence[Key], held: Iterable[bytes] = ()) -> dict[Key, SidecarState]:
        """What is known of sidecars; `held` are bytes in which their texts may be found sooner than in the catalog."""
        select = (
            f"SELECT key, checksum, {STATE} FROM sidecars JOIN states ON states.id = sidecars.state WHERE key IN ({{}})"
        )
        rows = list(select_many(self.db, select, keys))
        texts = {hashlib.sha256(data).digest(): data for data in held}
        missing = [row[4] for row in rows if row[4] not in texts]
        kept = list(select_many(self.db, "SELECT hash, packed, data FROM texts WHERE hash IN ({})", missing))
        found = {}
        with self.decoding("what it knows of a text file"):
            texts.update((text, unpacked(packed, data, text, SIDECAR_LIMIT)) for text, packed, data in kept)
            for key, known_sum, *row in rows:
                check_state(row, known_sum)
                task, origin, text, digest, settings, where, user, generated, removed = row
                if len(texts[text]) > SIDECAR_LIMIT:
                    continue  # No sidecar that is read holds it, so it is not sdprep's.
                parts = MixedText(as_text(user), as_pieces(generated), () if removed == "[]" else as_pieces(removed))
                known = normalize(texts[text].decode("utf-8"))
                found[key] = SidecarState(task, origin, known, as_bytes(digest), self._settings(settings), parts, where)
        return found

    def _settings(self, number: int) -> dict[str, Any]:
        # Thousands of texts share theirs.
        if number not in self._known_settings:
            row = self.db.execute("SELECT json FROM settings WHERE id = ?", (number,)).fetchone()
            self._known_settings[number] = as_table(*row)
        return self._known_settings[number]

    def store_state(self, state: SidecarState) -> int:
        """Keep a state and return its number."""
        text = self.store_text((state.text + "\n").encode("utf-8"))
        parts = state.parts.user, dump(state.parts.generated), dump(state.parts.removed)
        row = state.task, state.origin, text, state.digest, self._settings_id(state.settings), state.where, *parts
        cursor = self.db.execute(
            f"INSERT INTO states ({STATE}, checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*row, row_checksum(row))
        )
        return int(cursor.lastrowid or 0)

    def _settings_id(self, settings: Settings) -> int:
        # All texts of a run have the very same, and it would be spelt out for each.
        if self._last_settings is None or self._last_settings[0] is not settings:
            self._last_settings = settings, self._intern("settings", dict(settings))
        return self._last_settings[1]

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
        return int(self.db.execute(f"INSERT INTO {table} (json) VALUES (?)", (dump(value),)).lastrowid or 0)

    def _interned(self, table: str, value: dict[str, Any]) -> int | None:
        row = self.db.execute(f"SELECT id FROM {table} WHERE json = ?", (dump(value),)).fetchone()
        return int(row[0]) if row else None

    # Runs and their changes

    def changes(self, where: str = "", *values: Key) -> Iterator[RecordedChange]:
        """Rows of the journal, oldest first, each of them checked. Raises DamagedCatalog."""
        last = 0
        rows = self.db.execute(
            f"SELECT journal.id, status, checksum, uid, command, {CHANGE} FROM journal LEFT JOIN runs"
            f" ON runs.id = journal.run {where} ORDER BY journal.id",
            values,
        )
        with self.decoding("its journal"):
            for number, status, known, uid, command, run, key, before, after, state_before, state_after in rows:
                check_change((run, key, before, after, state_before, state_after), known, status)
                # In a damaged file the same page may be named again and again.
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
        """Write a run down before its first change, and return its number."""
        row = self.db.execute("SELECT id FROM runs WHERE uid = ?", (info.uid,)).fetchone()
        if row:
            return int(row[0])
        cursor = self.db.execute(
            "INSERT INTO runs (uid, command, settings, versions, model, started) VALUES (?, ?, ?, ?, ?, ?)",
            (info.uid, info.command, dump(info.settings), dump(info.versions), info.model, info.started),
        )
        return int(cursor.lastrowid or 0)

    def end_run(self, uid: str, report: dict[str, Any]) -> None:
        """Note how a run ended. A run that changed nothing here was never begun, and stays unknown."""
        self.db.execute("UPDATE runs SET ended = ?, report = ? WHERE uid = ?", (time.time(), dump(report), uid))
