"""What the catalog tells of the past: runs, what each of them changed, and the versions of a file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from sdprep.data.catalog import Catalog
from sdprep.data.content import as_table
from sdprep.data.keys import Key

# The setting of an undo that names the run which it takes back.
UNDONE = "run"
# Seconds to the year 9000: no time zone moves it beyond the last year of calendars.
END_OF_CALENDARS = 221_845_392_000


@dataclass(frozen=True, slots=True)
class RunEntry:
    """A run as the log shows it; `ended` is None for one that was killed or is still at work.

    `undone` is the run that an undo takes back.
    """

    uid: str
    command: str
    model: str | None
    started: float
    ended: float | None
    changed: int
    undone: str | None = None


@dataclass(frozen=True, slots=True)
class Reversal:
    """A file that a run changed: the hash that it left, and what was there before (None: no file)."""

    path: Path
    before: bytes | None
    after: bytes | None
    state: int | None


@dataclass(frozen=True, slots=True)
class Version:
    """A text that a file has held; `text` is its hash, None while there was no file; `excerpt` its first line."""

    text: bytes | None
    excerpt: str | None
    origin: str


def runs(catalog: Catalog) -> list[RunEntry]:
    """All runs that are known, oldest first."""
    rows = catalog.db.execute(
        "SELECT uid, command, model, started, ended,"
        " (SELECT count(*) FROM journal WHERE run = runs.id AND status = 'done'), settings FROM runs ORDER BY id"
    )
    entries = []
    with catalog.decoding("its list of runs"):
        for uid, command, model, started, ended, changed, settings in rows:
            _check_time(started)
            _check_time(started if ended is None else ended)
            entries.append(RunEntry(uid, command, model, started, ended, changed, _undone(command, settings)))
    return entries


def _check_time(seconds: float) -> None:
    """Raise TypeError or ValueError for what is no time that calendars have."""
    if not 0 <= seconds < END_OF_CALENDARS:
        raise ValueError(f"{seconds} is no time")


def _undone(command: str, settings: str) -> str | None:
    return str(as_table(settings)[UNDONE]) if command == "undo" else None


def reversals(catalog: Catalog, uid: str) -> list[Reversal]:
    """What it takes to undo a run, a file once, in the order of the run."""
    rows = catalog.db.execute(
        "SELECT key, before, after, state_before FROM journal JOIN runs ON runs.id = journal.run"
        " WHERE uid = ? AND status IN ('done', 'unclear') ORDER BY journal.id",
        (uid,),
    )
    files: dict[Key, Reversal] = {}
    for key, before, after, state in rows:
        first = files.get(key)
        if first is not None:
            before, state = first.before, first.state
        files[key] = Reversal(catalog.path(key), before, after, state)
    return list(files.values())


def versions(catalog: Catalog, path: Path) -> list[Version]:
    """The texts that a file has held as far as the journal knows, oldest first."""
    rows = catalog.db.execute(
        "SELECT uid, command, before, after FROM journal JOIN runs ON runs.id = journal.run"
        " WHERE key = ? AND status IN ('done', 'unclear') ORDER BY journal.id",
        (catalog.key(path),),
    )
    found: list[Version] = []
    for uid, command, before, after in rows:
        if not found or found[-1].text != before:
            found.append(Version(before, _excerpt(catalog, before), f"found by run {uid}"))
        found.append(Version(after, _excerpt(catalog, after), f"written by {command}, run {uid}"))
    return found


def _excerpt(catalog: Catalog, text: bytes | None) -> str | None:
    return None if text is None else catalog.text(text)[:400].decode("utf-8", "replace").partition("\n")[0].strip()


def file_hash(data: bytes | None) -> bytes | None:
    """The hash under which the journal knows these bytes; None for no file."""
    return None if data is None else hashlib.sha256(data).digest()
