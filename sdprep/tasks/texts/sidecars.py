"""The sidecars of images as they are on disk, read in threads."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path

from sdprep.catalog.session import CatalogSession
from sdprep.folders import Folders
from sdprep.images.decoder import failure_of
from sdprep.report import CancelToken
from sdprep.tasks.reading import GROUP, read_groups
from sdprep.texts.sidecar import decode_text, decoding_fault, sidecar_collisions, sidecar_name
from sdprep.types import Failure, FailureCode, ImageItem


@dataclass(frozen=True, slots=True)
class SidecarNames:
    """How the sidecars of an image are named: the extensions of tag and caption files, and the `--sidecar-name`."""

    tags: str = ".txt"
    caption: str = ".caption"
    naming: str = "stem"

    def name(self, image: str, kind: str) -> str:
        """The sidecar of an image, both as paths with forward slashes; `kind` is "tags" or "caption"."""
        return sidecar_name(image, self.tags if kind == "tags" else self.caption, self.naming)


@dataclass(frozen=True, slots=True)
class Sidecar:
    """One sidecar as it is on disk.

    `data` is None where there is no file, and `text` where there is none or it cannot be decoded, for which there is a
    `failure`. `text` has no byte order mark, and all else as in the file. That of a file of 0 bytes is the one that the
    catalog has for it, since a power cut or a full disk left such a file.
    """

    item: ImageItem
    name: str
    data: bytes | None = None
    text: str | None = None
    failure: Failure | None = None

    @property
    def path(self) -> Path:
        """Where it is, or would be."""
        return self.item.target_folder / self.name


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """An image with its sidecars and its size, upright; what was not asked for is None, and an unknown size 0 x 0."""

    item: ImageItem
    names: SidecarNames
    tags: Sidecar | None = None
    caption: Sidecar | None = None
    size: tuple[int, int] = (0, 0)
    size_failure: Failure | None = None

    @property
    def sidecars(self) -> Iterator[Sidecar]:
        """The sidecars that were asked for."""
        return (each for each in (self.tags, self.caption) if each is not None)


def read_files(
    items: Sequence[ImageItem],
    names_of: Callable[[ImageItem], SidecarNames],
    wanted: Collection[str],
    stop: CancelToken,
) -> Iterator[list[ImageFiles]]:
    """All images in their order, some at a time, or fewer after a stop.

    `wanted` has what to read: "tags", "caption", "size".
    """
    # Names come from catalogs, which this thread alone may ask.
    groups = (
        [(item, names_of(item)) for item in items[start : start + GROUP]] for start in range(0, len(items), GROUP)
    )
    return map(list, read_groups(partial(_read_group, frozenset(wanted)), groups, stop))


def _read_group(wanted: frozenset[str], group: Sequence[tuple[ImageItem, SidecarNames]]) -> list[ImageFiles]:
    found: list[ImageFiles] = []
    for (folder, target), some in groupby(group, lambda pair: (pair[0].folder, pair[0].target_folder)):
        with Folders(folder) as folders, Folders(target) as targets:
            for item, names in some:
                tags = _read(item, names.name(item.within, "tags"), targets) if "tags" in wanted else None
                caption = _read(item, names.name(item.within, "caption"), targets) if "caption" in wanted else None
                files = ImageFiles(item, names, tags, caption)
                found.append(_sized(files, folders) if "size" in wanted else files)
    return found


def _read(item: ImageItem, name: str, targets: Folders) -> Sidecar:
    place, _, file = name.rpartition("/")
    try:
        folder = targets.find(place)
        data = None if folder is None else folder.read(file)
    except OSError as error:
        message = f"{file}: {error.strerror or error}"
        return Sidecar(item, name, failure=Failure(item, FailureCode.UNREADABLE, message))
    if data is None:
        return Sidecar(item, name)
    text = decode_text(data)
    if text is None:
        return Sidecar(item, name, data, None, Failure(item, FailureCode.BAD_TEXT, decoding_fault(file, data)))
    return Sidecar(item, name, data, text)


def _sized(files: ImageFiles, folders: Folders) -> ImageFiles:
    # Only sizes need Pillow.
    from sdprep.images.decode import read_upright_size

    try:
        return replace(files, size=read_upright_size(files.item, folders))
    except BaseException as error:  # noqa: BLE001 - what is not the image's fault is raised again
        return replace(files, size_failure=failure_of(files.item, error))


def collisions(
    items: Sequence[ImageItem], names_of: Callable[[ImageItem], SidecarNames], kind: str
) -> dict[str, Failure]:
    """A failure, by `rel`, for every image that shares its tag or caption file: nobody can say whose text it is."""
    named: dict[SidecarNames, list[ImageItem]] = {}
    for item in items:
        named.setdefault(names_of(item), []).append(item)
    clashes = (
        clash
        for names, some in named.items()
        for clash in sidecar_collisions(some, names.tags if kind == "tags" else names.caption, names.naming)
    )
    return {clash.item.rel: clash for clash in clashes}


def recalled(files: ImageFiles, catalogs: CatalogSession) -> ImageFiles:
    """The same, with the catalog's text for sidecars of 0 bytes."""
    if b"" not in (files.tags and files.tags.data, files.caption and files.caption.data):
        return files
    return replace(files, tags=_recalled(files.tags, catalogs), caption=_recalled(files.caption, catalogs))


def _recalled(sidecar: Sidecar | None, catalogs: CatalogSession) -> Sidecar | None:
    if sidecar is None or sidecar.data != b"":
        return sidecar
    path = sidecar.path
    catalog = catalogs.of(path.parent)
    state = catalog.state_of(catalog.key(path))
    return sidecar if state is None else replace(sidecar, text=state.text)
