"""Every change of a text file, written down before it happens, so that it can be taken back and a crash understood.

Changes are made in groups: intent rows with the hashes of before and after, temporary files in the same folders, all of
them on the disk; then each file is read once more and replaced in one step, the folders are on the disk, and the rows
are done. So after a power cut every file has the bytes of before or of after. Intents left by a run that died are
settled by looking at the file.
"""

from __future__ import annotations

import errno
import hashlib
import re
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sdprep.catalog.catalog import Catalog, RecordedChange, RunInfo
from sdprep.catalog.schema import CHANGE, Key, row_checksum
from sdprep.errors import WriteError
from sdprep.files import FILE_LIMIT, FOR_ALL_FILES
from sdprep.folders import Folder, Folders
from sdprep.rules.policy import SidecarState

# What sdprep calls runs: a part of the names of files.
UID = re.compile(r"[0-9a-z-]{1,40}")


@dataclass(frozen=True, slots=True)
class Change:
    """A file that shall hold `after` (None: be gone) if it still holds `before`; `state` is then known of it.

    `state` is a new state, the number of one that is stored, or None.
    """

    path: Path
    before: bytes | None
    after: bytes | None
    state: SidecarState | int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of changes: made, not made since the file had changed since it was read, or failed, and why."""

    made: list[Change] = field(default_factory=list)
    conflicts: list[Change] = field(default_factory=list)
    errors: dict[Change, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Intent:
    row: int
    key: Key
    change: Change
    state_after: int | None


def temporary_name(uid: str, row: int) -> str:
    """The temporary file of a run's journal row: short whatever the file is called, and known after a crash."""
    return f".sdprep-{uid}-{row}.tmp"


def apply(
    catalog: Catalog, run: RunInfo, changes: Sequence[Change] | Callable[[], Sequence[Change]], root: Path
) -> Applied:
    """Make the changes that can be made, all of them below `root`; the lock of the catalog must be held.

    A function that gives them is called in the transaction of the intents, and may write rows of its own in it.

    Raises WriteError when no file can be written, as on a full disk; what was done before it is journalled, and what
    is uncertain then, or after an interruption, is settled when the catalog is opened next.
    """
    with catalog.transaction():
        wanted = changes() if callable(changes) else changes
        number = catalog.begin_run(run) if wanted else 0
        intents = [_write_intent(catalog, number, change) for change in wanted]
    if not intents:
        return Applied()
    with Folders(root) as folders:
        group = _Group(folders, run.uid)
        try:
            group.make(intents)
        except OSError as error:
            raise WriteError(error, len(group.applied.made)) from error
        finally:
            try:
                with catalog.transaction():
                    for intent, done in group.outcomes:
                        _settle(catalog, intent, "done" if done else "void")
            except sqlite3.OperationalError as error:
                failed = OSError(0, str(error), str(catalog.file))
                raise WriteError(failed, len(group.applied.made)) from error
    return group.applied


class _Group:
    """Changes that are made together; `outcomes` says of each that has been decided whether it was made."""

    def __init__(self, folders: Folders, uid: str) -> None:
        self.applied = Applied()
        self.outcomes: list[tuple[_Intent, bool]] = []
        self._folders, self._uid = folders, uid
        self._ready: list[_Intent] = []
        # The folder of each change, by journal row, and the temporary files that are there, as folder and name.
        self._places: dict[int, str] = {}
        self._temporaries: dict[int, tuple[str, str]] = {}

    def make(self, intents: Sequence[_Intent]) -> None:
        """Make all changes. Raises OSError for what no other file would fare better with, at the second try."""
        waiting, failed = deque(intents), None
        try:
            while waiting:
                try:
                    while waiting:
                        if self._try(self._write, waiting[0]):
                            self._ready.append(waiting[0])
                        waiting.popleft()
                except OSError:
                    if failed is waiting[0]:
                        raise
                    # It is tried again when the others are in place, which frees the room of the old files.
                    failed = waiting[0]
                self._publish()
        finally:
            self._clear()

    def _clear(self) -> None:
        """Remove the temporary files that are left; what cannot be removed stays open, for the next run to remove."""
        for row, (place, name) in self._temporaries.items():
            try:
                self._folders.at(place).remove(name)
            except OSError:
                self.outcomes = [(intent, done) for intent, done in self.outcomes if intent.row != row]

    def _publish(self) -> None:
        """Replace the files for which all is ready, unless they changed, and have their folders reach the disk."""
        synced = [intent for intent in self._ready if self._try(self._sync, intent)]
        self._ready = []
        for intent in synced:
            self._try(self._replace, intent)
        for place in dict.fromkeys(self._places[intent.row] for intent in synced):
            folder = self._folders.find(place)
            if folder is not None:
                folder.sync_names()

    def _try(self, step: Callable[[_Intent], None], intent: _Intent) -> bool:
        """Whether a step could be taken; what hinders this one file is noted. Raises OSError for what hinders all."""
        try:
            step(intent)
        except (OSError, ValueError) as error:
            # ValueError: the system can have no such name.
            if isinstance(error, OSError) and error.errno in FOR_ALL_FILES:
                raise
            self.applied.errors[intent.change] = f"{intent.change.path.name}: {getattr(error, 'strerror', error)}"
            self.outcomes.append((intent, False))
            return False
        return True

    def _write(self, intent: _Intent) -> None:
        change, name = intent.change, temporary_name(self._uid, intent.row)
        place = self._places[intent.row] = self._folders.relative(change.path.parent)
        if change.after is not None:
            folder = self._folders.at(place, make=change.before is None)
            folder.write_new(name, change.after, private=change.before is not None)
            self._temporaries[intent.row] = place, name

    def _sync(self, intent: _Intent) -> None:
        if intent.row not in self._temporaries:
            return
        place, name = self._temporaries[intent.row]
        try:
            self._folders.at(place).sync(name)
        except OSError as error:
            if error.errno not in FOR_ALL_FILES:
                raise
            # What could not reach the disk may be gone from memory too: it is written anew.
            self._folders.at(place).remove(name)
            self._write(intent)
            self._folders.at(place).sync(name)

    def _replace(self, intent: _Intent) -> None:
        """Put the temporary file in place if the file is still as it was, looked at as late as can be."""
        change, folder = intent.change, self._folders.find(self._places[intent.row])
        seen = _holds(folder, change.path.name, change.before)
        if seen and folder is not None and change.after is None:
            folder.remove(change.path.name)
        elif seen and folder is not None:
            self._put_in_place(folder, intent)
        (self.applied.made if seen else self.applied.conflicts).append(change)
        self.outcomes.append((intent, seen))

    def _put_in_place(self, folder: Folder, intent: _Intent) -> None:
        change, temporary = intent.change, temporary_name(self._uid, intent.row)
        try:
            folder.replace(temporary, change.path.name)
        except OSError as error:
            # On a network share the answer may be lost, and the file be in place.
            if not _holds(folder, change.path.name, change.after):
                if error.errno not in FOR_ALL_FILES:
                    raise
                folder.replace(temporary, change.path.name)
        del self._temporaries[intent.row]


def holds(root: Path, path: Path, data: bytes | None) -> bool:
    """Whether a file below `root` has exactly these bytes. Raises OSError if it cannot be read."""
    with Folders(root) as folders:
        return _holds(folders.find(folders.relative(path.parent)), path.name, data)


def _holds(folder: Folder | None, name: str, data: bytes | None) -> bool:
    if folder is None:
        return data is None
    try:
        return folder.read(name, len(data or b"")) == data
    except OSError as error:
        if error.errno == errno.EFBIG:
            return False
        raise


def record_existing(catalog: Catalog, path: Path, state: SidecarState) -> None:
    """Remember a text that is already what sdprep would write; inside a transaction."""
    catalog.set_state(catalog.key(path), catalog.store_state(state))


def _write_intent(catalog: Catalog, run: int, change: Change) -> _Intent:
    key = catalog.key(change.path)
    state = catalog.store_state(change.state) if isinstance(change.state, SidecarState) else change.state
    hashes = [None if data is None else catalog.store_text(data) for data in (change.before, change.after)]
    row = run, key, *hashes, catalog.state_id_of(key), state
    cursor = catalog.db.execute(
        f"INSERT INTO journal ({CHANGE}, checksum, status) VALUES (?, ?, ?, ?, ?, ?, ?, 'intent')",
        (*row, row_checksum(row)),
    )
    return _Intent(int(cursor.lastrowid or 0), key, change, state)


def _settle(catalog: Catalog, intent: _Intent | RecordedChange, status: str) -> None:
    catalog.db.execute("UPDATE journal SET status = ? WHERE id = ?", (status, intent.row))
    if status == "done":
        catalog.set_state(intent.key, intent.state_after)


def recover(catalog: Catalog, folder: Path | None) -> None:
    """Settle the intents of runs that died, by the bytes of each file; the lock of the catalog must be held.

    Those of after: it was written. Those of before: it was not. Any others: somebody changed it since, and the row
    stays as "unclear", so that the text from before can still be restored. Only files of the catalog's own folder and
    of `folder` are looked at, unless that is None: a catalog that came with images may name any file. Intents of
    others, of runs that sdprep did not name, and of files that cannot be read now, stay open.
    """
    if _open_changes(catalog):
        with catalog.transaction():
            for intent, outcome in _outcomes(catalog, folder, tidy=True):
                _settle(catalog, intent, outcome)


def _open_changes(catalog: Catalog) -> list[RecordedChange]:
    """The changes that were begun and not settled, oldest first."""
    return list(catalog.changes("WHERE status = 'intent'"))


def look_at_open_changes(catalog: Catalog, folder: Path | None) -> None:
    """Tell a catalog that is only read what `recover` would make of each open change; nothing is written."""
    catalog.outcomes.update((intent.row, outcome) for intent, outcome in _outcomes(catalog, folder, tidy=False))


def _outcomes(catalog: Catalog, folder: Path | None, *, tidy: bool) -> Iterator[tuple[RecordedChange, str]]:
    """Each open change that may be looked at and what became of it; `tidy` removes the temporary files."""
    own = catalog.root
    with Folders(own) as below, Folders(folder or Path(own.anchor)) as beside:
        for intent in _open_changes(catalog):
            path = catalog.path(intent.key)
            for folders in (below, beside) if UID.fullmatch(intent.uid) else ():
                # What cannot be reached from the one may lie below the other.
                with suppress(OSError, ValueError):
                    place = folders.find(folders.relative(path.parent))
                    if place is not None and tidy:
                        place.remove(temporary_name(intent.uid, intent.row))
                    yield intent, _outcome(intent, path.name, place)
                    break


def _outcome(intent: RecordedChange, name: str, folder: Folder | None) -> str:
    data = None if folder is None else folder.read(name, FILE_LIMIT)
    found = None if data is None else hashlib.sha256(data).digest()
    return "done" if found == intent.after else "void" if found == intent.before else "unclear"
