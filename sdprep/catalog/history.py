"""What the catalog knows of the past: runs, what each of them changed, and the versions of a file."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heappush
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from sdprep.catalog.catalog import Catalog, RecordedChange
from sdprep.catalog.moves import has_moves, history_of, key_now
from sdprep.catalog.schema import STATUSES, Key, as_number, as_table, as_text, as_time, one_of
from sdprep.folders import SIDECAR_LIMIT
from sdprep.sanitize import strip_invisible

# The setting of an undo that names the run it undoes.
UNDONE = "run"
# The setting of a run that names the session of `review` to which it belongs.
SESSION = "session"
# The outcome of a change; for an open one, what `infer_outcomes` found.
STATUS = "CASE status WHEN 'intent' THEN outcome(journal.id) ELSE status END"

# The status of a change that may have been made.
MADE = ("done", "unclear")


@dataclass(frozen=True, slots=True)
class RunEntry:
    """A run as the log shows it; `ended` is None if it was killed or is still running.

    `folder` is the one that it was given, as far as that is known, or that of its catalog; `undone` is the run that an
    undo undoes. `stated` has the options that were stated for it, with the JSON of their values, and `settings` all
    that it ran with; `served` has the models that a server says have answered, each with the number of its captions.
    Several runs of a session of `review` may be one entry: then `folded` has their ids.
    """

    uid: str
    command: str
    model: str | None
    started: float
    ended: float | None
    changed: int
    folder: Path
    undone: str | None = None
    stated: Mapping[str, Any] = field(default_factory=dict)
    served: Mapping[str, int] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    folded: tuple[str, ...] = ()

    @property
    def session(self) -> str | None:
        """The session of `review` that the run belongs to."""
        found = self.settings.get(SESSION)
        return found if isinstance(found, str) else None

    @property
    def uids(self) -> tuple[str, ...]:
        """The ids of the run, or of all runs of the session."""
        return self.folded or (self.uid,)


@dataclass(frozen=True, slots=True)
class UndoStep:
    """A file that a run changed: the hashes of its content before and after (None: no file), and its state before."""

    path: Path
    before: bytes | None
    after: bytes | None
    state: int | None


@dataclass(frozen=True, slots=True)
class Version:
    """A text that a file has had; `text` is its hash (None: no file), `excerpt` its first line."""

    text: bytes | None
    excerpt: str | None
    origin: str


def runs(catalog: Catalog, prefix: str = "") -> list[RunEntry]:
    """All recorded runs, oldest first, or those that changed a file whose key begins with this, with their number.

    Raises DamagedCatalog.
    """
    with catalog.decoding("its journal"):
        # The counts below would leave out a change whose status is damaged.
        for [status] in catalog.db.execute("SELECT DISTINCT status FROM journal"):
            one_of(status, STATUSES)
    counts = Counter(change.uid for change in _changes_below(catalog, prefix)) if prefix else None
    rows = catalog.db.execute(
        "SELECT uid, command, model, started, ended,"
        f" (SELECT count(*) FROM journal WHERE run = runs.id AND {STATUS} = 'done'), settings, report"
        " FROM runs ORDER BY id"
    )
    with catalog.decoding("its list of runs"):
        return [
            RunEntry(
                as_text(uid),
                as_text(command),
                None if model is None else as_text(model),
                as_time(started),
                None if ended is None else as_time(ended),
                changed if counts is None else counts[uid],
                _folder(catalog, settings),
                _undone(command, settings),
                as_stated(as_table(settings).get("stated", {})),
                {} if report is None else _served(as_table(report).get("served", {})),
                as_stated(_flat(as_table(settings))),
            )
            for uid, command, model, started, ended, changed, settings, report in rows
            if counts is None or counts[uid]
        ]


def _changes_below(catalog: Catalog, prefix: str) -> Iterator[RecordedChange]:
    """The changes that were made of files whose key begins with this now."""
    moved = has_moves(catalog)
    for change in catalog.changes():
        if catalog.outcomes.get(change.row, change.status) == "done":
            name = os.fsdecode(key_now(catalog, change.key, change.row) if moved else change.key)
            if name.startswith(prefix) and ".." not in name.split("/"):
                yield change


def _served(counts: Any) -> dict[str, int]:
    """The models that answered, in the report of a run. Raises one of NO_SENSE."""
    return {strip_invisible(as_text(name)): as_number(count) for name, count in dict(**counts).items()}


def _folder(catalog: Catalog, settings: str) -> Path:
    named = as_table(settings).get("folder")
    return catalog.root / named if isinstance(named, str) else catalog.root


def in_order(catalogs: Sequence[Sequence[RunEntry]]) -> list[RunEntry]:
    """Return the runs of several catalogs, each once, with its changes in all of them, oldest first.

    Within a catalog the order is that of the row numbers, not of the clock, which may have been set back. The clock
    only decides between runs that are in no catalog together.
    """
    merged: dict[str, RunEntry] = {}
    followers: dict[str, list[str]] = {}
    before: dict[str, int] = {}
    for entries in catalogs:
        for entry in entries:
            known = merged.get(entry.uid)
            merged[entry.uid] = replace(known, changed=known.changed + entry.changed) if known else entry
            before.setdefault(entry.uid, 0)
        for earlier, later in pairwise(entry.uid for entry in entries):
            followers.setdefault(earlier, []).append(later)
            before[later] += 1
    ready = [(merged[uid].started, uid) for uid, number in before.items() if number == 0]
    heapify(ready)
    ordered = []
    while ready:
        _, uid = heappop(ready)
        ordered.append(merged.pop(uid))
        for later in followers.get(uid, ()):
            before[later] -= 1
            if before[later] == 0:
                heappush(ready, (merged[later].started, later))
    # Catalogs that contradict each other, such as copies of different ages, leave runs that wait for each other.
    return ordered + sorted(merged.values(), key=lambda entry: entry.started)


def _undone(command: str, settings: str) -> str | None:
    return str(as_table(settings)[UNDONE]) if command == "undo" else None


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run by option, without their groups."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            found |= {} if name == "stated" else value
        elif name != "folder":
            found[name] = value
    return found


def as_stated(options: Any) -> dict[str, Any]:
    """The options that a run stated, without invisible characters. Raises TypeError for anything else."""
    if not isinstance(options, dict):
        raise TypeError(f"{options!r:.100} are not options")
    return {strip_invisible(name): _visible(value) for name, value in options.items()}


def _visible(value: Any) -> Any:
    if isinstance(value, list):
        return [_visible(each) for each in value]
    return strip_invisible(value) if isinstance(value, str) else value


def reversals(catalog: Catalog, uids: Collection[str]) -> list[UndoStep]:
    """The steps that undo runs, one per file, in their order, for each file at the place where it is now.

    A file that something else has changed between two of the runs has a step for each side of that change.
    """
    files: dict[Key, tuple[UndoStep, str]] = {}
    earlier: list[UndoStep] = []
    moved = has_moves(catalog)
    # Every row is read and checked: one with a damaged run number would be left out silently.
    for change in catalog.changes():
        if change.uid in uids and catalog.outcomes.get(change.row, change.status) in MADE:
            before, state = change.before, change.state_before
            if (found := files.get(change.key)) is not None:
                first, uid = found
                if first.after != before and not change.is_summed:
                    with catalog.decoding("its journal"):
                        raise ValueError("a change does not begin with what the one before left")
                if first.after == before or uid == change.uid:
                    before, state = first.before, first.state
                else:
                    earlier.append(first)
            key = key_now(catalog, change.key, change.row) if moved else change.key
            files[change.key] = UndoStep(catalog.path(key), before, change.after, state), change.uid
    return [step for step, _ in files.values()] + earlier


def versions(catalog: Catalog, path: Path) -> list[Version]:
    """The texts that a file has had according to the journal, oldest first, also those at its former paths."""
    found: list[Version] = []
    where = "WHERE key = ? AND journal.id BETWEEN ? AND ?"
    for change in chain.from_iterable(catalog.changes(where, *span) for span in history_of(catalog, catalog.key(path))):
        if catalog.outcomes.get(change.row, change.status) in MADE:
            uid, before, after = change.uid, change.before, change.after
            if not found or found[-1].text != before:
                found.append(Version(before, _excerpt(catalog, before), strip_invisible(f"found by run {uid}")))
            found.append(
                Version(after, _excerpt(catalog, after), strip_invisible(f"written by {change.command}, run {uid}"))
            )
    return found


def _excerpt(catalog: Catalog, text: bytes | None) -> str | None:
    if text is None:
        return None
    return strip_invisible(
        catalog.text(text, SIDECAR_LIMIT)[:400].decode("utf-8", "replace").partition("\n")[0].strip()
    )


def file_hash(data: bytes | None) -> bytes | None:
    """The hash of these bytes in the journal; None for no file."""
    return None if data is None else hashlib.sha256(data).digest()
