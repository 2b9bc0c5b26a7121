"""`sdprep restore`: an earlier version of a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sdprep.catalog.catalog import Catalog
from sdprep.catalog.history import Version, file_hash, versions
from sdprep.catalog.journal import Change
from sdprep.catalog.session import AccessMode, CatalogAccess, CatalogSession, find_catalog
from sdprep.errors import CatalogError
from sdprep.files import FILE_LIMIT, real_path
from sdprep.folders import read_below
from sdprep.images.source import is_image
from sdprep.report import Listener, NullListener, RunReport
from sdprep.tasks.annotation.moves import recognise_sidecar
from sdprep.tasks.changes import apply_changes
from sdprep.tasks.history.undo import refuse
from sdprep.tasks.run_info import run_info

EMPTY = file_hash(b"")


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
            conflict = refuse(report, "it is being changed by another program")
            apply_changes(found, info, [change], path.parent, report, on_conflict=conflict)
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


@contextmanager
def _catalog_of(path: Path, fixed: Path | None, access: CatalogAccess) -> Iterator[tuple[CatalogSession, Catalog]]:
    file = real_path(fixed) if fixed else find_catalog(real_path(path).parent)
    if file is None or not file.is_file():
        raise CatalogError(f"no catalog at or above {path.parent}")
    with CatalogSession([path.parent], access, file, trusted=fixed is not None) as opened:
        yield opened, opened.at(file)
