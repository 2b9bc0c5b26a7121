"""Results that the catalogs hold for a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

from sdprep.catalog.catalog import Catalog
from sdprep.catalog.session import CatalogSession
from sdprep.types import ImageItem, ImageWarning

if TYPE_CHECKING:
    from sdprep.tasks.annotation.planner import Job

# So many images are looked at together: the catalog is asked once for all of them, and no more are held in memory.
TOGETHER = 256

# A stored result and what is to be said of its image.
Stored = tuple[bytes, tuple[ImageWarning, ...]]


class StoredResults:
    """The stored results that serve a job: of whole images, and of incomplete ones where it takes them."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._recipes: dict[int, list[tuple[int, tuple[ImageWarning, ...]]]] = {}

    def recipes_of(self, catalog: Catalog) -> list[tuple[int, tuple[ImageWarning, ...]]]:
        """The numbers of the recipes of which a catalog has results, and what is to be said of these."""
        if id(catalog) not in self._recipes:
            result_key, wanted = self._job.result_key, list[tuple[dict[str, Any], tuple[ImageWarning, ...]]]()
            if result_key is not None:
                wanted.append((result_key, ()))
                wanted.extend([(self._job.incomplete_key, (ImageWarning.INCOMPLETE,))] if self._job.incomplete else [])
            known = [(catalog.known_recipe(each), remarks) for each, remarks in wanted]
            self._recipes[id(catalog)] = [(number, remarks) for number, remarks in known if number is not None]
        return self._recipes[id(catalog)]

    def results(self, catalog: Catalog, digests: Sequence[bytes]) -> dict[bytes, Stored]:
        """The results of some images by their digests; that of the whole image, if there are two."""
        found: dict[bytes, Stored] = {}
        for number, remarks in self.recipes_of(catalog):
            results = catalog.results([digest for digest in digests if digest not in found], number)
            sound = self._job.is_sound
            found.update({digest: (result, remarks) for digest, result in results.items() if sound(result)})
        return found


def stored_results(items: Iterable[ImageItem], job: Job, catalogs: CatalogSession) -> Iterator[tuple[str, bytes]]:
    """The names of the images that have a stored result, in their order, and the results."""
    queue, stored = iter(items), StoredResults(job)
    while job.result_key is not None and (together := list(islice(queue, TOGETHER))):
        found: dict[str, bytes] = {}
        for folder, group in groupby(together, lambda item: item.target.parent):
            catalog = catalogs.of(folder)
            names = {catalog.key(item.target): item.rel for item in group}
            images = catalog.images(list(names))
            results = stored.results(catalog, [digest for _, digest in images.values()])
            found |= {names[key]: results[digest][0] for key, (_, digest) in images.items() if digest in results}
        yield from ((item.rel, found[item.rel]) for item in together if item.rel in found)
