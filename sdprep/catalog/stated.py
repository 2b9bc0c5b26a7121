"""What was stated for the folders of a dataset: rows of the table `stated`, signed with a key of the user.

What a run replaced there is kept in `stated_before`, so that undoing the run brings it back.

A catalog may come with the images. A row without a valid signature was not written on this machine by this user, and
may set no more than a settings file that came with the images.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from platformdirs import user_data_path

from sdprep.catalog.catalog import Catalog
from sdprep.catalog.moves import Move
from sdprep.catalog.schema import Key, as_key, as_text, dump, parse_json
from sdprep.files import NEW_FILE, read_limited, write_all

KEY_BYTES = 32
COLUMNS = "place, task, option, value, origin, run"
# The origin of a row that an image brought along from its former folder; what its new folder states counts more.
MOVED = "moved"


@dataclass(frozen=True, slots=True)
class StatedRow:
    """An option that was stated at a place: the key of a folder ("" for that of the catalog) or of an image.

    `value` is JSON. `origin` says where it was stated: "flag", "environment", "--config", or "api" by a program.
    `is_signed` is set on rows that were read, and says whether this user stated it.
    """

    place: Key
    task: str
    option: str
    value: Any
    origin: str
    run: str
    is_signed: bool = False


def stated_rows(catalog: Catalog, task: str | None = None) -> list[StatedRow]:
    """All that was stated, for a task or all tasks, sorted by place. Raises DamagedCatalog."""
    rows = catalog.db.execute(f"SELECT {COLUMNS}, signature FROM stated ORDER BY place, task, option").fetchall()
    found = [row for row in _decoded(catalog, rows) if task in (None, row.task)]
    # In a catalog that is only read, places that were moved are not recorded.
    return found + _moved(found, catalog.moved_places) if catalog.moved_places else found


def _decoded(catalog: Catalog, rows: Iterable[Sequence[Any]]) -> list[StatedRow]:
    """Rows by their COLUMNS and signature."""
    found = []
    with catalog.decoding("a setting of an earlier run"):
        for place, *texts, signature in rows:
            if not isinstance(place, (str, bytes)):
                raise TypeError(f"{place!r:.100} is not the name of a file")
            task, option, value, origin, run = map(as_text, texts)
            own = _signature(place, *texts)
            is_signed = own is not None and isinstance(signature, bytes) and hmac.compare_digest(signature, own)
            found.append(StatedRow(place, task, option, parse_json(value), origin, run, is_signed))
    return found


def stated_places(catalog: Catalog) -> set[Key]:
    """The places for which something was stated."""
    return {place for [place] in catalog.db.execute("SELECT DISTINCT place FROM stated")}


def _moved(rows: Iterable[StatedRow], places: Mapping[Key, Key]) -> list[StatedRow]:
    """The rows of former places as those of new ones, by new place."""
    by_place = _by_place(rows)
    return [replace(row, place=place) for place, former in places.items() for row in by_place.get(former, [])]


def move_places(catalog: Catalog, moves: Sequence[Move]) -> None:
    """Let what was stated for folders and images also hold where they are now, and forget places that are gone.

    Call it inside a transaction. A row that this user did not sign is not signed now.
    """
    rows = _moved(stated_rows(catalog), {move.key: move.former for move in moves})
    for place in {move.former for move in moves if move.is_gone} | {row.place for row in rows}:
        catalog.db.execute("DELETE FROM stated WHERE place = ?", (place,))
    state_again(catalog, rows)
    for move in moves:
        if move.is_gone:
            _move_before(catalog, move)


def _move_before(catalog: Catalog, move: Move) -> None:
    """Let what runs have replaced at a place be brought back where it is now."""
    where = "stated_before WHERE place = ?"
    untils = [until for [until] in catalog.db.execute(f"SELECT until FROM {where}", (move.former,))]
    found = catalog.db.execute(f"SELECT {COLUMNS}, signature FROM {where}", (move.former,)).fetchall()
    catalog.db.execute(f"DELETE FROM {where}", (move.former,))
    for until, row in zip(untils, _decoded(catalog, found), strict=True):
        texts = row.task, row.option, dump(row.value), row.origin, row.run
        signature = _signature(move.key, *texts) if row.is_signed else None
        catalog.db.execute(
            f"INSERT OR REPLACE INTO stated_before (until, {COLUMNS}, signature) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (until, move.key, *texts, signature),
        )


def state_again(catalog: Catalog, rows: Collection[StatedRow]) -> None:
    """Write rows that were read; one that this user did not sign is not signed now."""
    state(catalog, rows)
    catalog.db.executemany(
        "UPDATE stated SET signature = NULL WHERE place = ? AND task = ? AND option = ?",
        [(row.place, row.task, row.option) for row in rows if not row.is_signed],
    )


def state(catalog: Catalog, rows: Iterable[StatedRow]) -> None:
    """Write what was stated, inside a transaction; unsigned if this user can have no key."""
    for row in rows:
        texts = row.task, row.option, dump(row.value), row.origin, row.run
        catalog.db.execute(
            f"INSERT OR REPLACE INTO stated ({COLUMNS}, signature) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (row.place, *texts, _signature(row.place, *texts)),
        )


def forget(
    catalog: Catalog,
    place: Key,
    task: str | None = None,
    options: Collection[str] | None = None,
    *,
    until: str | None = None,
    with_folders: bool = True,
) -> None:
    """Drop what was stated at a place and below, for a task and some options or for all.

    It is kept for undoing the run `until`. Not `with_folders`, what was stated for folders below and their images
    stays.
    """
    gone = [
        row
        for row in stated_rows(catalog, task)
        if _is_at_or_below(row.place, place) and (options is None or row.option in options)
        if with_folders or row.place == place or _is_image_in(catalog, row.place, place)
    ]
    with catalog.transaction():
        _drop(catalog, gone, until)


def _drop(catalog: Catalog, rows: Iterable[StatedRow], until: str | None) -> None:
    keys = [(row.place, row.task, row.option) for row in rows]
    if until is not None:
        catalog.db.executemany(
            f"INSERT OR IGNORE INTO stated_before SELECT ?, {COLUMNS}, signature FROM stated "
            "WHERE place = ? AND task = ? AND option = ?",
            [(until, *key) for key in keys],
        )
    catalog.db.executemany("DELETE FROM stated WHERE place = ? AND task = ? AND option = ?", keys)


def stated_by(catalog: Catalog, run: str, folder: Key = "") -> list[StatedRow]:
    """What a run stated for a folder and below, or brought back, and no later run has replaced."""
    found = catalog.db.execute("SELECT place, task, option FROM stated WHERE run = ? OR since = ?", (run, run))
    keys = set(found.fetchall())
    rows = [row for row in stated_rows(catalog) if (row.place, row.task, row.option) in keys]
    return [row for row in rows if _is_at_or_below(row.place, folder)]


def take_back(catalog: Catalog, run: str, undoing: str, folder: Key = "") -> None:
    """Let what was stated before a run hold again for a folder and below, since the run `undoing`.

    What a later run has stated stays, also for a folder above. Call it inside a transaction.
    """
    _drop(catalog, stated_by(catalog, run, folder), undoing)
    found = catalog.db.execute(f"SELECT {COLUMNS}, signature FROM stated_before WHERE until = ?", (run,)).fetchall()
    before = [row for row in _decoded(catalog, found) if _is_at_or_below(row.place, folder)]
    numbers = dict(catalog.db.execute("SELECT uid, id FROM runs").fetchall())
    now = [(row, numbers.get(row.run, 0) > numbers.get(run, 0)) for row in stated_rows(catalog)]
    rows = [row for row in before if not any(_outlives(each, row, is_later=is_later) for each, is_later in now)]
    state_again(catalog, rows)
    catalog.db.executemany(
        "UPDATE stated SET since = ? WHERE place = ? AND task = ? AND option = ?",
        [(undoing, row.place, row.task, row.option) for row in rows],
    )
    _forget_replaced(catalog, run, undoing, folder)


def _outlives(now: StatedRow, row: StatedRow, *, is_later: bool) -> bool:
    """Whether what is stated now counts more than what a run had replaced; `is_later`, it was stated after that run."""
    is_same_option = (now.task, now.option) == (row.task, row.option)
    return is_same_option and (now.place == row.place or (is_later and _is_at_or_below(row.place, now.place)))


def _forget_replaced(catalog: Catalog, run: str, undoing: str, folder: Key) -> None:
    """Let later runs that replaced what a run stated have replaced what was there before it."""
    query = "SELECT until, place, task, option FROM stated_before WHERE run = ? AND until != ?"
    for until, *key in catalog.db.execute(query, (run, undoing)).fetchall():
        if _is_at_or_below(key[0], folder):
            where = "WHERE until = ? AND place = ? AND task = ? AND option = ?"
            catalog.db.execute(f"DELETE FROM stated_before {where}", (until, *key))
            catalog.db.execute(f"UPDATE stated_before SET until = ? {where}", (until, run, *key))


def _is_image_in(catalog: Catalog, place: Key, folder: Key) -> bool:
    """Whether a place is a file of a folder itself."""
    path = catalog.path(place)
    return path.parent == catalog.path(folder) and not path.is_dir()


def _is_at_or_below(place: Key, folder: Key) -> bool:
    name, above = os.fsencode(place), os.fsencode(folder)
    if not above:
        # The key of what lies outside the catalog's folder is absolute.
        return not Path(os.fsdecode(name)).is_absolute()
    return name == above or name.startswith(above + b"/")


def keep_settings(catalog: Catalog, former: Sequence[StatedRow], images: Iterable[Move]) -> list[StatedRow]:
    """Let images that were moved keep what counted at their former places and is not stated at their new ones.

    `former` has the rows from before the moves of places. Call it inside a transaction, unless the catalog is only
    read: that answers as if the new rows were written. Returns them.
    """
    before, after = _by_place(former), _by_place(stated_rows(catalog))
    rows = []
    for move in images if before else ():
        if move.is_gone:
            here = {(row.task, row.option) for place in _at_and_above(move.key) for row in after.get(place, ())}
            # From the top down: the nearest folder counts.
            above = [row for place in _at_and_above(move.former)[:-1] for row in before.get(place, ())]
            counted = {(row.task, row.option): row for row in above}
            rows += [replace(row, place=move.key, origin=MOVED) for name, row in counted.items() if name not in here]
    if catalog.dry_run:
        catalog.kept_settings += rows
    else:
        state_again(catalog, rows)
    return rows


def _by_place(rows: Iterable[StatedRow]) -> dict[Key, list[StatedRow]]:
    found: dict[Key, list[StatedRow]] = {}
    for row in rows:
        found.setdefault(row.place, []).append(row)
    return found


def _at_and_above(place: Key) -> list[Key]:
    """The folders above a place and the place itself, from the top down."""
    name = os.fsdecode(place)
    above = [as_key(name[:end]) for end in range(1, len(name)) if name[end] == "/"]
    return [*([] if Path(name).is_absolute() else [""]), *above, place]


def _signature(place: Key, *texts: str) -> bytes | None:
    key, _ = user_key()
    message = json.dumps([os.fsencode(place).hex(), *texts])
    return None if key is None else hmac.digest(key, message.encode("ascii"), "sha256")


def user_key() -> tuple[bytes | None, str]:
    """The key that signs what this user states, made on first use; None with the reason if there can be none."""
    return _read_key(user_data_path("sdprep") / "key")


@lru_cache(maxsize=4)
def _read_key(file: Path) -> tuple[bytes | None, str]:
    try:
        if not file.exists():
            _make_key(file)
        key = read_limited(file, KEY_BYTES)
    except OSError as error:
        return None, f"{file}: {error.strerror or error}"
    return (key, "") if len(key) == KEY_BYTES else (None, f"{file} is damaged; delete it, and sdprep makes a new one")


def _make_key(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}-{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(temporary, NEW_FILE, 0o600)
        try:
            write_all(descriptor, secrets.token_bytes(KEY_BYTES))
        finally:
            os.close(descriptor)
        # In one step: another run never reads half a key.
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
