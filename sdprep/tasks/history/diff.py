"""`sdprep diff`: what a run changed in the files, before and after."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sdprep.catalog.catalog import Catalog
from sdprep.catalog.history import RunEntry
from sdprep.catalog.session import AccessMode, CatalogAccess
from sdprep.folders import SIDECAR_LIMIT
from sdprep.report import CancelToken, Listener, NullListener
from sdprep.tasks.history.runs import check_target, choose_run, runs_below, steps_of
from sdprep.tasks.run_info import catalogs_of
from sdprep.texts.sidecar import decode_text


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file that a run changed, at the place where it is now, with its text before and after (None: no file).

    What is no text is shown by its number of bytes, and so is a file that is larger than any sidecar.
    """

    path: Path
    before: str | None
    after: str | None


@contextmanager
def diff(
    directory: Path, run: str | None = None, *, catalog: Path | None = None, listener: Listener | None = None
) -> Iterator[tuple[RunEntry, Iterator[FileChange]]]:
    """The run, without a name the last one that changed a file below a folder, and its changes there in their order.

    Their texts are those that the run read and wrote; later changes are not in them. Raises CatalogError if there is no
    such run, and UsageError if only several catalogs below the folder have runs.
    """
    access = CatalogAccess("diff", AccessMode.READ, (listener or NullListener()).note)
    check_target(directory, run, catalog)
    with catalogs_of(directory, catalog, access) as (session, found):
        entries = runs_below(session, found[:1] if run is None else found, directory, catalog)
        chosen = next((entry for entry in reversed(entries) if run is None and entry.changed), None)
        entry = chosen or choose_run(entries, run, directory)[0]
        steps = [(each, steps_of(each, entry, session, directory, catalog, CancelToken())) for each in found]
        yield (
            entry,
            (
                FileChange(step.path, _text(each, step.before), _text(each, step.after))
                for each, some in steps
                for step in some
            ),
        )


def _text(catalog: Catalog, digest: bytes | None) -> str | None:
    if digest is None:
        return None
    data = catalog.text(digest)
    text = decode_text(data) if len(data) <= SIDECAR_LIMIT else None
    return f"({len(data):,} bytes)" if text is None else text
