"""Planning: what is there of each image before any model is loaded, and what to do about it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby, islice

from sdprep.catalog.catalog import Catalog
from sdprep.catalog.schema import FileStat, Key, as_key, file_stat
from sdprep.catalog.session import CatalogSession
from sdprep.errors import ImageError
from sdprep.folders import Folders
from sdprep.images.decoder import file_digest
from sdprep.rules.policy import KEEP, REPLACE, Action, Decision, SidecarStatus, decide
from sdprep.rules.prompt import prompt_hash
from sdprep.tasks.annotation.compose import equals_stored_result
from sdprep.tasks.annotation.job import Job, PlannedImage, result_digest
from sdprep.tasks.annotation.lookup import CHUNK, GeneratedTexts, Stored, StoredResults
from sdprep.texts.sidecar import NO_ENCODING, decode_text, sidecar_name, sidecar_path
from sdprep.types import Failure, FailureCode, ImageItem, ImageWarning

NOTHING: tuple[None, tuple[ImageWarning, ...]] = (None, ())


@dataclass(slots=True)
class ImageState:
    """What is known of one image: without the catalog first, then with it.

    `beside` is the sidecar beside the image where there is none yet in the output folder.
    """

    item: ImageItem
    catalog: Catalog
    key: Key
    sidecar: Key
    before: bytes | None = None
    beside: bytes | None = None
    stamp: FileStat = (0, 0)
    failure: Failure | None = None
    digest: bytes | None = None
    prompt: dict[str, str] = field(default_factory=dict)
    disk: SidecarStatus = SidecarStatus(None)
    decision: Decision = KEEP


class Planner:
    """Reads images and their sidecars and decides; `want_results` asks for results of images that are up to date too.

    Every sidecar is read each time, since an editor may change a text and not its size and time. An image is read
    only if its size or time have changed.
    """

    def __init__(self, job: Job, catalogs: CatalogSession, *, want_results: bool) -> None:
        self._job, self._catalogs, self._want_results = job, catalogs, want_results
        # By folder: the catalog of its images, and how the keys for them begin.
        self._folders: dict[str, tuple[Catalog, str]] = {}
        self._stored = StoredResults(job)

    def plan(self, items: Iterable[ImageItem]) -> Iterator[PlannedImage | Failure]:
        """One image after the other; one that has failed now, or before with the same decoder, is a Failure."""
        with GeneratedTexts() as generated:
            yield from self._planned(items, generated)

    def _planned(self, items: Iterable[ImageItem], generated: GeneratedTexts) -> Iterator[PlannedImage | Failure]:
        queue = iter(items)
        while chunk := list(islice(queue, CHUNK)):
            # The sidecar first: if another run writes it now, it must not look as if the user had edited it since.
            states: list[ImageState | Failure] = []
            for (target, folder), some in groupby(chunk, lambda item: (item.target_folder, item.folder)):
                with Folders(target) as folders, Folders(folder) as own:
                    states += [self._asked(self._read_state(item, folders, own), folders) for item in some]
            readable = [state for state in states if isinstance(state, ImageState)]
            self._forget_generated(readable, generated)
            for catalog in {id(state.catalog): state.catalog for state in readable}.values():
                self._decide(catalog, [state for state in readable if state.catalog is catalog])
            results = self._results(readable)
            for state in states:
                if isinstance(state, Failure):
                    yield state
                else:
                    stored = results.get((id(state.catalog), self._result_digest(state)), NOTHING)
                    yield state.failure or self._plan(state, *stored)

    def _read_state(self, item: ImageItem, folders: Folders, own: Folders) -> ImageState | Failure:
        folder, _, name = item.within.rpartition("/")
        sidecar = sidecar_name(name, self._job.extension, self._job.naming)
        try:
            sidecars = folders.find(folder)
            before = None if sidecars is None else sidecars.read(sidecar)
            is_elsewhere = before is None and item.folder != item.target_folder
            beside = images.read(sidecar) if is_elsewhere and (images := own.find(folder)) is not None else None
        except OSError as error:
            return Failure(item, FailureCode.UNREADABLE, f"{sidecar}: {error.strerror}")
        try:
            # Taken before the image is read: if it changes in between, the next run finds another and reads it again.
            stamp = file_stat(os.stat(f"{item.folder}/{item.within}"))  # noqa: PTH116 - a million times
        except OSError as error:
            return Failure(item, FailureCode.UNREADABLE, error.strerror or str(error))
        # Only now: no catalog can be looked for in a folder without permission.
        known = item.prefix + folder
        if known not in self._folders:
            target = item.target_folder / folder
            self._folders[known] = self._catalogs.of(target), self._catalogs.of(target).prefix(target)
        catalog, prefix = self._folders[known]
        return ImageState(item, catalog, as_key(prefix + name), as_key(prefix + sidecar), before, beside, stamp)

    def _asked(self, state: ImageState | Failure, folders: Folders) -> ImageState | Failure:
        """The same state with what a captioner is asked about the image. Raises UsageError as `Prompts.filled`."""
        if isinstance(state, Failure):
            return state
        prompt = self._job.prompt
        if self._job.prompts is not None:
            prompt, values = self._job.prompts.filled(state.item, state.catalog, folders)
            state.prompt = {**values, "hash": prompt_hash(prompt)}
        if prompt:
            state.item = replace(state.item, prompt=prompt)
        return state

    def _forget_generated(self, states: list[ImageState], generated: GeneratedTexts) -> None:
        """Leave only sidecars of the user's beside the images: what a model wrote there may be written elsewhere."""
        naming = self._job.extension, self._job.naming
        found = {sidecar_path(state.item.path, *naming): state for state in states if state.beside}
        for path in generated.among({path: state.beside or b"" for path, state in found.items()}):
            found[path].beside = None

    def _decide(self, catalog: Catalog, states: list[ImageState]) -> None:
        texts = (state.before for state in states if state.before is not None)
        sidecars = catalog.states([state.sidecar for state in states], texts)
        images = catalog.images([state.key for state in states])
        for state in states:
            sidecar = None if state.beside else sidecars.get(state.sidecar)
            stamp, state.digest = images.get(state.key, (None, None))
            if stamp != state.stamp:
                state.digest = None
                # In a first run they are hashed as they are decoded.
                if sidecar is not None or self._stored.keys_in(catalog):
                    self._hash(state)
            # A first run holds all its images, and most have nothing.
            if (state.before or state.beside, sidecar, state.digest) != (None, None, None):
                text = _text(state.before or state.beside)
                asked = state.prompt.get("hash", "")
                state.disk = SidecarStatus(text, sidecar, state.digest, state.before == b"", asked)
            state.decision = decide(state.disk, self._job.request)
        catalog.flush()

    def _hash(self, state: ImageState) -> None:
        try:
            state.digest = file_digest(state.item, self._job.max_pixels)
        except ImageError as error:
            state.failure = Failure(state.item, error.code, str(error))
        else:
            state.catalog.remember_image(state.key, state.stamp, state.digest)

    def _results(self, states: list[ImageState]) -> dict[tuple[int, bytes | None], Stored]:
        """The stored results by catalog and image, of those for which they matter."""
        wanted: dict[int, tuple[Catalog, list[bytes]]] = {}
        for state in states:
            digest = self._result_digest(state)
            if digest is not None and (self._want_results or state.decision.action is not Action.CURRENT):
                wanted.setdefault(id(state.catalog), (state.catalog, []))[1].append(digest)
        found: dict[tuple[int, bytes | None], Stored] = {}
        for catalog, digests in wanted.values():
            results = self._stored.results(catalog, digests)
            found.update({(id(catalog), digest): stored for digest, stored in results.items()})
        return found

    def _result_digest(self, state: ImageState) -> bytes | None:
        return None if state.digest is None else result_digest(state.digest, self._job.prompts, state.item.prompt)

    def _plan(
        self, state: ImageState, result: bytes | None, warnings: tuple[ImageWarning, ...]
    ) -> PlannedImage | Failure:
        planned = PlannedImage(
            item=state.item,
            job=self._job,
            catalog=state.catalog,
            stamp=state.stamp,
            before=state.before,
            disk=state.disk,
            decision=state.decision,
            result=result,
            warnings=warnings,
            prompt=state.prompt,
        )
        if state.beside and planned.leaves_sidecar and equals_stored_result(planned):
            # The user has it beside the image, and sdprep may write the same elsewhere.
            planned = replace(planned, decision=REPLACE)
        return _known_failure(planned) or planned


def _known_failure(image: PlannedImage) -> Failure | None:
    """Why nothing can be written for an image, as far as that is known without a model."""
    if image.leaves_sidecar:
        return None
    if image.decision.action is Action.COMBINE and "\0" in (image.disk.text or ""):
        name = image.job.sidecar(image.item).name
        message = f"{name} is {NO_ENCODING}, so nothing can be added to it; save it as UTF-8"
        return Failure(image.item, FailureCode.BAD_TEXT, message)
    if image.disk.digest is None:
        return None
    known = image.catalog.failure(image.disk.digest, image.job.decoder)
    return Failure(image.item, FailureCode(known[0]), known[1], is_known=True) if known else None


def _text(data: bytes | None) -> str | None:
    """The text of a sidecar; bytes that are not text get a NUL, and so equal nothing that sdprep writes.

    A file of 0 bytes has no text: a power cut or a full disk left it. An empty line is a text.
    """
    if not data:
        return None
    text = decode_text(data)
    return "\0" + data.decode("latin-1") if text is None else text
