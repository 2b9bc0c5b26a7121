"""The images of a shard, whatever it is made of."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING

from sdprep.errors import NoSuchObject, StoreError
from sdprep.sanitize import printable
from sdprep.shards.members import Member, fault_of_name, faulty, is_image, key_of, too_large
from sdprep.shards.plan import READERS, Sources, etag_of
from sdprep.shards.results import Shard
from sdprep.shards.rows import read_rows
from sdprep.shards.store import Store, StoredObject, open_store, split_url
from sdprep.shards.tar import read_tar
from sdprep.types import FailureCode

if TYPE_CHECKING:
    from sdprep.errors import ImageError


class ChangedSource(StoreError):  # noqa: N818 - it names a state, as NoImages does
    """A source is not what it was when the run was planned."""

    def __init__(self, url: str) -> None:
        super().__init__(
            f"{printable(url)} has changed since the run was planned. Take another --results for it, or put back what "
            "was there and use sdprep results retry"
        )


def read_shard(shard: Shard, sources: Sources, limit: int) -> Iterator[Member]:
    """The images of a shard, in their order; those of more than `limit` bytes are not read.

    Raises StoreError, of which ChangedSource and NoSuchObject are about this shard alone.
    """
    if shard.after is not None:
        yield from _slice(open_store(shard.url), shard, limit)
        return
    folder, name = split_url(shard.url)
    store = open_store(folder)
    if shard.row_group is not None:
        found = store.find(name)
        if found is None:
            raise NoSuchObject(f"{printable(shard.url)}: there is no such object")
        _check(shard, found)
        yield from read_rows(store, found, shard.row_group, (sources.image_column, sources.key_column), limit)
        return
    opened = store.open(name)
    _check(shard, opened.found)
    yield from read_tar(opened.chunks, limit)


def _check(shard: Shard, found: StoredObject) -> None:
    if found.etag != shard.etag:
        raise ChangedSource(shard.url)


def _slice(store: Store, shard: Shard, limit: int) -> Iterator[Member]:
    """The images of a range of names. Raises ChangedSource if they are not those of the plan."""
    images = [found for found in store.list(after=str(shard.after), last=shard.last) if is_image(found.name)]
    if etag_of(images) != shard.etag:
        raise ChangedSource(f"{shard.url} up to {shard.last}")
    with ThreadPoolExecutor(READERS) as pool:
        left = iter(images)
        while some := list(islice(left, READERS)):
            yield from pool.map(lambda found: _image(store, found, limit), some)


def _image(store: Store, found: StoredObject, limit: int) -> Member:
    fault: ImageError | None = fault_of_name(found.name)
    if fault is None and found.size > limit:
        fault = too_large(limit)
    if fault is not None:
        return Member(key_of(found.name), found.name, fault=fault)
    try:
        return Member(key_of(found.name), found.name, store.get(found.name))
    except NoSuchObject:
        return faulty(found.name, FailureCode.UNREADABLE, "it was deleted meanwhile")
