"""Every change of a text file, written down before it happens, so that it can be taken back and a crash understood.

A change is: an intent row with the hashes of before and after, reading the file once more, a temporary file in the
same folder, `os.replace`, a done row. Intents left by a run that died are settled by looking at the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sdprep.data.catalog import Catalog, RunInfo
from sdprep.data.sidecar import read_bytes, replace_file
from sdprep.errors import WriteError
from sdprep.rules.decide import SidecarState


@dataclass(frozen=True, slots=True)
class Change:
    """A file that shall hold `after` (None: be gone) if it still holds `before`; `state` is then known of it.

    `state` is a new state, the number of one that is stored, or None.
    """

    path: Path
    before: bytes | None
    after: bytes | None
    state: SidecarState | int | None = None


@dataclass(frozen=True, slots=True)
class _Intent:
    row: int
    change: Change
    state: int | None


def temporary_path(path: Path, uid: str, row: int) -> Path:
    """The temporary file of a run's journal row: short whatever the file is called, and known after a crash."""
    return path.with_name(f".sdprep-{uid}-{row}.tmp")


def apply(catalog: Catalog, run: RunInfo, changes: Sequence[Change]) -> list[Change]:
    """Make the changes, and return those that were not made because the file had changed since it was looked at.

    Raises WriteError if a file cannot be written; the changes before it are done and journalled.
    """
    with catalog.transaction():
        intents = [_write_intent(catalog, run, change) for change in changes]
    done: list[_Intent] = []
    overtaken: list[_Intent] = []
    try:
        for intent in intents:
            (done if _replace(intent, run.uid) else overtaken).append(intent)
    except OSError as error:
        raise WriteError(error) from error
    finally:
        settled = {intent.row for intent in done}
        with catalog.transaction():
            for intent in intents:
                _settle(catalog, intent, done=intent.row in settled)
    return [intent.change for intent in overtaken]


def adopt(catalog: Catalog, path: Path, state: SidecarState) -> None:
    """Remember a text that is already what sdprep would write; inside a transaction."""
    catalog.set_state(catalog.key(path), catalog.store_state(state))


def _write_intent(catalog: Catalog, run: RunInfo, change: Change) -> _Intent:
    key = catalog.key(change.path)
    state = catalog.store_state(change.state) if isinstance(change.state, SidecarState) else change.state
    hashes = [None if data is None else catalog.store_text(data) for data in (change.before, change.after)]
    cursor = catalog.db.execute(
        "INSERT INTO journal (run, key, before, after, state_before, state_after, status)"
        " VALUES (?, ?, ?, ?, ?, ?, 'intent')",
        (catalog.begin_run(run), key, *hashes, catalog.state_id_of(key), state),
    )
    return _Intent(int(cursor.lastrowid or 0), change, state)


def _replace(intent: _Intent, uid: str) -> bool:
    change = intent.change
    if read_bytes(change.path) != change.before:
        return False
    if change.after is None:
        change.path.unlink(missing_ok=True)
    else:
        change.path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(change.path, change.after, temporary_path(change.path, uid, intent.row))
    return True


def _settle(catalog: Catalog, intent: _Intent, *, done: bool) -> None:
    status = "done" if done else "void"
    catalog.db.execute("UPDATE journal SET status = ? WHERE id = ?", (status, intent.row))
    if done:
        catalog.set_state(catalog.key(intent.change.path), intent.state)


def recover(catalog: Catalog) -> None:
    """Settle the intents of runs that died: a file with the bytes of after was written, any other was not."""
    rows = catalog.db.execute(
        "SELECT journal.id, uid, key, after, state_after FROM journal JOIN runs ON runs.id = journal.run"
        " WHERE status = 'intent'"
    ).fetchall()
    if not rows:
        return
    with catalog.transaction():
        for row, uid, key, after, state in rows:
            path = catalog.path(key)
            temporary_path(path, uid, row).unlink(missing_ok=True)
            data = read_bytes(path)
            found = None if data is None else hashlib.sha256(data).digest()
            done = found == after
            catalog.db.execute("UPDATE journal SET status = ? WHERE id = ?", ("done" if done else "void", row))
            if done:
                catalog.set_state(key, state)
