"""Recognising images and sidecars that were moved, renamed or copied since the last run, by their content."""

from __future__ import annotations

import errno
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import islice, takewhile
from pathlib import Path
from typing import TypeVar

from sdprep.catalog.catalog import Catalog
from sdprep.catalog.moves import (
    KnownSidecar,
    Move,
    count_below,
    has_sidecars,
    image_sizes,
    images_below,
    images_with,
    record_moves,
    remember_formers,
    sidecars_of,
)
from sdprep.catalog.schema import FileStat, Key, as_key, file_stat
from sdprep.catalog.session import CatalogSession
from sdprep.catalog.stated import StatedRow, keep_settings, move_places, stated_places, stated_rows
from sdprep.errors import ImageError, NoImages
from sdprep.folders import SIDECAR_LIMIT, read_below
from sdprep.images.decoder import file_digest
from sdprep.images.source import ImageSource, is_image
from sdprep.paths import is_inside, stem_of
from sdprep.report import CancelToken
from sdprep.rules.mixed_text import normalize
from sdprep.tasks.annotation.lookup import CHUNK
from sdprep.texts.sidecar import decode_text
from sdprep.types import MAX_PIXELS, ImageItem

T = TypeVar("T")

NOT_THERE = (errno.ENOENT, errno.ENOTDIR)


@dataclass(frozen=True, slots=True)
class Orphan:
    """A sidecar that sdprep knows and whose image is gone, and the image that has the same content, if there is one."""

    sidecar: str
    image: str | None


@dataclass(slots=True)
class Recognition:
    """The sidecars that were found at new paths, the images they came with, and sidecars without an image.

    `kept_settings` has what the images keep of their former folders.
    """

    sidecars: list[Move] = field(default_factory=list)
    images: list[Move] = field(default_factory=list)
    orphans: list[Orphan] = field(default_factory=list)
    kept_settings: list[StatedRow] = field(default_factory=list)


@dataclass(slots=True)
class _Arrival:
    """An image that the catalog does not know, or knows with another size or time."""

    item: ImageItem
    key: Key
    stamp: FileStat
    digest: bytes | None = None


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A known sidecar that may now be at `key`, where a file has this text; `is_gone` is about its former image."""

    sidecar: KnownSidecar
    key: Key
    text: bytes
    is_gone: bool


@dataclass(slots=True)
class _Images:
    """The images of a run in one catalog: how many are known, and the others."""

    catalog: Catalog
    known: int = 0
    arrivals: list[_Arrival] = field(default_factory=list)


def recognise(
    catalogs: CatalogSession, items: Sequence[ImageItem], stop: CancelToken, max_pixels: int = MAX_PIXELS
) -> Recognition:
    """Find the sidecars of images that were moved or copied, so that what is known of them holds at their new paths.

    Only new images are read, and of these only those that have the size of a known one. In a catalog that is only read
    nothing is recorded, but it answers as if it were.
    """
    found = Recognition()
    for images in _until(stop, _new_images(catalogs, items, stop)):
        search = _Search(images, items[0].folder, items[0].target_folder)
        if images.arrivals:
            search.hash_arrivals(stop, max_pixels)
            if stop:
                break
            search.match(stop)
            if stop:
                break
            search.record(search.places(items))
        found.sidecars += search.moves.values()
        found.images += search.image_moves
        found.kept_settings += search.kept_settings
        found.orphans += search.orphans(items)
    return found


def recognise_below(catalogs: CatalogSession, folder: Path, stop: CancelToken) -> None:
    """Recognise the sidecars below a folder."""
    with suppress(NoImages):
        recognise(catalogs, ImageSource(folder).items(), stop)


def recognise_sidecar(catalogs: CatalogSession, sidecar: Path) -> None:
    """Recognise one sidecar by the images that are named as it is."""
    with suppress(OSError):
        names = sorted(path.name for path in sidecar.parent.iterdir() if is_image(path.name))
        own = [name for name in names if sidecar.name.startswith(f"{stem_of(name)}.")]
        recognise(catalogs, [ImageItem.at(sidecar.parent / name) for name in own], CancelToken())


def _until(stop: CancelToken, values: Iterable[T]) -> Iterator[T]:
    """The values, or fewer after a stop."""
    return takewhile(lambda _: not stop, values)


def _new_images(catalogs: CatalogSession, items: Sequence[ImageItem], stop: CancelToken) -> list[_Images]:
    """The images by catalog, fewer after a stop; those of catalogs that know no sidecar are left out."""
    folders: dict[tuple[Path, str], tuple[_Images, str] | None] = {}
    by_catalog: dict[int, _Images] = {}
    queue = iter(items)
    while not stop and (chunk := list(islice(queue, CHUNK))):
        waiting: dict[int, tuple[_Images, dict[Key, tuple[ImageItem, FileStat]]]] = {}
        for item in chunk:
            folder, _, name = item.within.rpartition("/")
            place = item.target_folder, folder
            if place in folders and folders[place] is None:
                continue
            try:
                stamp = file_stat(os.stat(f"{item.folder}/{item.within}"))  # noqa: PTH116 - a million times
            except OSError:
                continue  # Planning reports it.
            if place not in folders:
                target = item.target_folder / folder
                catalog = catalogs.of(target)
                images = by_catalog.setdefault(id(catalog), _Images(catalog))
                folders[place] = (images, catalog.prefix(target)) if has_sidecars(catalog) else None
            if (known_place := folders[place]) is not None:
                images, prefix = known_place
                waiting.setdefault(id(images), (images, {}))[1][as_key(prefix + name)] = item, stamp
        for images, group in waiting.values():
            known = images.catalog.images(list(group))
            images.known += len(known)
            for key, (item, stamp) in group.items():
                if key not in known or known[key][0] != stamp:
                    images.arrivals.append(_Arrival(item, key, stamp))
    return [images for images in by_catalog.values() if images.known or images.arrivals]


class _Search:
    """The search for the former keys of the new images of one catalog, in a run over one folder."""

    def __init__(self, images: _Images, folder: Path, target_folder: Path) -> None:
        self._images, self._catalog = images, images.catalog
        self._folder, self._target_folder = folder, target_folder
        self._arrived = {arrival.key: arrival for arrival in images.arrivals}
        # By the new key of a sidecar.
        self.moves: dict[Key, Move] = {}
        self.image_moves: list[Move] = []
        self.kept_settings: list[StatedRow] = []
        # Former keys of sidecars whose state has gone to another place.
        self._claimed: set[Key] = set()

    def hash_arrivals(self, stop: CancelToken, max_pixels: int) -> None:
        """Hash the new images that have the size of a known one."""
        sizes = image_sizes(self._catalog)
        for arrival in _until(stop, self._images.arrivals):
            if arrival.stamp[0] in sizes:
                try:
                    arrival.digest = file_digest(arrival.item, max_pixels)
                except ImageError:
                    continue  # Planning reports it.

    def match(self, stop: CancelToken) -> None:
        """Find the sidecars of each new image: first by their very text, then those that were edited on the way.

        After a stop it ends early, and what it found is not to be used.
        """
        found = list(_until(stop, self._candidates(stop)))
        for each in _until(stop, found):
            if each.key not in self.moves and each.text == each.sidecar.text:
                self._take(each, is_gone=each.is_gone and each.sidecar.key not in self._claimed)
        for move in _until(stop, list(self.moves.values())):
            if move.is_gone and not self._has_left(move.former):
                self.moves[move.key] = replace(move, is_gone=False)
        own = {each.key: each.sidecar.text for each in found if each.sidecar.key == each.key}
        for each in _until(stop, found):
            is_free = each.key not in self.moves and each.sidecar.key not in self._claimed
            if is_free and each.is_gone and each.text != own.get(each.key) and self._has_left(each.sidecar.key):
                self._take(each, is_gone=True)

    def _take(self, found: _Candidate, *, is_gone: bool) -> None:
        self.moves[found.key] = Move(found.sidecar.key, found.key, is_gone)
        if is_gone:
            self._claimed.add(found.sidecar.key)

    def _candidates(self, stop: CancelToken) -> Iterator[_Candidate]:
        """The known sidecars of images with the content of new ones, where there is a file for them at the new path.

        There are none for the images that are left after a stop.
        """
        digests = {arrival.digest for arrival in self._images.arrivals if arrival.digest is not None}
        keys_of = images_with(self._catalog, digests)
        # Identical images share their former keys: each of these is looked at once, and not for every image.
        is_gone, known_sidecars = cache(self._is_gone), cache(partial(sidecars_of, self._catalog))
        text_at = cache(self._text_at)
        for arrival in _until(stop, self._images.arrivals):
            formers = [
                Move(key, arrival.key, is_gone(key, arrival.digest))
                for key in keys_of.get(arrival.digest or b"", ())
                if key != arrival.key
            ]
            # The most similar path first: identical images keep their places in a folder that was renamed.
            formers.sort(key=lambda move: (not move.is_gone, -_common_parts(move.former, move.key)))
            self.image_moves += formers[:1]
            name = os.fsdecode(arrival.key)
            for move in formers:
                for sidecar in known_sidecars(move.former):
                    key = as_key((name if sidecar.is_full else stem_of(name)) + sidecar.ending)
                    text = text_at(key)
                    if text is not None:
                        yield _Candidate(sidecar, key, text, move.is_gone)

    def _is_gone(self, image: Key, digest: bytes | None) -> bool:
        """Whether a known image of this content is no longer at its key; False if that cannot be known."""
        if (arrival := self._arrived.get(image)) is not None:
            # Another image has its name. One that was not hashed has a size that no known image has.
            return arrival.digest != digest
        path = self._path(image)
        if path is None:
            return False
        if self._target_folder != self._folder:
            if not path.is_relative_to(self._target_folder):
                return False
            path = self._folder / path.relative_to(self._target_folder)
        return _is_missing(path)

    def _path(self, key: Key) -> Path | None:
        """The path of a key; None outside the folders of the run and of the catalog, where nothing is looked at."""
        path = self._catalog.path(key)
        return path if any(is_inside(path.parent, root) for root in (self._target_folder, self._catalog.root)) else None

    def _text_at(self, key: Key) -> bytes | None:
        """The hash of the text in a sidecar, as states have it; None if there is no file that can be read."""
        path = self._path(key)
        try:
            data = None if path is None else read_below(path.parent, path, SIDECAR_LIMIT)
        except OSError:
            return None  # Planning reports it.
        if data is None:
            return None
        text = decode_text(data)
        return b"" if text is None else hashlib.sha256((normalize(text) + "\n").encode("utf-8")).digest()

    def _has_left(self, sidecar: Key) -> bool:
        """Whether a sidecar is no longer at its former key, or is that of another image now."""
        path = self._path(sidecar)
        return sidecar in self.moves or (path is not None and _is_missing(path))

    def places(self, items: Sequence[ImageItem]) -> list[Move]:
        """The images and folders for which something was stated, and that were moved or copied.

        A folder counts as one that was moved or copied if all of its images are new and most came from there.
        """
        stated = stated_places(self._catalog)
        images = [move for move in self.image_moves if move.former in stated]
        came = Counter(pair for move in self.image_moves for pair in _folders(move) if as_key(pair[0]) in stated)
        if not came:
            return images
        here: Counter[str] = Counter()
        known: set[str] = set()
        for item in items:
            key = self._catalog.key(item.target)
            folders = _above(os.fsdecode(key))
            here.update(folders)
            if key not in self._arrived:
                known.update(folders)
        taken = {new: old for (old, new), count in came.items() if new not in known and 2 * count > here[new]}
        return images + [
            Move(as_key(old), as_key(new), old in taken or _is_missing(self._catalog.root / old))
            for new, old in taken.items()
        ]

    def record(self, places: list[Move]) -> None:
        """Record what was found; in a catalog that is only read, let it answer as if that were recorded."""
        catalog = self._catalog
        former = stated_rows(catalog) if self.image_moves else []
        if catalog.dry_run:
            remember_formers(catalog, self.moves.values())
            catalog.moved_places.update({move.key: move.former for move in places})
            self.kept_settings = keep_settings(catalog, former, self.image_moves)
            return
        for arrival in self._images.arrivals:
            if arrival.digest is not None:
                catalog.remember_image(arrival.key, arrival.stamp, arrival.digest)
        left = {move.former for move in self.moves.values() if move.is_gone}
        gone = [
            move.former
            for move in self.image_moves
            if move.is_gone
            and move.former not in self._arrived
            and all(each.key in left or self._has_left(each.key) for each in sidecars_of(catalog, move.former))
        ]
        with catalog.transaction():
            record_moves(catalog, self.moves.values(), gone)
            if places:
                move_places(catalog, places)
            self.kept_settings = keep_settings(catalog, former, self.image_moves)

    def orphans(self, items: Sequence[ImageItem]) -> list[Orphan]:
        """The sidecars in the folder of the run that the catalog knows, and whose images are gone."""
        catalog = self._catalog
        prefix = "" if catalog.root.is_relative_to(self._target_folder) else catalog.prefix(self._target_folder)
        # Without new images, all that are known are there if they are as many.
        if not self._images.arrivals and count_below(catalog, prefix) == self._images.known:
            return []
        known = images_below(catalog, prefix)
        here = {catalog.key(item.target) for item in items}
        stems = {stem_of(os.fsdecode(key)) for key in here}
        missing = {key: digest for key, digest in known.items() if key not in here and self._is_gone(key, digest)}
        found = [
            (sidecar.key, digest)
            for key, digest in missing.items()
            if stem_of(os.fsdecode(key)) not in stems
            for sidecar in sidecars_of(catalog, key)
            if (path := self._path(sidecar.key)) is not None and not _is_missing(path)
        ]
        same = images_with(catalog, {digest for _, digest in found})
        for arrival in self._images.arrivals:
            if arrival.digest is not None:
                same.setdefault(arrival.digest, []).append(arrival.key)
        return [
            Orphan(self._name(sidecar), next((self._name(key) for key in same.get(digest, ()) if key in here), None))
            for sidecar, digest in sorted(found, key=lambda each: os.fsdecode(each[0]))
        ]

    def _name(self, key: Key) -> str:
        """The name of a file in reports."""
        path = self._catalog.path(key)
        return (path.relative_to(self._target_folder) if path.is_relative_to(self._target_folder) else path).as_posix()


def _above(name: str) -> list[str]:
    """The folders that a file is in, from its own upwards, without that of the catalog."""
    return [name[:end] for end in range(len(name) - 1, 0, -1) if name[end] == "/"]


def _folders(move: Move) -> list[tuple[str, str]]:
    """The folders that an image was moved from and to, and those above as far as their folders have the same names."""
    pairs = []
    former, new = _above(os.fsdecode(move.former)), _above(os.fsdecode(move.key))
    for old_folder, new_folder in zip(former, new, strict=False):
        if old_folder == new_folder:
            break
        pairs.append((old_folder, new_folder))
        if old_folder.rpartition("/")[2] != new_folder.rpartition("/")[2]:
            break
    return pairs


def _common_parts(one: Key, other: Key) -> int:
    """How many of their last names two paths share."""
    pairs = zip(*(reversed(os.fsdecode(key).split("/")) for key in (one, other)), strict=False)
    return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _is_missing(path: Path) -> bool:
    """Whether there is no file at a path; False if that cannot be known."""
    try:
        path.lstat()
    except OSError as error:
        return error.errno in NOT_THERE
    return False
