"""`sdprep log`, `undo`, `restore` and `retry`: what earlier runs did, undoing it, and trying again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path

from sdprep.catalog.catalog import Catalog, RunInfo
from sdprep.catalog.history import UNDONE, RunEntry, UndoStep, Version, file_hash, in_order, reversals, runs, versions
from sdprep.catalog.journal import Change
from sdprep.catalog.schema import CODES, as_text
from sdprep.catalog.session import AccessMode, CatalogAccess, CatalogSession, catalogs_below, find_catalog
from sdprep.errors import CatalogError, UsageError
from sdprep.files import FILE_LIMIT, real_path
from sdprep.folders import Folders, read_below
from sdprep.images.decoder import DECODER
from sdprep.images.source import is_image
from sdprep.paths import is_inside
from sdprep.report import CancelToken, Listener, NullListener, RunReport
from sdprep.rules.mixed_text import MODELS
from sdprep.sanitize import printable, strip_invisible
from sdprep.tasks.annotation.moves import recognise_below, recognise_sidecar
from sdprep.tasks.changes import apply_changes, path_of
from sdprep.tasks.option_values import as_argument
from sdprep.tasks.remembered import take_back
from sdprep.tasks.run_info import catalogs_of, run_info
from sdprep.types import FailureCode

CHANGED = "it was edited after that run; use --force to undo the change anyway"
GONE = "it was moved or deleted after that run, and is at no other place here; --force writes it again"
OUTSIDE = "it is outside the folder of its catalog; if you trust the catalog, use --catalog {}"
EMPTY = file_hash(b"")
# Failures that end or block the process that decodes the image; all others are reported by the decoder.
CRASH_CODES = (FailureCode.CRASHED, FailureCode.TIMED_OUT)
# Files of an undo that are committed together; a stop is checked between two groups.
GROUP = 64
# Datasets that are listed if an undo could mean several.
MOST_LISTED = 10


@dataclass(frozen=True, slots=True)
class KnownFailure:
    """An image that is not tried again, and why."""

    path: Path
    code: FailureCode
    message: str


def log(directory: Path, *, catalog: Path | None = None) -> list[RunEntry]:
    """The runs in the catalogs of a folder, oldest first; a run over several catalogs is one entry.

    For a folder inside a dataset, those that changed a file below it.
    """
    access = CatalogAccess("log", AccessMode.READ, NullListener().note)
    with catalogs_of(directory, catalog, access) as (session, found):
        entries = _runs_below(session, found, directory, catalog)
    # The catalog is untrusted, as it may have come with the images: nothing in it may move a cursor.
    return [
        replace(
            entry,
            uid=strip_invisible(entry.uid),
            command=strip_invisible(entry.command),
            model=None if entry.model is None else strip_invisible(entry.model),
        )
        for entry in entries
    ]


def _runs_below(
    session: CatalogSession, catalogs: list[Catalog], directory: Path, fixed: Path | None
) -> list[RunEntry]:
    """The runs that changed files below a folder, oldest first; all runs of a catalog that was named or is below it."""
    folder, found = real_path(directory), []
    for catalog in catalogs:
        is_inside = fixed is None and _is_inside(folder, catalog)
        if is_inside:
            recognise_below(session, folder, CancelToken())
        found.append(runs(catalog, catalog.prefix(folder) if is_inside else ""))
    return in_order(found)


def _is_inside(directory: Path, catalog: Catalog) -> bool:
    """Whether a folder is a part of a dataset, and not all of it."""
    folder = real_path(directory)
    return folder.is_relative_to(catalog.root) and folder != catalog.root


def undo(
    directory: Path,
    run: str | None = None,
    *,
    force: bool = False,
    dry_run: bool = False,
    catalog: Path | None = None,
    listener: Listener | None = None,
    stop: CancelToken | None = None,
) -> RunReport:
    """Restore every file below a folder that a run changed; without a name, of the last run that changed any there.

    That run is looked for in the nearest catalog at or above the folder, or else in the only one below it. A file that
    was edited since is a failure unless `force` is set. An undo is itself a run and can be undone; an interrupted one
    is resumed. A dry run lists the files.

    Raises CatalogError if there is no such run, and UsageError if only several catalogs below the folder have runs.
    """
    began = time.monotonic()
    note, stop = (listener or NullListener()).note, CancelToken() if stop is None else stop
    access = CatalogAccess("undo", AccessMode.READ if dry_run else AccessMode.CHANGE, note)
    _check_target(directory, run, catalog)
    with catalogs_of(directory, catalog, access) as (session, found):
        entries = _runs_below(session, found[:1] if run is None else found, directory, catalog)
        chosen, unfinished = _chosen_run(entries, run, directory)
        info = run_info("undo", {UNDONE: chosen.uid, "force": force}, None)
        report = RunReport("undo", run=None if dry_run else info.uid, dry_run=dry_run)
        stop.interruptible = True
        steps = [(each, _steps(each, chosen.uid, session, directory, catalog, stop)) for each in found]
        note(_announcement(chosen, sum(len(some) for _, some in steps), dry_run=dry_run))
        for each, some in steps:
            confined = _confined(each, some, report) if catalog is None else some
            _undo_steps(each, confined, info, report, stop, trusted=catalog is not None)
        stop.interruptible = False
        report.stopped, report.seconds = stop.exit_code, time.monotonic() - began
        for each in () if stop else found:
            below = directory if catalog is None and _is_inside(directory, each) else each.root
            _finish(each, chosen, below, [info.uid, *([unfinished] if unfinished else [])], report, note)
    report.check()
    return report


def _finish(
    catalog: Catalog, undone: RunEntry, folder: Path, runs: list[str], report: RunReport, note: Callable[[str], None]
) -> None:
    """Take back what a run stated for a folder and below, and end the runs that undid it; a dry run only says it."""
    if flags := take_back(catalog, undone.uid, report.run, folder):
        note(f"{'would take back' if report.dry_run else 'taken back'} what the run stated: {flags}")
    with nullcontext() if report.dry_run else catalog.transaction():
        for uid in () if report.dry_run else runs:
            catalog.end_run(uid, report.as_dict())


def _check_target(directory: Path, run: str | None, fixed: Path | None) -> None:
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
            catalog = opened.at(file)
            changing = [entry for entry in runs(catalog) if entry.changed]
            last = _described(changing[-1]) if changing else "no run has changed a file"
            lines.append(f"  {catalog.root}: {last}")
    shown = [*lines[:MOST_LISTED], *([f"  and {len(lines) - MOST_LISTED} more"] if len(lines) > MOST_LISTED else [])]
    raise UsageError(
        "\n".join([f"{len(lines)} datasets below {directory} have runs of their own; the last of each:", *shown])
        + "\nChoose one: sdprep undo --dir FOLDER, or name a run of several: sdprep undo RUN"
    )


def _described(entry: RunEntry) -> str:
    """A run in words: its id, command and model."""
    models = MODELS.join(each.partition("#")[0] for each in (entry.model or "").split(MODELS))
    return strip_invisible(f"{entry.uid} ({entry.command}{', ' if models else ''}{models})")


def _announcement(entry: RunEntry, count: int, *, dry_run: bool) -> str:
    files, folder = f"{count} file{'' if count == 1 else 's'}", strip_invisible(printable(str(entry.folder)))
    return f"{'would undo' if dry_run else 'undoing'} run {_described(entry)} in {folder}: {files}"


def _steps(
    catalog: Catalog, uid: str, session: CatalogSession, directory: Path, fixed: Path | None, stop: CancelToken
) -> list[UndoStep]:
    """The steps that undo a run below a folder; files that were moved since are looked for."""
    steps = reversals(catalog, uid)
    if fixed is None and any(step.after is not None and _is_missing(catalog, step.path) for step in steps):
        recognise_below(session, catalog.root, stop)
        steps = reversals(catalog, uid)
    if fixed is not None or not _is_inside(directory, catalog):
        return steps
    folder = real_path(directory)
    return [step for step in steps if Path(os.path.normpath(step.path)).is_relative_to(folder)]


def _is_missing(catalog: Catalog, path: Path) -> bool:
    return is_inside(path.parent, catalog.root) and not os.path.lexists(path)


def _confined(catalog: Catalog, steps: Iterable[UndoStep], report: RunReport) -> Iterator[UndoStep]:
    """The steps in the catalog's folder: a catalog that came with images may name any file."""
    for step in steps:
        if is_inside(step.path.parent, catalog.root):
            yield step
        else:
            report.found += 1
            report.refuse(str(step.path), FailureCode.UNWRITABLE, OUTSIDE.format(catalog.file))


def _undo_steps(
    catalog: Catalog, steps: Iterable[UndoStep], info: RunInfo, report: RunReport, stop: CancelToken, *, trusted: bool
) -> None:
    """Undo changes of one catalog in groups; a stop leaves the rest."""
    queue = iter(steps)
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
            apply_changes(catalog, info, wanted, root, report, on_conflict=_refuse(report, CHANGED))
    rest = len(list(queue))
    report.found += rest
    report.remaining += rest


def _as_planned(change: Change) -> dict[str, str]:
    return {"path": path_of(change), "change": "delete" if change.after is None else "restore"}


def _refuse(report: RunReport, message: str) -> Callable[[Change], None]:
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
    if file_hash(data) == step.before:
        report.current += 1
        return None
    # A power cut may have left a file of 0 bytes.
    if data != b"" and file_hash(data) != step.after and not force:
        report.refuse(str(step.path), FailureCode.CHANGED_SINCE, GONE if data is None else CHANGED)
        return None
    return Change(step.path, data, None if step.before is None else catalog.text(step.before), step.state)


def file_versions(path: Path, *, catalog: Path | None = None) -> list[Version]:
    """The texts that a file has had, oldest first. Raises CatalogError if no catalog knows the file."""
    access = CatalogAccess("log", AccessMode.READ, NullListener().note)
    with _catalog_of(path, catalog, access) as (session, found):
        return _versions_of(session, found, path)


def restore(
    path: Path, version: int | None = None, *, catalog: Path | None = None, listener: Listener | None = None
) -> RunReport:
    """Restore an earlier text of a file: the one before its current text, or the last known one if that is unknown.

    `version` counts from 1, as `sdprep log` numbers them. The current text is recorded in the journal, so a restore
    can be undone. Raises CatalogError if there is no such text.
    """
    path = real_path(path)
    access = CatalogAccess("restore", AccessMode.CHANGE, (listener or NullListener()).note)
    with _catalog_of(path, catalog, access) as (session, found):
        known = _versions_of(session, found, path)
        data = _read_current(path)
        chosen = _chosen_version(known, version, file_hash(data), path)
        info = run_info("restore", {"path": str(path), "version": version}, None)
        report = RunReport("restore", found=1, run=info.uid, output=str(path))
        if file_hash(data) == chosen:
            report.current = 1
        else:
            change = Change(path, data, found.text(chosen))
            refuse = _refuse(report, "it is being changed by another program")
            apply_changes(found, info, [change], path.parent, report, on_conflict=refuse)
        with found.transaction():
            found.end_run(info.uid, report.as_dict())
    report.check()
    return report


def _read_current(path: Path) -> bytes | None:
    try:
        return read_below(path.parent, path, FILE_LIMIT)
    except OSError as error:
        raise CatalogError(f"{path} cannot be read: {error.strerror}. Move it away to restore its text") from error


def _chosen_version(known: list[Version], version: int | None, held: bytes | None, path: Path) -> bytes:
    if version is not None:
        if not 1 <= version <= len(known):
            raise CatalogError(f"{path} has versions 1 to {len(known)}")
        chosen = known[version - 1].text
        if chosen is None:
            raise CatalogError(f"in version {version} of {path} there was no file; delete it, or undo the run")
        return chosen
    # A power cut may have left a file of 0 bytes instead of its last text.
    emptied = held == EMPTY
    held = known[-1].text if emptied else held
    last = max((index for index, each in enumerate(known) if each.text == held), default=len(known))
    # A missing file gets its last text; a file with a known text, the one before it.
    candidates = known if held is None else known[:last]
    texts = [each.text for each in candidates if each.text not in (None, held, EMPTY)]
    if emptied and not texts and held is not None:
        return held
    if not texts:
        raise CatalogError(f"no earlier text of {path} is known")
    return texts[-1]


def _versions_of(session: CatalogSession, catalog: Catalog, path: Path) -> list[Version]:
    path = real_path(path)
    known = versions(catalog, path)
    if not known:
        recognise_sidecar(session, path)
        known = versions(catalog, path)
    if not known:
        advice = f"\nGive its sidecar, as {path.with_suffix('.txt')}" if is_image(path.name) else ""
        raise CatalogError(f"{catalog.file} knows nothing of {path}: sdprep has not written it{advice}")
    return known


def _chosen_run(entries: list[RunEntry], run: str | None, directory: Path) -> tuple[RunEntry, str | None]:
    """The run to undo, and the interrupted undo of it that is resumed, if there is one."""
    changing = [entry for entry in entries if entry.changed]
    if run is None:
        if not changing:
            raise CatalogError(f"no run has changed a file in {directory}")
        last = changing[-1]
        if last.undone and last.ended is None:
            # An undo may have been stopped before its first file.
            return next((entry for entry in entries if entry.uid == last.undone), last), last.uid
        return last, None
    matching = {entry.uid: entry for entry in entries if entry.uid.startswith(run)}
    if len(matching) != 1:
        what = "no run is" if not matching else f"{len(matching)} runs are"
        raise CatalogError(f"{what} named {run} in {directory}; `sdprep log` lists the runs")
    [entry] = matching.values()
    return entry, None


@contextmanager
def _catalog_of(path: Path, fixed: Path | None, access: CatalogAccess) -> Iterator[tuple[CatalogSession, Catalog]]:
    file = real_path(fixed) if fixed else find_catalog(real_path(path).parent)
    if file is None or not file.is_file():
        raise CatalogError(f"no catalog at or above {path.parent}")
    with CatalogSession([path.parent], access, file, trusted=fixed is not None) as opened:
        yield opened, opened.at(file)


def retry(
    directory: Path, *, quarantined: bool = False, catalog: Path | None = None, listener: Listener | None = None
) -> list[KnownFailure]:
    """Forget the failed images of a folder, or only the quarantined ones, and return them.

    Raises CatalogError if there is no catalog.
    """
    directory = real_path(directory)
    codes = CRASH_CODES if quarantined else tuple(FailureCode)
    forgotten = []
    access = CatalogAccess("retry", AccessMode.CHANGE, (listener or NullListener()).note)
    with catalogs_of(directory, catalog, access) as (_, found):
        for each in found:
            with each.transaction():
                failures = _known_failures(each, directory, codes)
                keys = [(each.key(failure.path),) for failure in failures]
                each.db.executemany(
                    "DELETE FROM failures WHERE digest = (SELECT digest FROM images WHERE key = ?)", keys
                )
            forgotten += failures
    return forgotten


def _known_failures(catalog: Catalog, folder: Path, codes: Collection[FailureCode]) -> list[KnownFailure]:
    """The images below a folder that this decoder does not try again, with any settings; sorted by path."""
    rows = catalog.db.execute(
        "SELECT key, code, message FROM images JOIN failures USING (digest)"
        " WHERE decoder = ? OR substr(decoder, 1, ?) = ? ORDER BY decoder",
        (DECODER, len(DECODER) + 1, f"{DECODER} "),
    )
    with catalog.decoding("what it knows of an image that failed"):
        found = {
            key: KnownFailure(catalog.path(key), FailureCode(code), as_text(message))
            for key, code, message in rows
            if code in CODES
        }
    chosen = [each for each in found.values() if each.code in codes and each.path.is_relative_to(folder)]
    return sorted(chosen, key=lambda each: each.path)
