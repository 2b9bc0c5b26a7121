"""A dataset as it is on disk: the images of a folder, their sizes, and what their sidecars say."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

from sdprep.catalog.session import CatalogSession
from sdprep.config import PathOptions
from sdprep.errors import ImageError, starting_threads
from sdprep.folders import Folders
from sdprep.images.decoder import failure_of
from sdprep.images.source import FolderSource
from sdprep.report import CancelToken, Listener
from sdprep.texts.sidecar import read_text, sidecar_collisions, sidecar_name, sidecar_path
from sdprep.types import Failure, FailureCode, ImageItem, ImageWarning

SIZE = "image_size"
THREADS, GROUP = 8, 64  # A thread takes a group: handing over one image takes as long as reading it.


@dataclass(frozen=True, slots=True)
class DatasetImage:
    """What is on disk for one image: its texts by field (None: no sidecar) and its stored [width, height].

    `warnings` has what a trainer finds wrong with its sidecars, by their paths relative to the folder.
    """

    item: ImageItem
    texts: dict[str, str | None]
    size: list[int] | None = None
    failure: Failure | None = None
    warnings: tuple[tuple[str, ImageWarning], ...] = ()

    @property
    def lacks_some(self) -> bool:
        """Whether a wanted sidecar is missing."""
        return None in self.texts.values()

    @property
    def lacks_all(self) -> bool:
        """Whether texts are wanted and none is there."""
        return bool(self.texts) and all(text is None for text in self.texts.values())


class Dataset:
    """The images of a folder and the wanted `fields` of each: texts, each with an extension, and the size.

    Raises UsageError for what is not a folder.
    """

    def __init__(
        self, directory: Path, paths: PathOptions, extensions: Mapping[str, str] = {}, fields: Sequence[str] = ()
    ) -> None:
        self._source = FolderSource(directory, recursive=paths.recursive, output_dir=paths.output_dir)
        self.directory = self._source.directory
        self._extensions, self._fields, self._naming = extensions, fields, paths.sidecar_name

    def items(self, listener: Listener) -> list[ImageItem]:
        """List the images, and note what was skipped. Raises NoImages if there are none."""
        items = self._source.items()
        if self._source.skipped:
            listener.note(self._source.skipped)
        return items

    def collisions(self, items: Sequence[ImageItem]) -> dict[str, Failure]:
        """A failure, by `rel`, for every image that shares a wanted sidecar: nobody can say whose text it is."""
        wanted = [self._extensions[field] for field in self._fields if field in self._extensions]
        clashes = (clash for extension in wanted[:1] for clash in sidecar_collisions(items, extension, self._naming))
        return {clash.item.rel: clash for clash in clashes}

    def read(
        self,
        items: Sequence[ImageItem],
        catalogs: CatalogSession,
        listener: Listener,
        stop: CancelToken,
        failures: Mapping[str, Failure],
    ) -> list[DatasetImage]:
        """Read all images in order, or fewer after a stop; `failures` are those that are known before, by `rel`."""
        images: list[DatasetImage] = []
        groups = iter([items[start : start + GROUP] for start in range(0, len(items), GROUP)])
        listener.stage("merging", len(items))
        stop.interruptible = True
        with ThreadPoolExecutor(THREADS) as pool:
            while not stop and (some := list(islice(groups, 2 * THREADS))):
                with starting_threads():
                    read = pool.map(self._read_group, some)
                for image in chain.from_iterable(read):
                    if image.item.rel in failures:
                        image = replace(image, failure=failures[image.item.rel])
                    images.append(self._recalled(image, catalogs) if "" in image.texts.values() else image)
                    listener.advance()
        stop.interruptible = False
        return images

    def _read_group(self, group: Sequence[ImageItem]) -> list[DatasetImage]:
        with Folders(group[0].folder) as folders, Folders(group[0].target_folder) as targets:
            return [self._read(item, folders, targets) for item in group]

    def _read(self, item: ImageItem, folders: Folders, targets: Folders) -> DatasetImage:
        # Only sizes need Pillow, which a run of caption or tag leaves to its worker.
        from sdprep.images.decode import read_size

        texts: dict[str, str | None] = {}
        size, failure = None, None
        warnings: list[tuple[str, ImageWarning]] = []
        for field in self._fields:
            try:
                if field == SIZE:
                    size = list(read_size(item, folders))
                else:
                    name = sidecar_name(item.rel, self._extensions[field], self._naming)
                    texts[field], warning = _read_stripped(name, targets)
                    if warning is not None:
                        warnings.append((name, warning))
            except BaseException as error:  # noqa: BLE001 - what is not the image's fault is raised again
                failure = failure or failure_of(item, error)
        return DatasetImage(item, texts, size, failure, tuple(warnings))

    def _recalled(self, image: DatasetImage, catalogs: CatalogSession) -> DatasetImage:
        """The image with the catalog's text for sidecars of 0 bytes, which a power cut or a full disk has left."""
        texts, target = dict(image.texts), image.item.target
        for field in [field for field, text in texts.items() if text == ""]:
            path = sidecar_path(target, self._extensions[field], self._naming)
            if os.path.lexists(path) and path.lstat().st_size == 0:
                catalog = catalogs.of(target.parent)
                state = catalog.state_of(catalog.key(path))
                texts[field] = "" if state is None else state.text.strip()
        return replace(image, texts=texts)


def _read_stripped(sidecar: str, folders: Folders) -> tuple[str | None, ImageWarning | None]:
    place, _, name = sidecar.rpartition("/")
    try:
        folder = folders.find(place)
        text, warning = (None, None) if folder is None else read_text(folder, name)
    except OSError as error:
        raise ImageError(FailureCode.UNREADABLE, f"{name}: {error.strerror or error}") from error
    return (None if text is None else text.replace("\r\n", "\n").replace("\r", "\n").strip()), warning
