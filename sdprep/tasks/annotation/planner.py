"""Looking at every image before any model is loaded: what is there, and what has to be done."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sdprep.catalog.catalog import Catalog
from sdprep.catalog.schema import FileStat, Key, as_key, file_stat
from sdprep.catalog.session import CatalogSession
from sdprep.errors import ImageError
from sdprep.folders import Folders
from sdprep.images.decoder import file_digest
from sdprep.rules.policy import KEEP, Action, Decision, SidecarStatus, TextRequest, decide
from sdprep.tasks.annotation.lookup import TOGETHER, Stored, StoredResults
from sdprep.texts.sidecar import NO_ENCODING, decode_text, sidecar_name, sidecar_path
from sdprep.types import MAX_PIXELS, Failure, FailureCode, ImageItem, ImageWarning

NOTHING: tuple[None, tuple[ImageWarning, ...]] = (None, ())


@dataclass(frozen=True, slots=True)
class Job:
    """What makes one command differ from another, once its model is known.

    `recipe` is everything besides the image that a result depends on (None: the weights are not on this machine,
    so no result can be stored). `render` turns a stored result into pieces of text, `joiner` parts the pieces;
    `remark` is what a person should know of a result; one that is not `is_sound` counts as none.
    `decoder` is what a failure to decode depends on. `incomplete` says whether results of images
    whose end is missing will do.
    """

    wish: TextRequest
    extension: str
    naming: str
    joiner: str
    result_key: dict[str, Any] | None
    render: Callable[[bytes], list[str]]
    decoder: str
    incomplete: bool
    remark: Callable[[bytes], str | None] = lambda _: None
    is_sound: Callable[[bytes], bool] = lambda _: True
    max_pixels: int = MAX_PIXELS

    @property
    def incomplete_key(self) -> dict[str, Any]:
        """The recipe of results of images whose end is missing; only with a recipe."""
        return {**(self.result_key or {}), "incomplete": True}

    def sidecar(self, item: ImageItem) -> Path:
        """The sidecar of an image."""
        return sidecar_path(item.target, self.extension, self.naming)


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """An image as it was found: its catalog, size and time, its sidecar's bytes, and what to do about it."""

    item: ImageItem
    catalog: Catalog
    stamp: FileStat
    before: bytes | None
    disk: SidecarStatus
    decision: Decision
    result: bytes | None = None
    remarks: tuple[ImageWarning, ...] = ()

    @property
    def settled(self) -> bool:
        """Whether the sidecar stays as it is."""
        return self.decision.action in (Action.KEEP, Action.CURRENT)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the images of one folder lie, and how the names in it begin in the catalog."""

    catalog: Catalog
    prefix: str


@dataclass(slots=True)
class ImageState:
    """What is seen of one image: without the catalog first, then with it."""

    item: ImageItem
    place: _Place
    key: Key
    sidecar: Key
    before: bytes | None = None
    stamp: FileStat = (0, 0)
    failure: Failure | None = None
    digest: bytes | None = None
    disk: SidecarStatus = SidecarStatus(None)
    decision: Decision = KEEP


class Planner:
    """Looks at images and their sidecars and decides; `want_results` asks for results of current images too.

    Every sidecar is read each time, since an editor may change a text and not its size and time. An image is read
    only if its size or time are not as they were.
    """

    def __init__(self, job: Job, catalogs: CatalogSession, *, want_results: bool) -> None:
        self._job, self._catalogs, self._want_results = job, catalogs, want_results
        self._places: dict[str, _Place] = {}
        self._stored = StoredResults(job)

    def examine(self, items: Iterable[ImageItem]) -> Iterator[PlannedImage | Failure]:
        """One image after the other. A fault that is remembered or seen now is a Failure."""
        queue = iter(items)
        while together := list(islice(queue, TOGETHER)):
            # The sidecar first: if another run writes it now, it must not look as if a person had edited it since.
            with Folders(together[0].target_folder) as folders:
                looks = [self._look(item, folders) for item in together]
            seen = [look for look in looks if isinstance(look, ImageState)]
            for catalog in {id(look.place.catalog): look.place.catalog for look in seen}.values():
                self._decide(catalog, [look for look in seen if look.place.catalog is catalog])
            results = self._results(seen)
            for look in looks:
                if isinstance(look, Failure):
                    yield look
                    continue
                yield look.failure or self._target(look, *results.get((id(look.place.catalog), look.digest), NOTHING))

    def _look(self, item: ImageItem, folders: Folders) -> ImageState | Failure:
        folder, _, name = item.rel.rpartition("/")
        sidecar = sidecar_name(name, self._job.extension, self._job.naming)
        try:
            sidecars = folders.find(folder)
            before = None if sidecars is None else sidecars.read(sidecar)
        except OSError as error:
            return Failure(item, FailureCode.UNREADABLE, f"{sidecar}: {error.strerror}")
        try:
            # Taken before the image is read: should it change in between, the next run sees another and looks again.
            stamp = file_stat(os.stat(f"{item.folder}/{item.rel}"))  # noqa: PTH116 - a million times
        except OSError as error:
            return Failure(item, FailureCode.UNREADABLE, error.strerror or str(error))
        # Only now, since a folder that may not be entered has no catalog that can be looked for.
        place = self._places.get(folder) or self._place_of(item, folder)
        return ImageState(item, place, as_key(place.prefix + name), as_key(place.prefix + sidecar), before, stamp)

    def _place_of(self, item: ImageItem, folder: str) -> _Place:
        target = item.target_folder / folder
        catalog = self._catalogs.of(target)
        place = _Place(catalog, catalog.prefix(target))
        self._places[folder] = place
        return place

    def _decide(self, catalog: Catalog, looks: list[ImageState]) -> None:
        """What to do about images of one catalog."""
        held = (look.before for look in looks if look.before is not None)
        states = catalog.states([look.sidecar for look in looks], held)
        images = catalog.images([look.key for look in looks])
        for look in looks:
            state = states.get(look.sidecar)
            stamp, look.digest = images.get(look.key, (None, None))
            if stamp != look.stamp:
                look.digest = None
                # In a first run they are hashed as they are decoded.
                if state is not None or self._stored.recipes_of(catalog):
                    self._read(look)
            # A first run holds all its images, and most have nothing.
            if (look.before, state, look.digest) != (None, None, None):
                look.disk = SidecarStatus(_text(look.before), state, look.digest, look.before == b"")
            look.decision = decide(look.disk, self._job.wish)
        catalog.flush()

    def _read(self, look: ImageState) -> None:
        try:
            look.digest = file_digest(look.item, self._job.max_pixels)
        except ImageError as error:
            look.failure = Failure(look.item, error.code, str(error))
        else:
            look.place.catalog.remember_image(look.key, look.stamp, look.digest)

    def _results(self, looks: list[ImageState]) -> dict[tuple[int, bytes | None], Stored]:
        """The stored results by catalog and image, of those for which they matter."""
        wanted: dict[int, tuple[Catalog, list[bytes]]] = {}
        for look in looks:
            if look.digest is not None and (self._want_results or look.decision.action is not Action.CURRENT):
                catalog = look.place.catalog
                wanted.setdefault(id(catalog), (catalog, []))[1].append(look.digest)
        found: dict[tuple[int, bytes | None], Stored] = {}
        for catalog, digests in wanted.values():
            results = self._stored.results(catalog, digests)
            found.update({(id(catalog), digest): stored for digest, stored in results.items()})
        return found

    def _target(
        self, look: ImageState, result: bytes | None, remarks: tuple[ImageWarning, ...]
    ) -> PlannedImage | Failure:
        target = PlannedImage(
            look.item,
            look.place.catalog,
            look.stamp,
            look.before,
            look.disk,
            look.decision,
            result,
            remarks,
        )
        return self._refusal(target) or target

    def _refusal(self, target: PlannedImage) -> Failure | None:
        if target.settled:
            return None
        if target.decision.action is Action.COMBINE and target.before and decode_text(target.before) is None:
            name = self._job.sidecar(target.item).name
            message = f"{name} is {NO_ENCODING}, so nothing can be added to it; save it as UTF-8"
            return Failure(target.item, FailureCode.BAD_TEXT, message)
        if target.disk.digest is None:
            return None
        known = target.catalog.failure(target.disk.digest, self._job.decoder)
        return Failure(target.item, FailureCode(known[0]), known[1]) if known else None


def _text(data: bytes | None) -> str | None:
    """What a sidecar says; bytes that are no text get a NUL, and so equal nothing that sdprep writes.

    A file of 0 bytes says nothing: a power cut or a full disk left it. An empty line is a text.
    """
    if not data:
        return None
    text = decode_text(data)
    return "\0" + data.decode("latin-1") if text is None else text
