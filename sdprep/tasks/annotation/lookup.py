"""What catalogs know of the images of a run: stored results, and who wrote the sidecars beside them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from sdprep.catalog.catalog import Catalog
from sdprep.catalog.results import join_results
from sdprep.catalog.session import AccessMode, CatalogAccess, CatalogSession, find_catalog
from sdprep.errors import CatalogError
from sdprep.rules.mixed_text import normalize
from sdprep.tasks.annotation.job import Job
from sdprep.texts.sidecar import decode_text
from sdprep.types import ImageItem, ImageWarning

# Images per query of the catalog; no more are held in memory.
CHUNK = 256

# A stored result, and the warnings about its image.
Stored = tuple[bytes, tuple[ImageWarning, ...]]


class StoredResults:
    """The stored results that serve a job: of whole images, and of truncated ones if it accepts them."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._members = [StoredResults(member) for member in job.members]
        self._keys: dict[int, list[tuple[int, tuple[ImageWarning, ...]]]] = {}

    def keys_in(self, catalog: Catalog) -> list[tuple[int, tuple[ImageWarning, ...]]]:
        """The numbers of the result keys under which a catalog has results, with the warnings about these."""
        if self._members:
            return [key for member in self._members for key in member.keys_in(catalog)]
        if id(catalog) not in self._keys:
            wanted: list[tuple[dict[str, Any], tuple[ImageWarning, ...]]] = []
            if self._job.result_key is not None:
                wanted.append((self._job.result_key, ()))
                if self._job.accepts_truncated:
                    wanted.append((self._job.truncated_key, (ImageWarning.TRUNCATED,)))
            known = [(catalog.known_recipe(key), warnings) for key, warnings in wanted]
            self._keys[id(catalog)] = [(number, warnings) for number, warnings in known if number is not None]
        return self._keys[id(catalog)]

    def results(self, catalog: Catalog, digests: Sequence[bytes]) -> dict[bytes, Stored]:
        """The results of some images by their digests; that of the whole image, if there are two.

        Of several models there is a result once all of them have one.
        """
        if self._members:
            each = [member.results(catalog, digests) for member in self._members]
            return {digest: _joined([one[digest] for one in each]) for digest in set(each[0]).intersection(*each)}
        found: dict[bytes, Stored] = {}
        is_sound = self._job.reader.is_sound
        for number, warnings in self.keys_in(catalog):
            results = catalog.results([digest for digest in digests if digest not in found], number)
            found.update({digest: (result, warnings) for digest, result in results.items() if is_sound(result)})
        return found


def _joined(parts: Sequence[Stored]) -> Stored:
    warnings = dict.fromkeys(warning for _, found in parts for warning in found)
    return join_results([result for result, _ in parts]), tuple(warnings)


def stored_results(items: Iterable[ImageItem], job: Job, catalogs: CatalogSession) -> Iterator[tuple[str, bytes]]:
    """The names of the images that have a stored result, in their order, and the results."""
    queue, stored = iter(items), StoredResults(job)
    while job.has_key and (chunk := list(islice(queue, CHUNK))):
        found: dict[str, bytes] = {}
        for folder, group in groupby(chunk, lambda item: item.target.parent):
            catalog = catalogs.of(folder)
            names = {catalog.key(item.target): item.rel for item in group}
            images = catalog.images(list(names))
            results = stored.results(catalog, [digest for _, digest in images.values()])
            found |= {names[key]: results[digest][0] for key, (_, digest) in images.items() if digest in results}
        yield from ((item.rel, found[item.rel]) for item in chunk if item.rel in found)


class GeneratedTexts(ExitStack):
    """Tells which sidecars were written by models, from the catalogs of their folders; each is opened once, to read."""

    def __init__(self) -> None:
        super().__init__()
        self._catalogs: dict[Path, Catalog | None] = {}

    def among(self, sidecars: Mapping[Path, bytes]) -> set[Path]:
        """Those of these sidecars that sdprep alone wrote and nobody edited; all others count as the user's."""
        by_catalog: defaultdict[Path, list[Path]] = defaultdict(list)
        for path in sidecars:
            # A catalog that cannot be read knows nothing of a text, like one that was deleted.
            with suppress(CatalogError):
                if (file := find_catalog(path.parent)) is not None:
                    by_catalog[file].append(path)
        found: set[Path] = set()
        for file, paths in by_catalog.items():
            with suppress(CatalogError):
                if (catalog := self._opened(file, paths[0].parent)) is not None:
                    found |= _unmodified(catalog, {path: sidecars[path] for path in paths})
        return found

    def _opened(self, file: Path, folder: Path) -> Catalog | None:
        if file not in self._catalogs:
            # None if it cannot be opened, which is not tried again.
            self._catalogs[file] = None
            access = CatalogAccess("log", AccessMode.READ, lambda _: None)
            self._catalogs[file] = self.enter_context(CatalogSession([folder], access)).at(file)
        return self._catalogs[file]


def _unmodified(catalog: Catalog, sidecars: Mapping[Path, bytes]) -> set[Path]:
    keys = {catalog.key(path): path for path in sidecars}
    return {
        keys[key]
        for key, state in catalog.states(list(keys), sidecars.values()).items()
        if state.origin == "machine" and normalize(decode_text(sidecars[keys[key]]) or "\0") == state.text
    }
