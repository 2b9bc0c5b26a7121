"""`sdprep undo`: what a run changed is as it was before."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from itertools import groupby, islice
from pathlib import Path

from sdprep.catalog.catalog import Catalog, RunInfo
from sdprep.catalog.history import SESSION, UNDONE, RunEntry, UndoStep, file_hash
from sdprep.catalog.journal import Change
from sdprep.catalog.session import AccessMode, CatalogAccess
from sdprep.files import FILE_LIMIT
from sdprep.folders import Folders
from sdprep.paths import is_inside
from sdprep.report import CancelToken, Listener, NullListener, RunReport
from sdprep.sanitize import printable, strip_invisible
from sdprep.tasks.changes import apply_changes, path_of
from sdprep.tasks.history.runs import check_target, choose_run, described, is_part_of, runs_below, steps_of
from sdprep.tasks.remembered import take_back
from sdprep.tasks.run_info import catalogs_of, run_info
from sdprep.types import FailureCode

CHANGED = "it was edited after that run; use --force to undo the change anyway"
GONE = "it was moved or deleted after that run, and is at no other place here; --force writes it again"
OUTSIDE = "it is outside the folder of its catalog; if you trust the catalog, use --catalog {}"

# Files of an undo that are committed together; a stop is checked between two groups.
GROUP = 64


def undo(
    directory: Path,
    run: str | None = None,
    *,
    force: bool = False,
    dry_run: bool = False,
    catalog: Path | None = None,
    listener: Listener | None = None,
    stop: CancelToken | None = None,
    session: str | None = None,
) -> RunReport:
    """Restore every file below a folder that a run changed; without a name, of the last run that changed any there.

    `run` may be a session of `review`, for all its runs; `session` is the one that this undo belongs to. The run is
    looked for in the nearest catalog at or above the folder, or else in the only one below it. A file that was edited
    since is a failure unless `force` is set. An undo is a run and can be undone; an interrupted one is resumed.

    Raises CatalogError if there is no such run, and UsageError if only several catalogs below the folder have runs.
    """
    began = time.monotonic()
    listener, stop = listener or NullListener(), CancelToken() if stop is None else stop
    access = CatalogAccess("undo", AccessMode.READ if dry_run else AccessMode.CHANGE, listener.note)
    check_target(directory, run, catalog)
    with catalogs_of(directory, catalog, access) as (opened, found):
        entries = runs_below(opened, found[:1] if run is None else found, directory, catalog)
        chosen, unfinished = choose_run(entries, run, directory)
        info = _info(chosen, force, session)
        report = RunReport("undo", run=None if dry_run else info.uid, dry_run=dry_run)
        stop.interruptible = True
        steps = [(each, steps_of(each, chosen, opened, directory, catalog, stop)) for each in found]
        _announce(listener, chosen, sum(len(some) for _, some in steps), dry_run=dry_run)
        for each, some in steps:
            _undo_steps(each, some, info, report, stop, listener, trusted=catalog is not None)
        stop.interruptible = False
        report.stopped, report.seconds = stop.exit_code, time.monotonic() - began
        for each in () if stop else found:
            below = directory if catalog is None and is_part_of(directory, each) else each.root
            _finish(each, chosen, below, [info.uid, *([unfinished] if unfinished else [])], report, listener.note)
    report.check()
    return report


def _info(undone: RunEntry, force: bool, session: str | None) -> RunInfo:
    of_session = {} if session is None else {SESSION: session}
    return run_info("undo", {UNDONE: undone.uid, "force": force, **of_session}, None)


def _finish(
    catalog: Catalog, undone: RunEntry, folder: Path, runs: list[str], report: RunReport, note: Callable[[str], None]
) -> None:
    """Take back what a run stated for a folder and below, and end the runs that undid it; a dry run only says it."""
    if flags := take_back(catalog, undone.uid, report.run, folder):
        note(f"{'would take back' if report.dry_run else 'taken back'} what the run stated: {flags}")
    with nullcontext() if report.dry_run else catalog.transaction():
        for uid in () if report.dry_run else runs:
            catalog.end_run(uid, report.as_dict())


def _announce(listener: Listener, entry: RunEntry, count: int, *, dry_run: bool) -> None:
    files, folder = f"{count} file{'' if count == 1 else 's'}", strip_invisible(printable(str(entry.folder)))
    listener.note(f"{'would undo' if dry_run else 'undoing'} run {described(entry)} in {folder}: {files}")
    listener.stage("undoing", count, "files")


def _confined(catalog: Catalog, steps: Iterable[UndoStep], report: RunReport) -> Iterator[UndoStep]:
    """The steps in the catalog's folder: a catalog that came with images may name any file."""
    for step in steps:
        if is_inside(step.path.parent, catalog.root):
            yield step
        else:
            report.found += 1
            report.refuse(str(step.path), FailureCode.UNWRITABLE, OUTSIDE.format(catalog.file))


def _undo_steps(
    catalog: Catalog,
    steps: Iterable[UndoStep],
    info: RunInfo,
    report: RunReport,
    stop: CancelToken,
    listener: Listener,
    *,
    trusted: bool,
) -> None:
    """Undo changes of one catalog in groups; a stop leaves the rest."""
    queue = iter(steps if trusted else _confined(catalog, steps, report))
    force = bool(info.settings["force"])
    while not stop and (group := list(islice(queue, GROUP))):
        # A trusted catalog may name files anywhere; on Windows each drive has a root of its own.
        for root, some in groupby(group, lambda step: Path(step.path.anchor) if trusted else catalog.root):
            with Folders(root) as folders:
                changes = [_change_for(catalog, step, folders, force, report) for step in some]
            wanted = [change for change in changes if change is not None]
            if report.dry_run:
                report.remaining += len(wanted)
                report.planned += [_as_planned(change) for change in wanted]
                continue
            apply_changes(catalog, info, wanted, root, report, on_conflict=refuse(report, CHANGED))
        listener.advance(len(group))
    rest = len(list(queue))
    report.found += rest
    report.remaining += rest


def _as_planned(change: Change) -> dict[str, str]:
    return {"path": path_of(change), "change": "delete" if change.after is None else "restore"}


def refuse(report: RunReport, message: str) -> Callable[[Change], None]:
    """Return a function that counts a file that has changed as a failure."""
    return lambda change: report.refuse(path_of(change), FailureCode.CHANGED_SINCE, message)


def _change_for(catalog: Catalog, step: UndoStep, folders: Folders, force: bool, report: RunReport) -> Change | None:
    """The change that undoes one step; None, and counted, if there is nothing to do or it must not be done."""
    report.found += 1
    try:
        data = folders.read(step.path, FILE_LIMIT)
    except OSError as error:
        report.refuse(str(step.path), FailureCode.UNREADABLE, str(error.strerror))
        return None
    key = catalog.key(step.path)
    changes_state = step.before == step.after and catalog.state_id_of(key) != step.state
    if file_hash(data) == step.before and not changes_state:
        report.current += 1
        return None
    # A power cut may have left a file of 0 bytes.
    if data != b"" and file_hash(data) != step.after and not force:
        report.refuse(str(step.path), FailureCode.CHANGED_SINCE, GONE if data is None else CHANGED)
        return None
    return Change(step.path, data, None if step.before is None else catalog.text(step.before), step.state)
