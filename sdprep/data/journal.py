"""Every change of a text file, written down before it happens, so that it can be taken back and a crash understood.

A change is: an intent row with the hashes of before and after, reading the file once more, a temporary file in the
same folder, `os.replace`, a done row. Intents left by a run that died are settled by looking at the file.
"""

from __future__ import annotations

import errno
import hashlib
import re
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sdprep.confine import is_inside
from sdprep.data.catalog import Catalog, OpenIntent, RunInfo
from sdprep.data.keys import Key
from sdprep.data.sidecar import read_bytes, read_inside, replace_file
from sdprep.errors import ImageError, WriteError
from sdprep.rules.decide import SidecarState

# What sdprep calls runs: a part of the names of files.
UID = re.compile(r"[0-9a-z-]{1,40}")
# What hinders the writing of one file, and of no other.
OBSTACLES = frozenset({errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.EISDIR})


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
    """Changes that were not made: `overtaken`, the file had changed since it was looked at; `refused`, and why."""

    overtaken: list[Change]
    refused: dict[Change, str]


@dataclass(frozen=True, slots=True)
class _Intent:
    row: int
    key: Key
    change: Change
    state: int | None


def temporary_path(path: Path, uid: str, row: int) -> Path:
    """The temporary file of a run's journal row: short whatever the file is called, and known after a crash."""
    return path.with_name(f".sdprep-{uid}-{row}.tmp")


def apply(catalog: Catalog, run: RunInfo, changes: Sequence[Change] | Callable[[], Sequence[Change]]) -> Applied:
    """Make the changes that can be made; the lock of the catalog must be held.

    A function that gives them is called in the transaction of the intents, and may write rows of its own in it.

    Raises WriteError when no file can be written, as on a full disk; what was done before it is journalled, and what
    is uncertain then, or after an interruption, is settled when the catalog is opened next.
    """
    applied = Applied([], {})
    with catalog.transaction():
        wanted = changes() if callable(changes) else changes
        number = catalog.begin_run(run) if wanted else 0
        intents = [_write_intent(catalog, number, change) for change in wanted]
    if not intents:
        return applied
    outcomes: list[tuple[_Intent, bool]] = []
    try:
        for intent in intents:
            outcomes.append((intent, _attempt(intent, run.uid, applied)))
    except OSError as error:
        raise WriteError(error, _made(outcomes)) from error
    finally:
        try:
            with catalog.transaction():
                for intent, done in outcomes:
                    _settle(catalog, intent, done=done)
        except sqlite3.OperationalError as error:
            raise WriteError(OSError(0, str(error), str(catalog.file)), _made(outcomes)) from error
    return applied


def _made(outcomes: Sequence[tuple[_Intent, bool]]) -> int:
    return sum(done for _, done in outcomes)


def _attempt(intent: _Intent, uid: str, applied: Applied) -> bool:
    """Whether the change was made; an obstacle of this one file is noted."""
    change = intent.change
    try:
        if _replace(intent, uid):
            return True
        applied.overtaken.append(change)
    except OSError as error:
        if error.errno not in OBSTACLES:
            raise
        applied.refused[change] = f"{change.path.name}: {error.strerror}"
    return False


def adopt(catalog: Catalog, path: Path, state: SidecarState) -> None:
    """Remember a text that is already what sdprep would write; inside a transaction."""
    catalog.set_state(catalog.key(path), catalog.store_state(state))


def _write_intent(catalog: Catalog, run: int, change: Change) -> _Intent:
    key = catalog.key(change.path)
    state = catalog.store_state(change.state) if isinstance(change.state, SidecarState) else change.state
    hashes = [None if data is None else catalog.store_text(data) for data in (change.before, change.after)]
    cursor = catalog.db.execute(
        "INSERT INTO journal (run, key, before, after, state_before, state_after, status)"
        " VALUES (?, ?, ?, ?, ?, ?, 'intent')",
        (run, key, *hashes, catalog.state_id_of(key), state),
    )
    return _Intent(int(cursor.lastrowid or 0), key, change, state)


def _replace(intent: _Intent, uid: str) -> bool:
    change = intent.change
    if read_bytes(change.path) != change.before:
        return False
    if change.after is None:
        change.path.unlink(missing_ok=True)
    else:
        if change.before is None:
            change.path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(change.path, change.after, temporary_path(change.path, uid, intent.row))
    return True


def _settle(catalog: Catalog, intent: _Intent, *, done: bool) -> None:
    status = "done" if done else "void"
    catalog.db.execute("UPDATE journal SET status = ? WHERE id = ?", (status, intent.row))
    if done:
        catalog.set_state(intent.key, intent.state)


def recover(catalog: Catalog, folder: Path | None) -> None:
    """Settle the intents of runs that died, by the bytes of each file; the lock of the catalog must be held.


    Those of after: it was written. Those of before: it was not. Any others: somebody changed it since, and the row
    stays as "unclear", so that the text from before can still be restored. Only files of the catalog's own folder and
    of `folder` are looked at, unless that is None: a catalog that came with pictures may name any file. Intents of
    others, of runs that sdprep did not name, and of files that cannot be read now, stay open.
    """
    intents = catalog.open_intents()
    if intents:
        with catalog.transaction():
            for intent in intents:
                path = catalog.path(intent.key)
                root = Path(path.anchor) if folder is None else _root_of(path, (catalog.root, folder))
                if root is not None and UID.fullmatch(str(intent.uid)):
                    with suppress(ImageError, OSError):
                        _recover_one(catalog, intent, path, root)


def _root_of(path: Path, roots: Sequence[Path]) -> Path | None:
    return next((root for root in roots if is_inside(path.parent, root)), None)


def _recover_one(catalog: Catalog, intent: OpenIntent, path: Path, root: Path) -> None:
    temporary_path(path, intent.uid, intent.row).unlink(missing_ok=True)
    data = read_inside(path, root)
    found = None if data is None else hashlib.sha256(data).digest()
    status = "done" if found == intent.after else "void" if found == intent.before else "unclear"
    catalog.db.execute("UPDATE journal SET status = ? WHERE id = ?", (status, intent.row))
    if status == "done":
        catalog.set_state(intent.key, intent.state)
