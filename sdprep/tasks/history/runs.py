"""`sdprep log`: the runs of a dataset, and the one that is meant."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from sdprep.catalog.catalog import Catalog
from sdprep.catalog.history import SESSION, RunEntry, UndoStep, in_order, reversals, runs
from sdprep.catalog.session import AccessMode, CatalogAccess, CatalogSession, catalogs_below, find_catalog
from sdprep.config import SETTINGS, option_names, value_of
from sdprep.errors import CatalogError, DamagedCatalog, UsageError
from sdprep.files import real_path
from sdprep.paths import is_inside
from sdprep.report import CancelToken, Listener, NullListener
from sdprep.rules.edits.operations import FLAGS
from sdprep.rules.mixed_text import MODELS
from sdprep.sanitize import strip_invisible
from sdprep.tasks.annotation.moves import recognise_below
from sdprep.tasks.option_values import as_argument
from sdprep.tasks.run_info import catalogs_of

# Datasets that are listed if an undo could mean several.
MOST_LISTED = 10
# The command whose sessions have many runs, and the one whose options are done in their order.
REVIEW, EDIT = "review", "edit"


def log(directory: Path, *, catalog: Path | None = None, listener: Listener | None = None) -> list[RunEntry]:
    """The runs in the catalogs of a folder, oldest first; a run over several catalogs is one entry.

    For a folder inside a dataset, those that changed a file below it.
    """
    access = CatalogAccess("log", AccessMode.READ, (listener or NullListener()).note)
    with catalogs_of(directory, catalog, access) as (session, found):
        entries = runs_below(session, found, directory, catalog)
    # The catalog is untrusted, as it may have come with the images: nothing in it may move a cursor.
    return [
        replace(
            entry,
            uid=strip_invisible(entry.uid),
            command=strip_invisible(entry.command),
            settings={**entry.settings, SESSION: strip_invisible(entry.session)} if entry.session else entry.settings,
            model=None if entry.model is None else strip_invisible(entry.model),
        )
        for entry in entries
    ]


def folded(entries: Sequence[RunEntry]) -> list[RunEntry]:
    """The same runs with those of a session of `review` as one entry, at the place of its first."""
    found: dict[str, RunEntry] = {}
    for entry in entries:
        if entry.session is None:
            found[entry.uid] = entry
            continue
        first = found.get(entry.session, replace(entry, uid=entry.session, command=REVIEW, changed=0, stated={}))
        ids = (*first.folded, entry.uid)
        settings = {SESSION: entry.session}
        changed = first.changed + entry.changed
        found[entry.session] = replace(first, changed=changed, ended=entry.ended, folded=ids, settings=settings)
    return list(found.values())


def changed_settings(entry: RunEntry) -> dict[str, Any]:
    """The settings of a run that are not the built-in ones of this sdprep, by option; of other commands, none."""
    kind = SETTINGS.get(entry.command)
    if kind is None:
        return {}
    built_in = json.loads(json.dumps({name: value_of(kind(), name) for name in option_names(kind)}, default=str))
    return {name: value for name, value in sorted(entry.settings.items()) if built_in.get(name) != value}


def stated_options(entry: RunEntry) -> list[tuple[str, Any]]:
    """What was stated for a run: each option with its value, the operations of an edit in the order they were done."""
    done = _operations(entry.settings.get("operations")) if entry.command == EDIT else []
    names = {name for name, _ in done}
    others = [(option, value) for option, value in entry.stated.items() if option not in names]
    return [*((name, True if name in FLAGS else value) for name, value in done), *others]


def _operations(value: Any) -> list[tuple[str, str]]:
    """The operations that a catalog has for an edit; none if it has something else in their place."""
    try:
        return msgspec.convert(value, list[tuple[str, str]])
    except msgspec.ValidationError:
        return []


def runs_below(session: CatalogSession, catalogs: list[Catalog], directory: Path, fixed: Path | None) -> list[RunEntry]:
    """The runs that changed files below a folder, oldest first; all runs of a catalog that was named or is below it."""
    folder, found = real_path(directory), []
    for catalog in catalogs:
        is_inside = fixed is None and is_part_of(folder, catalog)
        if is_inside:
            recognise_below(session, folder, CancelToken())
        found.append(runs(catalog, catalog.prefix(folder) if is_inside else ""))
    return in_order(found)


def is_part_of(directory: Path, catalog: Catalog) -> bool:
    """Whether a folder is a part of a dataset, and not all of it."""
    folder = real_path(directory)
    return folder.is_relative_to(catalog.root) and folder != catalog.root


def check_target(directory: Path, run: str | None, fixed: Path | None) -> None:
    """Raise UsageError for a folder in place of a run, and if neither run nor catalog tell which dataset is meant."""
    folder = real_path(directory)
    if run is not None and Path(run).is_dir():
        raise UsageError(f"{run} is a folder and no run\nUndo its last run: sdprep undo --dir {as_argument(run)}")
    if run is not None or fixed is not None:
        return
    if find_catalog(folder) is not None or len(files := list(catalogs_below(folder))) < 2:
        return
    lines = []
    with CatalogSession([folder], CatalogAccess("undo", AccessMode.READ, NullListener().note)) as opened:
        for file in files:
            try:
                changing = [entry for entry in runs(opened.at(file)) if entry.changed]
            except DamagedCatalog:
                last = "its catalog is damaged"
            else:
                last = described(changing[-1]) if changing else "no run has changed a file"
            lines.append(f"  {file.parent.parent}: {last}")
    shown = [*lines[:MOST_LISTED], *([f"  and {len(lines) - MOST_LISTED} more"] if len(lines) > MOST_LISTED else [])]
    raise UsageError(
        "\n".join([f"{len(lines)} datasets below {directory} have runs of their own; the last of each:", *shown])
        + "\nChoose one: sdprep undo --dir FOLDER, or name a run of several: sdprep undo RUN"
    )


def described(entry: RunEntry) -> str:
    """A run in words: its id, command and model."""
    models = MODELS.join(each.partition("#")[0] for each in (entry.model or "").split(MODELS))
    return strip_invisible(f"{entry.uid} ({entry.command}{', ' if models else ''}{models})")


def choose_run(entries: list[RunEntry], run: str | None, directory: Path) -> tuple[RunEntry, str | None]:
    """The run to undo, and the interrupted undo of it that is resumed, if there is one."""
    changing = [entry for entry in entries if entry.changed]
    if run is None:
        if not changing:
            raise CatalogError(f"no run has changed a file in {directory}")
        last = changing[-1]
        if last.undone and last.ended is None:
            # An undo may have been stopped before its first file.
            every = [*entries, *folded(entries)]
            return next((entry for entry in every if entry.uid == last.undone), last), last.uid
        return last, None
    every = [*entries, *(entry for entry in folded(entries) if entry.folded)]
    matching = {entry.uid: entry for entry in every if entry.uid.startswith(run)}
    if len(matching) != 1:
        what = "no run is" if not matching else f"{len(matching)} runs are"
        raise CatalogError(f"{what} named {run} in {directory}; `sdprep log` lists the runs")
    [entry] = matching.values()
    return entry, None


def steps_of(
    catalog: Catalog, entry: RunEntry, session: CatalogSession, directory: Path, fixed: Path | None, stop: CancelToken
) -> list[UndoStep]:
    """The steps that undo a run, or those of a session, below a folder; files that were moved since are looked for."""
    steps = reversals(catalog, entry.uids)
    if fixed is None and any(step.after is not None and _is_missing(catalog, step.path) for step in steps):
        recognise_below(session, catalog.root, stop)
        steps = reversals(catalog, entry.uids)
    if fixed is not None or not is_part_of(directory, catalog):
        return steps
    folder = real_path(directory)
    return [step for step in steps if Path(os.path.normpath(step.path)).is_relative_to(folder)]


def _is_missing(catalog: Catalog, path: Path) -> bool:
    return is_inside(path.parent, catalog.root) and not os.path.lexists(path)
