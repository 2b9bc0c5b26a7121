"""What other programs change while a review is open: sidecars in sight, and what other runs have recorded."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

from sdprep.catalog.history import SESSION
from sdprep.catalog.schema import dump
from sdprep.catalog.session import CatalogSession
from sdprep.tasks.review.index import Index

# Images whose sidecars are looked at each time; about as many fit on a screen.
MOST_SEEN = 200
# The review tells the index itself of what the runs of its session write.
OF_OTHERS = (
    "SELECT DISTINCT key FROM journal JOIN runs ON runs.id = journal.run WHERE journal.id > ?"
    " AND instr(runs.settings, ?) = 0"
)
Stamp = tuple[int, int] | None


class Watched:
    """Looks for changes when it is asked to: at the files in sight, and at the journals for all others."""

    def __init__(self, index: Index, session: str) -> None:
        self._index = index
        # How the settings of the session's own runs name it in their row.
        self._own = dump({SESSION: session}).strip("{}")
        self._seen: dict[int, tuple[Stamp, ...]] = {}
        self._showing = threading.Lock()
        # By the root of a catalog, the last row of its journal that was looked at.
        self._rows: dict[Path, int] = {}
        # A folder of each catalog.
        self._places: list[Path] = []

    def show(self, numbers: Sequence[int]) -> None:
        """These images are shown now; any thread may tell."""
        stamps = {number: self._stamps(number) for number in numbers}
        with self._showing:
            seen = {number: known for number, known in self._seen.items() if number not in stamps} | stamps
            self._seen = dict(list(seen.items())[-MOST_SEEN:])

    def look(self, catalogs: CatalogSession) -> None:
        """Read again what has changed."""
        found = [number for number, before in self._seen.items() if self._stamps(number) != before]
        paths = self._written(catalogs)
        if paths:
            starts = set(map(_start, paths))
            near = (number for number, item in enumerate(self._index.items) if _start(item.within) in starts)
            found += [number for number in near if not paths.isdisjoint(self._paths(number))]
        numbers = list(dict.fromkeys(found))
        if numbers:
            self._index.refresh(numbers, catalogs, noted=True)
            self.show([number for number in numbers if number in self._seen])

    def _written(self, catalogs: CatalogSession) -> set[str]:
        """The sidecars that runs of others have written since the last look; at the first one, none."""
        found: set[str] = set()
        if not self._places:
            places = ((item.target_folder, item.within.rpartition("/")[0]) for item in self._index.items)
            folders = [folder / within for folder, within in dict.fromkeys(places)]
            self._places = list({catalogs.of(folder).root: folder for folder in folders}.values())
        for folder in self._places:
            catalog = catalogs.of(folder)
            [last] = catalog.db.execute("SELECT coalesce(max(id), 0) FROM journal").fetchone()
            before = self._rows.setdefault(catalog.root, last)
            if last > before:
                keys = catalog.db.execute(OF_OTHERS, (before, self._own))
                found.update(str(catalog.path(key)) for [key] in keys)
                self._rows[catalog.root] = last
        return found

    def _paths(self, number: int) -> tuple[str, str]:
        item = self._index.items[number]
        names = self._index.names_of(item)
        folder = str(item.target_folder)
        return (
            f"{folder}{os.sep}{names.name(item.within, 'tags')}",
            f"{folder}{os.sep}{names.name(item.within, 'caption')}",
        )

    def _stamps(self, number: int) -> tuple[Stamp, ...]:
        return tuple(map(_stamp, self._paths(number)))


def _start(path: str) -> str:
    """How the name of a file begins, in which an image and its sidecars agree."""
    return path.rpartition("/")[2].partition(".")[0]


def _stamp(path: str) -> Stamp:
    try:
        found = os.stat(path)  # noqa: PTH116 - hundreds of times every two seconds
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
