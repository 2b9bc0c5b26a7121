"""Changes of files through the journal, counted in the report of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from sdprep.catalog.catalog import Catalog, RunInfo
from sdprep.catalog.journal import Change, apply
from sdprep.errors import WriteError
from sdprep.report import RunReport
from sdprep.types import FailureCode


def path_of(change: Change) -> str:
    """Return the name under which a report lists a changed file, where it is not listed by its image."""
    return str(change.path)


def apply_changes(
    catalog: Catalog,
    info: RunInfo,
    changes: Sequence[Change] | Callable[[], Sequence[Change]],
    root: Path,
    report: RunReport,
    *,
    on_conflict: Callable[[Change], None],
    name: Callable[[Change], str] = path_of,
) -> list[Change]:
    """Make a group of changes below `root`, as `journal.apply`, count them, and return those that were made.

    A file that cannot be written is a failure, listed by its `name`. `on_conflict` counts a file that has changed
    since it was read.

    Raises WriteError when no file can be written.
    """
    try:
        applied = apply(catalog, info, changes, root)
    except WriteError as error:
        report.written += error.made
        raise
    report.written += len(applied.made)
    for change, reason in applied.errors.items():
        report.refuse(name(change), FailureCode.UNWRITABLE, reason)
    for change in applied.conflicts:
        on_conflict(change)
    return applied.made


def replace_through_journal(catalog: Catalog, info: RunInfo, change: Change) -> None:
    """Make the change of one file that belongs to no image, and so is in no count of the report.

    Raises OSError if it cannot be written or has changed since it was read, WriteError on a full disk.
    """
    applied = apply(catalog, info, [change], change.path.parent)
    for reason in applied.errors.values():
        raise OSError(0, reason, str(change.path))
    if applied.conflicts:
        raise OSError(0, "another program has changed it in the meantime", str(change.path))
