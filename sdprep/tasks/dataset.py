"""A dataset as it is on disk: the images of a folder, their sizes, and what their sidecars say."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

from sdprep.catalog.session import CatalogSession
from sdprep.config import MergeSettings
from sdprep.errors import ImageError
from sdprep.folders import Folders
from sdprep.images.decoder import failure_of
from sdprep.images.source import ImageSource
from sdprep.report import CancelToken, Listener
from sdprep.tasks.reading import GROUP, read_groups
from sdprep.texts.sidecar import read_text, sidecar_collisions, sidecar_name, sidecar_path
from sdprep.types import Failure, FailureCode, ImageItem, ImageWarning

SIZE = "image_size"


@dataclass(frozen=True, slots=True)
class DatasetImage:
    """What is on disk for one image: its texts by field (None: no sidecar) and its stored [width, height].

    `warnings` has what a trainer finds wrong with its sidecars, by their paths relative to the folder.
    """

    item: ImageItem
    settings: MergeSettings
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
    """The images of a source and the wanted fields of each, by its settings: texts, and the size."""

    def __init__(self, source: ImageSource) -> None:
        self.source, self.directory = source, source.directory

    def items(self, listener: Listener) -> list[ImageItem]:
        """List the images, and note what was skipped. Raises NoImages if there are none."""
        items = self.source.items()
        if self.source.skipped:
            listener.note(self.source.skipped)
        return items

    def collisions(self, items: Sequence[ImageItem], settings: Mapping[str, MergeSettings]) -> dict[str, Failure]:
        """A failure, by `rel`, for every image that shares a wanted sidecar: nobody can say whose text it is."""
        named: dict[tuple[str, str], list[ImageItem]] = {}
        for item in items:
            own = settings[item.rel]
            for extension in [extension_of(own, field) for field in own.fields if field != SIZE][:1]:
                named.setdefault((extension, own.paths.sidecar_name), []).append(item)
        clashes = (clash for names, some in named.items() for clash in sidecar_collisions(some, *names))
        return {clash.item.rel: clash for clash in clashes}

    def read(
        self,
        items: Sequence[ImageItem],
        settings: Mapping[str, MergeSettings],
        catalogs: CatalogSession,
        listener: Listener,
        stop: CancelToken,
        failures: Mapping[str, Failure],
    ) -> list[DatasetImage]:
        """Read all images in order, or fewer after a stop.

        `settings` are those of each image and `failures` those that are known before, both by `rel`.
        """
        images: list[DatasetImage] = []
        groups = (items[start : start + GROUP] for start in range(0, len(items), GROUP))
        listener.stage("merging", len(items))
        stop.interruptible = True
        for some in read_groups(partial(self._read_group, settings), groups, stop):
            for image in some:
                if image.item.rel in failures:
                    image = replace(image, failure=failures[image.item.rel])
                images.append(self._recalled(image, catalogs) if "" in image.texts.values() else image)
                listener.advance()
        stop.interruptible = False
        return images

    def _read_group(self, settings: Mapping[str, MergeSettings], group: Sequence[ImageItem]) -> list[DatasetImage]:
        images: list[DatasetImage] = []
        for (folder, target), some in groupby(group, lambda item: (item.folder, item.target_folder)):
            with Folders(folder) as folders, Folders(target) as targets:
                images += [self._read(item, settings[item.rel], folders, targets) for item in some]
        return images

    def _read(self, item: ImageItem, settings: MergeSettings, folders: Folders, targets: Folders) -> DatasetImage:
        if SIZE in settings.fields:
            # Only sizes need Pillow, which a run of caption or tag leaves to its worker.
            from sdprep.images.decode import read_size

        texts: dict[str, str | None] = {}
        size, failure = None, None
        warnings: list[tuple[str, ImageWarning]] = []
        for field in settings.fields:
            try:
                if field == SIZE:
                    size = list(read_size(item, folders))
                else:
                    name = sidecar_name(item.within, extension_of(settings, field), settings.paths.sidecar_name)
                    texts[field], warning = _read_stripped(name, targets)
                    if warning is not None:
                        warnings.append((name, warning))
            except BaseException as error:  # noqa: BLE001 - what is not the image's fault is raised again
                failure = failure or failure_of(item, error)
        return DatasetImage(item, settings, texts, size, failure, tuple(warnings))

    def _recalled(self, image: DatasetImage, catalogs: CatalogSession) -> DatasetImage:
        """The image with the catalog's text for sidecars of 0 bytes, which a power cut or a full disk has left."""
        texts, target = dict(image.texts), image.item.target
        for field in [field for field, text in texts.items() if text == ""]:
            path = sidecar_path(target, extension_of(image.settings, field), image.settings.paths.sidecar_name)
            if os.path.lexists(path) and path.lstat().st_size == 0:
                catalog = catalogs.of(target.parent)
                state = catalog.state_of(catalog.key(path))
                texts[field] = "" if state is None else state.text.strip()
        return replace(image, texts=texts)


def extension_of(settings: MergeSettings, field: str) -> str:
    """The extension of the sidecars that hold a field."""
    return settings.caption_extension if field == "caption" else settings.tag_extension


def _read_stripped(sidecar: str, folders: Folders) -> tuple[str | None, ImageWarning | None]:
    place, _, name = sidecar.rpartition("/")
    try:
        folder = folders.find(place)
        text, warning = (None, None) if folder is None else read_text(folder, name)
    except OSError as error:
        raise ImageError(FailureCode.UNREADABLE, f"{name}: {error.strerror or error}") from error
    return (None if text is None else text.replace("\r\n", "\n").replace("\r", "\n").strip()), warning
