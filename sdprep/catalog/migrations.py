"""Migrating a catalog to this sdprep's schema, in one transaction, after a backup."""

from __future__ import annotations

import os
import posixpath
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from contextlib import closing
from itertools import count
from pathlib import Path, PurePath
from typing import Any

from sdprep.catalog.schema import NO_SENSE, STEPS, as_key, as_table, as_text, dump
from sdprep.errors import CatalogFailed, DamagedCatalog
from sdprep.files import sync_folder

# The first schema that has a table for what runs state.
STATED_SINCE = 3
ORIGIN = "an earlier sdprep"
# The options of 0.1 that are remembered today, with the values that they had there if nothing stated them.
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "tag": {
        "model": "wd-v1-4-swinv2-tagger-v2", "backend": "auto", "preprocess": None, "exact_decode": False,
        "model_dir": None, "tag_thresholds": None, "aliases": None, "implications": None, "caption_separator": ", ",
        "caption_extension": ".txt", "sidecar_name": "stem", "threshold": 0.35, "general_threshold": None,
        "character_threshold": None, "copyright_threshold": None, "artist_threshold": None, "meta_threshold": None,
        "model_threshold": None, "category_threshold": [], "remove_underscore": False, "exclude": [], "implied": "drop",
        "tag_replacement": [], "character_tag_expand": False, "character_tags_first": False, "always_first_tags": [],
        "ratings": "none", "quality": "none", "order": "confidence", "max_tags": None, "prefix": [], "suffix": [],
        "escape_parentheses": False,
    },
    "caption": {
        "model": "blip-large", "prompt": "a picture of", "num_beams": 3, "sample": False, "top_p": 0.9, "top_k": 0,
        "repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "bad_words": [], "best_of": None, "decode_again": True,
        "count_prompt": False, "min_length": 5, "max_length": 75, "seed": 42, "dtype": "float32", "decoder": "fast",
        "preprocess": None, "exact_decode": False, "captions": 1, "prefix": "", "suffix": "", "drop_words": [],
        "caption_extension": ".caption", "sidecar_name": "stem",
    },
    "merge": {
        "keys": "absolute", "fields": ["caption", "tags", "image_size"], "missing": "skip",
        "caption_extension": ".caption", "tag_extension": ".txt", "sidecar_name": "stem",
    },
}  # fmt: skip
# A relative path belongs to the folder in which the run was started, which is not known; one below the catalog's folder
# begins with "./" today.
PATHS = ("model_dir", "aliases", "implications", "tag_thresholds")

# By place, the options with their values and the id of the run that they are from.
_Stated = dict[str, dict[str, tuple[Any, str]]]


def migrate(db: sqlite3.Connection, file: Path | None, schema: int) -> Path | None:
    """Apply all steps after `schema` (0: an empty file), or none; return the backup that was made before.

    Raises CatalogFailed, DamagedCatalog, sqlite3.Error or OSError if the backup or a step fails; the catalog is then
    unchanged.
    """
    backup = _back_up(db, file, schema) if schema and file else None
    try:
        db.executescript(f"BEGIN IMMEDIATE; {''.join(STEPS[schema:])} PRAGMA user_version = {len(STEPS)};")
        if 0 < schema < STATED_SINCE:
            _seed_stated(db)
        db.execute("COMMIT")
    except BaseException as error:
        if db.in_transaction:
            db.execute("ROLLBACK")
        if schema and isinstance(error, sqlite3.Error) and type(error) is not sqlite3.DatabaseError:
            # Python raises plain DatabaseError for damage; its subclasses have other causes.
            raise CatalogFailed(
                f"{file} cannot be migrated to schema {len(STEPS)} and is unchanged: {error}"
            ) from error
        raise
    return backup


def _back_up(db: sqlite3.Connection, file: Path, schema: int) -> Path:
    """Copy a catalog to a file beside it, which gets its final name when it is complete and on the disk."""
    temporary = file.with_name(f"{file.name}.copy.tmp")
    # A killed run may have left it, and SQLite would follow a link.
    try:
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as error:
        raise CatalogFailed(
            f"{file} cannot be backed up before its migration: {temporary}: {error.strerror}. "
            "Move that file or folder away"
        ) from error
    try:
        with closing(sqlite3.connect(str(temporary), isolation_level=None)) as copy:
            db.backup(copy)
        os.fsync(descriptor)
        backup = _free_name(file.with_name(f"{file.name}.schema-{schema}"))
        temporary.rename(backup)
        sync_folder(file.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    return backup


def _free_name(wanted: Path) -> Path:
    names = (wanted.with_name(f"{wanted.name}.{number}") for number in count(2))
    return wanted if not os.path.lexists(wanted) else next(name for name in names if not os.path.lexists(name))


def _seed_stated(db: sqlite3.Connection) -> None:
    """State what the newest run of each folder had and 0.1 did not have by itself; inside a transaction.

    0.1 stored the settings of each run, but not which were stated. The rows are not signed, since the catalog may have
    come with the images. Raises DamagedCatalog.
    """
    try:
        for task, defaults in DEFAULTS.items():
            for place, options in _of_task(db, task, defaults).items():
                db.executemany(
                    "INSERT INTO stated (place, task, option, value, origin, run) VALUES (?, ?, ?, ?, ?, ?)",
                    [(as_key(place), task, name, dump(value), ORIGIN, run) for name, (value, run) in options.items()],
                )
    except NO_SENSE as error:
        raise DamagedCatalog(f"the catalog is damaged: a run in it is not as sdprep wrote it: {error}") from error


def _of_task(db: sqlite3.Connection, task: str, defaults: Mapping[str, Any]) -> _Stated:
    runs = db.execute("SELECT id, uid, settings FROM runs WHERE command = ? ORDER BY id", (task,)).fetchall()
    # A merge writes no sidecars: the last one counts for the folder of the catalog.
    folders = {runs[-1][0]: {""}} if task == "merge" and runs else _written_folders(db)
    stated: _Stated = {}
    seen: set[str] = set()
    for number, uid, settings in runs:
        written = folders.get(number, set())
        seen |= written
        outside = {folder for folder in written if PurePath(folder).is_absolute()}
        for group in (written - outside, outside):
            if group:
                values = {**defaults, **{name: each for name, each in _flat(settings).items() if name in defaults}}
                _state_at(stated, _place(group, seen), values, as_text(uid), defaults)
    return {place: options for place, options in stated.items() if options}


def _written_folders(db: sqlite3.Connection) -> dict[int, set[str]]:
    """By run, the folders of sidecars that are still as it wrote them as far as the catalog knows, and not undone."""
    found: dict[int, set[str]] = {}
    for run, key in db.execute(
        "SELECT journal.run, journal.key FROM journal JOIN sidecars ON sidecars.key = journal.key"
        " AND sidecars.state = journal.state_after WHERE journal.status != 'void'"
    ):
        found.setdefault(run, set()).add(posixpath.dirname(os.fsdecode(key)))
    return found


def _flat(settings: Any) -> dict[str, Any]:
    """The options in the settings of a run, which are in groups."""
    found: dict[str, Any] = {}
    for name, value in as_table(settings).items():
        found |= value if isinstance(value, dict) else {name: value}
    return {
        name: posixpath.normpath(value) if name in PATHS and isinstance(value, str) else value
        for name, value in found.items()
    }


def _place(written: Collection[str], seen: Iterable[str]) -> str:
    """The highest folder of which a run left out no folder that was ever written before."""
    place = posixpath.commonpath(sorted(written))
    seen = list(seen)
    while place and not PurePath(place).is_absolute():
        above = posixpath.dirname(place)
        if any(_is_at_or_below(each, above) and not _is_at_or_below(each, place) for each in seen):
            break
        place = above
    return place


def _state_at(stated: _Stated, place: str, values: Mapping[str, Any], run: str, defaults: Mapping[str, Any]) -> None:
    """Replace what is stated for a place and below, as a run with these values of all options does."""
    for below in [each for each in stated if _is_at_or_below(each, place)]:
        del stated[below]
    above = dict(defaults)
    for folder in sorted(each for each in stated if _is_at_or_below(place, each)):
        above |= {name: value for name, (value, _) in stated[folder].items()}
    stated[place] = {name: (value, run) for name, value in values.items() if value != above[name]}


def _is_at_or_below(place: str, folder: str) -> bool:
    return place == folder or (place.startswith(f"{folder}/") if folder else not PurePath(place).is_absolute())
