"""`sdprep log`, `undo`, `restore` and `retry`: what earlier runs did, and how to take it back or try it again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path

from sdprep.catalog.catalog import Catalog, RunInfo
from sdprep.catalog.history import UNDONE, RunEntry, UndoStep, Version, file_hash, in_order, reversals, runs, versions
from sdprep.catalog.journal import Change
from sdprep.catalog.quarantine import CRASH_CODES, KnownFailure, forget, remembered
from sdprep.catalog.session import AccessMode, CatalogAccess, CatalogSession, catalogs_below, find_catalog
from sdprep.errors import CatalogError
from sdprep.files import FILE_LIMIT, real_path
from sdprep.folders import read_below
from sdprep.images.decoder import DECODER
from sdprep.paths import is_inside
from sdprep.report import CancelToken, Listener, NullListener, RunReport
from sdprep.sanitize import strip_invisible
from sdprep.tasks.changes import apply_changes, path_of
from sdprep.tasks.run_info import run_info
from sdprep.types import FailureCode

CHANGED = "it was changed after that run; --force takes it back all the same"
OUTSIDE = "it lies outside the folder of its catalog; if you trust the catalog, say --catalog {}"
EMPTY = file_hash(b"")
# Files of an undo that are committed together; a wish to stop is looked at between two groups.
GROUP = 64


def log(directory: Path, *, catalog: Path | None = None) -> list[RunEntry]:
    """The runs of the catalogs of a folder, oldest first; a run over several catalogs is one entry."""
    with catalogs_of(directory, catalog, CatalogAccess("log", AccessMode.READ, NullListener().note)) as found:
        entries = in_order([runs(each) for each in found])
    # The catalog may have come with the images: nothing in it moves a cursor.
    return [
        replace(
            entry,
            uid=strip_invisible(entry.uid),
            command=strip_invisible(entry.command),
            model=None if entry.model is None else strip_invisible(entry.model),
        )
        for entry in entries
    ]


def undo(
    directory: Path,
    run: str | None = None,
    *,
    force: bool = False,
    catalog: Path | None = None,
    listener: Listener | None = None,
    stop: CancelToken | None = None,
) -> RunReport:
    """Give every file that a run changed the bytes from before; without a name, the last run that changed any.

    A file that changed since is refused unless forced. An undo is a run like another, and can be undone; one that did
    not come to its end is gone on with. Raises CatalogError if there is no such run.
    """
    began = time.monotonic()
    note, stop = (listener or NullListener()).note, CancelToken() if stop is None else stop
    with catalogs_of(directory, catalog, CatalogAccess("undo", AccessMode.CHANGE, note)) as found:
        uid, unfinished = _chosen_run(in_order([runs(each) for each in found]), run, directory)
        note(f"undoing run {uid}")
        info = run_info("undo", {UNDONE: uid, "force": force}, None)
        report = RunReport("undo", run=info.uid)
        stop.interruptible = True
        for each in found:
            backs = _confined(each, reversals(each, uid), report) if catalog is None else reversals(each, uid)
            _take_back(each, backs, info, report, stop, trusted=catalog is not None)
        stop.interruptible = False
        report.stopped, report.seconds = stop.exit_code, time.monotonic() - began
        for each in () if stop else found:
            with each.transaction():
                each.end_run(info.uid, report.as_dict())
                if unfinished is not None:
                    each.end_run(unfinished, report.as_dict())
    report.check()
    return report


def _confined(catalog: Catalog, backs: Iterable[UndoStep], report: RunReport) -> Iterator[UndoStep]:
    """Those in the catalog's folder: one that came with images may name any file of this machine."""
    for back in backs:
        if is_inside(back.path.parent, catalog.root):
            yield back
        else:
            report.found += 1
            report.refuse(str(back.path), FailureCode.UNWRITABLE, OUTSIDE.format(catalog.file))


def _take_back(
    catalog: Catalog, backs: Iterable[UndoStep], info: RunInfo, report: RunReport, stop: CancelToken, *, trusted: bool
) -> None:
    """Take back changes of one catalog in groups; a wish to stop leaves the rest."""
    queue = iter(backs)
    force = bool(info.settings["force"])
    while not stop and (group := list(islice(queue, GROUP))):
        below: dict[Path, list[Change]] = {}
        for back in group:
            # A catalog that is trusted may name files anywhere; on Windows each drive has a root of its own.
            root = Path(back.path.anchor) if trusted else catalog.root
            change = _change_for(catalog, back, root, force, report)
            if change is not None:
                below.setdefault(root, []).append(change)
        for root, changes in below.items():
            apply_changes(catalog, info, changes, root, report, on_conflict=_refuse(report, CHANGED))
    rest = len(list(queue))
    report.found += rest
    report.remaining += rest


def _refuse(report: RunReport, message: str) -> Callable[[Change], None]:
    """What counts a file that has changed as a failure."""
    return lambda change: report.refuse(path_of(change), FailureCode.CHANGED_SINCE, message)


def _change_for(catalog: Catalog, back: UndoStep, root: Path, force: bool, report: RunReport) -> Change | None:
    """The change that takes one file back; None, and counted, where there is nothing to do or it is refused."""
    report.found += 1
    try:
        data = read_below(root, back.path, FILE_LIMIT)
    except OSError as error:
        report.refuse(str(back.path), FailureCode.UNREADABLE, str(error.strerror))
        return None
    if file_hash(data) == back.before:
        report.current += 1
        return None
    # A file of 0 bytes is what a power cut left of the run's text.
    if data != b"" and file_hash(data) != back.after and not force:
        report.refuse(str(back.path), FailureCode.CHANGED_SINCE, CHANGED)
        return None
    return Change(back.path, data, None if back.before is None else catalog.text(back.before), back.state)


def file_versions(path: Path, *, catalog: Path | None = None) -> list[Version]:
    """The texts that a file has held, oldest first. Raises CatalogError if no catalog knows the file."""
    with _catalog_of(path, catalog, CatalogAccess("log", AccessMode.READ, NullListener().note)) as found:
        return _versions_of(found, path)


def restore(
    path: Path, version: int | None = None, *, catalog: Path | None = None, listener: Listener | None = None
) -> RunReport:
    """Give a file an earlier text: the one before what it holds, or the last known one if that is not known.

    `version` counts from 1, as `sdprep log` numbers them. What the file held is in the journal afterwards, so a
    restore can be undone. Raises CatalogError if there is no such text.
    """
    path = real_path(path)
    access = CatalogAccess("restore", AccessMode.CHANGE, (listener or NullListener()).note)
    with _catalog_of(path, catalog, access) as found:
        known = _versions_of(found, path)
        data = _held_by(path)
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


def _held_by(path: Path) -> bytes | None:
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
            raise CatalogError(f"version {version} of {path} is that there was no file; delete it, or undo the run")
        return chosen
    # A file of 0 bytes is what a power cut left of the last text.
    emptied = held == EMPTY
    held = known[-1].text if emptied else held
    last = max((place for place, each in enumerate(known) if each.text == held), default=len(known))
    # A file that is gone gets its last text back; one that holds a known text, the one before it.
    candidates = known if held is None else known[:last]
    texts = [each.text for each in candidates if each.text not in (None, held, EMPTY)]
    if emptied and not texts and held is not None:
        return held
    if not texts:
        raise CatalogError(f"no earlier text of {path} is known")
    return texts[-1]


def _versions_of(catalog: Catalog, path: Path) -> list[Version]:
    known = versions(catalog, real_path(path))
    if not known:
        raise CatalogError(f"{catalog.file} knows nothing of {path}: sdprep has not written it")
    return known


def _chosen_run(entries: list[RunEntry], run: str | None, directory: Path) -> tuple[str, str | None]:
    """The run to take back, and the undo of it that is gone on with, if one is."""
    changing = [entry for entry in entries if entry.changed]
    if run is None:
        if not changing:
            raise CatalogError(f"no run has changed a file in {directory}")
        last = changing[-1]
        return (last.undone, last.uid) if last.undone and last.ended is None else (last.uid, None)
    matching = {entry.uid for entry in entries if entry.uid.startswith(run)}
    if not matching and Path(run).is_dir():
        raise CatalogError(f"{run} is a folder, not a run; say `sdprep undo --dir {run}` for its last run")
    if len(matching) != 1:
        what = "no run is" if not matching else f"{len(matching)} runs are"
        raise CatalogError(f"{what} called {run} in {directory}; `sdprep log` lists them")
    [uid] = matching
    return uid, None


@contextmanager
def catalogs_of(directory: Path, fixed: Path | None, access: CatalogAccess) -> Iterator[list[Catalog]]:
    """The catalogs of a folder: the nearest at or above it, and all below."""
    directory = real_path(directory)
    if fixed is not None:
        files = [real_path(fixed)]
    else:
        above = find_catalog(directory)
        files = list(dict.fromkeys([*([above] if above else []), *catalogs_below(directory)]))
    missing = [file for file in files if not file.is_file()]
    if missing or not files:
        raise CatalogError(f"there is no catalog at {missing[0]}" if missing else f"no catalog in or above {directory}")
    with CatalogSession(directory, access, trusted=fixed is not None) as opened:
        yield [opened.at(file) for file in files]


@contextmanager
def _catalog_of(path: Path, fixed: Path | None, access: CatalogAccess) -> Iterator[Catalog]:
    file = real_path(fixed) if fixed else find_catalog(real_path(path).parent)
    if file is None or not file.is_file():
        raise CatalogError(f"no catalog at or above {path.parent}")
    with CatalogSession(path.parent, access, trusted=fixed is not None) as opened:
        yield opened.at(file)


def retry(
    directory: Path, *, quarantined: bool = False, catalog: Path | None = None, listener: Listener | None = None
) -> list[KnownFailure]:
    """Forget the failed images of a folder, or only those that are quarantined; what was forgotten.

    Raises CatalogError if there is no catalog.
    """
    directory = real_path(directory)
    codes = CRASH_CODES if quarantined else tuple(FailureCode)
    forgotten = []
    with catalogs_of(
        directory, catalog, CatalogAccess("retry", AccessMode.CHANGE, (listener or NullListener()).note)
    ) as found:
        for each in found:
            with each.transaction():
                pictures = remembered(each, directory, DECODER, codes)
                forget(each, pictures)
            forgotten += pictures
    return forgotten
