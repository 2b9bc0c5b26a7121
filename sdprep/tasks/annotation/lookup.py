"""Results that the catalogs hold for a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import Any

from sdprep.catalog.catalog import Catalog
from sdprep.catalog.session import CatalogSession
from sdprep.tasks.annotation.job import Job
from sdprep.types import ImageItem, ImageWarning

# Images per query of the catalog; no more are held in memory.
CHUNK = 256

# A stored result, and the warnings about its image.
Stored = tuple[bytes, tuple[ImageWarning, ...]]


class StoredResults:
    """The stored results that serve a job: of whole images, and of truncated ones if it accepts them."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._keys: dict[int, list[tuple[int, tuple[ImageWarning, ...]]]] = {}

    def keys_in(self, catalog: Catalog) -> list[tuple[int, tuple[ImageWarning, ...]]]:
        """The numbers of the result keys under which a catalog has results, with the warnings about these."""
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
        """The results of some images by their digests; that of the whole image, if there are two."""
        found: dict[bytes, Stored] = {}
        is_sound = self._job.reader.is_sound
        for number, warnings in self.keys_in(catalog):
            results = catalog.results([digest for digest in digests if digest not in found], number)
            found.update({digest: (result, warnings) for digest, result in results.items() if is_sound(result)})
        return found


def stored_results(items: Iterable[ImageItem], job: Job, catalogs: CatalogSession) -> Iterator[tuple[str, bytes]]:
    """The names of the images that have a stored result, in their order, and the results."""
    queue, stored = iter(items), StoredResults(job)
    while job.result_key is not None and (chunk := list(islice(queue, CHUNK))):
        found: dict[str, bytes] = {}
        for folder, group in groupby(chunk, lambda item: item.target.parent):
            catalog = catalogs.of(folder)
            names = {catalog.key(item.target): item.rel for item in group}
            images = catalog.images(list(names))
            results = stored.results(catalog, [digest for _, digest in images.values()])
            found |= {names[key]: results[digest][0] for key, (_, digest) in images.items() if digest in results}
        yield from ((item.rel, found[item.rel]) for item in chunk if item.rel in found)
