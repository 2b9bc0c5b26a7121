"""Every change of a file, recorded before it is made, so that it can be undone and a crash can be recovered from.

Changes are made in groups: write intent rows with the hashes before and after; write temporary files in the same
folders and sync them; read each file again and replace it in one step; sync the folders; mark the rows as done. So
after a power cut every file has its old bytes or its new ones. `recover` resolves the intents that a killed run left.
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

# The names that sdprep gives to runs; they are part of file names.
UID = re.compile(r"[0-9a-z-]{1,40}")


@dataclass(frozen=True, slots=True)
class Change:
    """Replace the content `before` of a file by `after` (None: no file), and record `state` for it.

    `state` is a new state, the number of a stored one, or None. Where both contents are equal, only the state changes
    and the file is not written.
    """

    path: Path
    before: bytes | None
    after: bytes | None
    state: SidecarState | int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Applied:
    """The outcome of changes: made; in conflict, the file has changed since it was read; failed, with the reason."""

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
    """The temporary file of a journal row. It is short whatever the file's name is, and can be found after a crash."""
    return f".sdprep-{uid}-{row}.tmp"


def apply(
    catalog: Catalog, run: RunInfo, changes: Sequence[Change] | Callable[[], Sequence[Change]], root: Path
) -> Applied:
    """Make the changes that can be made, all of them below `root`; the lock of the catalog must be held.

    A function that returns the changes is called in the transaction of the intents, and may write rows of its own.

    Raises WriteError when no file can be written, as on a full disk. The changes made before it are recorded; those
    whose outcome is unknown then, or after an interruption, are resolved when the catalog is opened next.
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
                        _record_outcome(catalog, intent, "done" if done else "void")
            except sqlite3.OperationalError as error:
                failed = OSError(0, str(error), str(catalog.file))
                raise WriteError(failed, len(group.applied.made)) from error
    return group.applied


class _Group:
    """Changes that are made together; `outcomes` has each change whose outcome is known, and whether it was made."""

    def __init__(self, folders: Folders, uid: str) -> None:
        self.applied = Applied()
        self.outcomes: list[tuple[_Intent, bool]] = []
        self._folders, self._uid = folders, uid
        self._ready: list[_Intent] = []
        # By journal row: the folder of the change, and the folder and name of its temporary file while there is one.
        self._parents: dict[int, str] = {}
        self._temporaries: dict[int, tuple[str, str]] = {}

    def make(self, intents: Sequence[_Intent]) -> None:
        """Make all changes. Raises OSError if the second try also fails for a reason that concerns every file."""
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
                    # Try it again once the others are in place, which frees the space of the old files.
                    failed = waiting[0]
                self._publish()
        finally:
            self._clear()

    def _clear(self) -> None:
        """Remove temporary files that are left; if one cannot be removed, its change stays open for the next run."""
        for row, (parent, name) in self._temporaries.items():
            try:
                self._folders.at(parent).remove(name)
            except OSError:
                self.outcomes = [(intent, done) for intent, done in self.outcomes if intent.row != row]

    def _publish(self) -> None:
        """Replace the files whose temporary files are written, unless they have changed, and sync their folders."""
        synced = [intent for intent in self._ready if self._try(self._sync, intent)]
        self._ready = []
        for intent in synced:
            self._try(self._replace, intent)
        for parent in dict.fromkeys(self._parents[intent.row] for intent in synced):
            folder = self._folders.find(parent)
            if folder is not None:
                folder.sync_names()

    def _try(self, step: Callable[[_Intent], None], intent: _Intent) -> bool:
        """Whether a step succeeded; an error of this file is recorded. Raises OSError if it concerns all files."""
        try:
            step(intent)
        except (OSError, ValueError) as error:
            # ValueError: the system cannot have a file of this name.
            if isinstance(error, OSError) and error.errno in FOR_ALL_FILES:
                raise
            self.applied.errors[intent.change] = f"{intent.change.path.name}: {getattr(error, 'strerror', error)}"
            self.outcomes.append((intent, False))
            return False
        return True

    def _write(self, intent: _Intent) -> None:
        change, name = intent.change, temporary_name(self._uid, intent.row)
        parent = self._parents[intent.row] = self._folders.relative(change.path.parent)
        if change.after is not None and change.after != change.before:
            folder = self._folders.at(parent, make=change.before is None)
            folder.write_new(name, change.after, private=change.before is not None)
            self._temporaries[intent.row] = parent, name

    def _sync(self, intent: _Intent) -> None:
        if intent.row not in self._temporaries:
            return
        parent, name = self._temporaries[intent.row]
        try:
            self._folders.at(parent).sync(name)
        except OSError as error:
            if error.errno not in FOR_ALL_FILES:
                raise
            # After a failed sync the data may be gone from memory too: write it again.
            self._folders.at(parent).remove(name)
            self._write(intent)
            self._folders.at(parent).sync(name)

    def _replace(self, intent: _Intent) -> None:
        """Put the temporary file in place if the file is unchanged, which is checked as late as possible."""
        change, folder = intent.change, self._folders.find(self._parents[intent.row])
        is_unchanged = _has_content(folder, change.path.name, change.before)
        if is_unchanged and folder is not None and change.after is None:
            folder.remove(change.path.name)
        elif intent.row in self._temporaries and is_unchanged and folder is not None:
            self._put_in_place(folder, intent)
        (self.applied.made if is_unchanged else self.applied.conflicts).append(change)
        self.outcomes.append((intent, is_unchanged))

    def _put_in_place(self, folder: Folder, intent: _Intent) -> None:
        change, temporary = intent.change, temporary_name(self._uid, intent.row)
        try:
            folder.replace(temporary, change.path.name)
        except OSError as error:
            # On a network share the reply may be lost although the file is in place.
            if not _has_content(folder, change.path.name, change.after):
                if error.errno not in FOR_ALL_FILES:
                    raise
                folder.replace(temporary, change.path.name)
        del self._temporaries[intent.row]


def _has_content(folder: Folder | None, name: str, data: bytes | None) -> bool:
    if folder is None:
        return data is None
    try:
        return folder.read(name, len(data or b"")) == data
    except OSError as error:
        if error.errno == errno.EFBIG:
            return False
        raise


def record_existing(catalog: Catalog, path: Path, state: SidecarState) -> None:
    """Record a file that already has the text that sdprep would write; call it inside a transaction."""
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


def _record_outcome(catalog: Catalog, intent: _Intent | RecordedChange, status: str) -> None:
    catalog.db.execute("UPDATE journal SET status = ? WHERE id = ?", (status, intent.row))
    if status == "done":
        catalog.set_state(intent.key, intent.state_after)


def recover(catalog: Catalog, folder: Path | None) -> None:
    """Resolve the intents of killed runs by the content of each file; the lock of the catalog must be held.

    The new content: it was written. The old content: it was not. Anything else: it has been edited since, and the row
    becomes "unclear", so that the old text can still be restored. Only files in the catalog's own folder and in
    `folder` are read, unless `folder` is None: a catalog that came with images may name any file. The intents for
    other files, of runs that sdprep did not name, and for files that cannot be read now stay open.
    """
    if _open_changes(catalog):
        with catalog.transaction():
            for intent, outcome in _outcomes(catalog, folder, remove_temporary=True):
                _record_outcome(catalog, intent, outcome)


def _open_changes(catalog: Catalog) -> list[RecordedChange]:
    """The changes without an outcome, oldest first."""
    return list(catalog.changes("WHERE status = 'intent'"))


def infer_outcomes(catalog: Catalog, folder: Path | None) -> None:
    """Tell a catalog that is only read which outcome `recover` would record for each open change."""
    catalog.outcomes.update(
        (intent.row, outcome) for intent, outcome in _outcomes(catalog, folder, remove_temporary=False)
    )


def _outcomes(catalog: Catalog, folder: Path | None, *, remove_temporary: bool) -> Iterator[tuple[RecordedChange, str]]:
    """Each open change whose file may be read, and its outcome."""
    own = catalog.root
    with Folders(own) as inside, Folders(folder or Path(own.anchor)) as outside:
        for intent in _open_changes(catalog):
            path = catalog.path(intent.key)
            for folders in (inside, outside) if UID.fullmatch(intent.uid) else ():
                # A file that cannot be reached from the one may be below the other.
                with suppress(OSError, ValueError):
                    parent = folders.find(folders.relative(path.parent))
                    if parent is not None and remove_temporary:
                        parent.remove(temporary_name(intent.uid, intent.row))
                    yield intent, _outcome(intent, path.name, parent)
                    break


def _outcome(intent: RecordedChange, name: str, folder: Folder | None) -> str:
    data = None if folder is None else folder.read(name, FILE_LIMIT)
    found = None if data is None else hashlib.sha256(data).digest()
    return "done" if found == intent.after else "void" if found == intent.before else "unclear"
