"""From sources to shards: tars, row groups of Parquet files, and slices of the images in a folder or bucket."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from itertools import chain
from pathlib import Path

from sdprep.errors import NoImages, UsageError
from sdprep.images.formats import OF_SHARDS, PARQUET, TARS, has_extension
from sdprep.sanitize import printable
from sdprep.shards.members import is_image
from sdprep.shards.results import ID, Shard
from sdprep.shards.rows import row_groups
from sdprep.shards.store import SCHEME, Store, StoredObject, open_store, split_url

# Images of a slice: enough that a worker is busy for minutes.
SLICE = 10_000
# Objects that are asked for at the same time: a bucket takes its time for each.
READERS = 16
# How many numbers a pair of braces may stand for.
MOST_NUMBERS = 1_000_000
BRACES = re.compile(r"\{([^{}]*)\}")
NUMBERS = re.compile(r"([0-9]+)\.\.([0-9]+)")
PATTERN = re.compile(r"[*?\[]")
UNFIT = re.compile(r"[^A-Za-z0-9._=-]+")


@dataclass(frozen=True, slots=True)
class Sources:
    """What the shards of a run are made of: URLs, and the columns of Parquet files that have the images."""

    urls: tuple[str, ...]
    image_column: str | None = None
    key_column: str | None = None

    @classmethod
    def of(cls, given: Iterable[str], image_column: str | None = None, key_column: str | None = None) -> Sources:
        """The sources as they are given; paths on this machine become absolute."""
        urls = tuple(url if SCHEME.match(url) else Path(url).absolute().as_posix() for url in given)
        return cls(urls, image_column, key_column)


class _Listing:
    """What a folder holds: tars, Parquet files, and slices of its images."""

    def __init__(self, store: Store) -> None:
        self.tars: list[str] = []
        self.tables: list[str] = []
        self.slices: list[Shard] = []
        images: list[StoredObject] = []
        for found in store.list():
            if is_image(found.name):
                images.append(found)
                if len(images) == SLICE:
                    self._add_slice(store.url, images)
                    images = []
            elif has_extension(found.name, TARS):
                self.tars.append(found.name)
            elif has_extension(found.name, PARQUET):
                self.tables.append(found.name)
        if images:
            self._add_slice(store.url, images)

    def _add_slice(self, url: str, images: Sequence[StoredObject]) -> None:
        after = self.slices[-1].last if self.slices else ""
        self.slices.append(Shard("0", url, etag_of(images), after=after, last=images[-1].name, count=len(images)))


def etag_of(images: Iterable[StoredObject]) -> str:
    """The etag of a slice, another one if an image is added, goes or changes."""
    names_and_etags = "\n".join(f"{found.name}\0{found.etag}" for found in images)
    return hashlib.sha256(os.fsencode(names_and_etags)).hexdigest()


def plan_shards(sources: Sources) -> list[Shard]:
    """The shards of these sources, in their order. Raises UsageError, NoImages, StoreError and MissingExtra."""
    open_once = _Stores()
    with ThreadPoolExecutor(READERS) as pool:
        found = [
            shard
            for source in sources.urls
            for url in ([source] if _is_here(source) else expand_braces(source))
            for shard in _shards_of(url, sources, open_once, pool.map)
        ]
    if not found:
        raise NoImages(f"no tar, no Parquet file and no image in {printable(', '.join(sources.urls))}")
    return list(_named(found))


class _Stores:
    """The stores of folders, each opened once."""

    def __init__(self) -> None:
        self._stores: dict[str, Store] = {}

    def __call__(self, url: str) -> Store:
        if url not in self._stores:
            self._stores[url] = open_store(url)
        return self._stores[url]


def expand_braces(text: str) -> Iterator[str]:
    """The texts that `{000..123}` and `{a,b}` stand for, as in WebDataset. Raises UsageError for too many."""
    found = BRACES.search(text)
    if found is None:
        yield text
        return
    if numbers := NUMBERS.fullmatch(found[1]):
        first, last = int(numbers[1]), int(numbers[2])
        if not 0 <= last - first < MOST_NUMBERS:
            raise UsageError(f"{printable(text)}: {found[0]} has to count up, to at most {MOST_NUMBERS:,} numbers")
        width = len(numbers[1]) if numbers[1].startswith("0") else 1
        values: Iterable[str] = (f"{number:0{width}}" for number in range(first, last + 1))
    else:
        values = found[1].split(",")
    for value in values:
        yield from expand_braces(text[: found.start()] + value + text[found.end() :])


Map = Callable[[Callable[[str], list[Shard]], Iterable[str]], Iterator[list[Shard]]]


def _is_here(source: str) -> bool:
    """Whether a source is the name of a file or folder of this machine, whatever brackets and braces are in it."""
    # A long list in braces is no name that the system knows: pathlib raises for it.
    return SCHEME.match(source) is None and os.path.exists(source)  # noqa: PTH110


def _shards_of(url: str, sources: Sources, store_of: _Stores, each: Map) -> Iterable[Shard]:
    is_pattern = PATTERN.search(url) is not None and not _is_here(url)
    if is_pattern:
        folder = _folder_of(url)
        store = store_of(folder)
        pattern = url[len(folder) :].lstrip("/")
        names = [found.name for found in store.list() if fnmatchcase(found.name, pattern)]
        names = [name for name in names if has_extension(name, OF_SHARDS)]
    elif has_extension(url, OF_SHARDS) and not os.path.isdir(url):  # noqa: PTH112 - as above
        folder, name = split_url(url)
        names, store = [name], store_of(folder)
    else:
        if SCHEME.match(url) is None and not _is_here(url):
            raise UsageError(f"no such file or folder: {printable(url)}")
        store = store_of(url.rstrip("/") or "/")
        listing = _Listing(store)
        if listing.slices and not listing.tars and sources.image_column is None:
            return listing.slices
        names = listing.tars if sources.image_column is None and listing.tars else listing.tables
    return chain.from_iterable(each(partial(_shards_in, store, sources), names))


def _folder_of(pattern: str) -> str:
    """The folder whose names a pattern is about; on this machine a folder may have brackets in its name."""
    before = pattern[: PATTERN.search(pattern).start()].rpartition("/")[0]  # type: ignore[union-attr]
    folder = pattern.rpartition("/")[0]
    while len(folder) > len(before) and not _is_here(folder):
        folder = folder.rpartition("/")[0]
    return folder


def _shards_in(store: Store, sources: Sources, name: str) -> list[Shard]:
    """The shards of one object."""
    url = f"{store.url}/{name}"
    found = store.find(name)
    if found is None:
        # The answer about one object is the same if there is no bucket; a listing tells it.
        next(store.list(), None)
        raise UsageError(f"{printable(url)}: there is no such object")
    if has_extension(name, PARQUET):
        return _row_groups(store, found, url, sources)
    return [Shard("0", url, found.etag, found.size)]


def _row_groups(store: Store, found: StoredObject, url: str, sources: Sources) -> list[Shard]:
    groups = row_groups(store, found, sources.image_column, sources.key_column)
    return [
        Shard("0", url, found.etag, size, row_group=number, count=count)
        for number, (count, size) in enumerate(groups)
        if count
    ]


def _named(shards: Sequence[Shard]) -> Iterator[Shard]:
    """The shards with names of their own: those of their objects, with a number where these are not enough."""
    stems = [_stem(shard) for shard in shards]
    # Some file systems do not tell large letters from small ones.
    is_unique = max(Counter(map(str.lower, stems)).values()) == 1
    for number, (shard, stem) in enumerate(zip(shards, stems, strict=True)):
        yield replace(shard, id=stem if is_unique else f"{number:06}-{stem}"[:200])


def _stem(shard: Shard) -> str:
    base = shard.url.rpartition("/")[2]
    stem = next((base[: -len(end)] for end in OF_SHARDS if has_extension(base, end)), base)
    if shard.row_group is not None:
        stem = f"{stem}-{shard.row_group:04}"
    stem = UNFIT.sub("_", stem).lstrip("._=-")[:180]
    return stem if ID.fullmatch(stem) else "shard"
