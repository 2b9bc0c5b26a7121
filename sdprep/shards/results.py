"""The RESULTS of a run over shards: its record, its plan, and one object for each shard that is done.

_sdprep/run.json        created once: what shapes the results, and what they were made of
_sdprep/plan.jsonl      created once: the shards
_sdprep/failed/ID.json  a shard that was given up and why, and the images that end its worker
data/ID.parquet         created once, whole: the rows of a shard, which is done from then on
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from sdprep.errors import NoSuchObject, StoreError, UsageError, shortened
from sdprep.sanitize import printable
from sdprep.shards.store import SCHEME, FolderStore, Store, StoredObject, open_store
from sdprep.shards.table import SCHEMA, Row, ShardFacts, decode_facts, decode_rows, encode_rows
from sdprep.types import MAX_PIXELS

RUN = "_sdprep/run.json"
PLAN = "_sdprep/plan.jsonl"
FAILED = "_sdprep/failed/"
BEFORE = "_sdprep/before/"
DATA = "data/"
# The names of shards become names of files.
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]{0,199}")
# The packages whose other major version gives other pixels.
PIXELS = ("pillow",)
# Where several processes write the same object at the same time, a store may refuse both.
ATTEMPTS = 5

# A shard that could not be done so often is given up, until `sdprep results retry`.
TRIES = 3

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shard:
    """A unit of work: a tar, a row group of a table, or images of a folder: those with names `after` one, up to `last`.

    `size` is in bytes, and `count` the number of images where it is known.
    """

    id: str
    url: str
    etag: str = ""
    size: int = 0
    row_group: int | None = None
    after: str | None = None
    last: str | None = None
    count: int | None = None

    def __post_init__(self) -> None:
        if not ID.fullmatch(self.id):
            raise ValueError(f"{printable(self.id)!r} cannot be the name of a shard")


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What every process of a run has in common: `settings` shape the text, and a result depends on the `recipe`.

    A failure to decode depends on the `decoder`. `labels` are the names and categories of a tagger's labels, `source`
    is what the plan was made of, and `extension` is that of the sidecars that the texts would have. `stated` are the
    options that were stated, by name.
    """

    task: Literal["caption", "tag"]
    model: str
    settings: dict[str, Any]
    recipe: dict[str, Any]
    source: dict[str, Any]
    versions: dict[str, str] = field(default_factory=dict)
    labels: list[tuple[str, str]] = field(default_factory=list)
    decoder: str = ""
    extension: str = ".txt"
    stated: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True)
class FailedShard:
    """What attempts at a shard found; `poison` has the images that end a worker, by member, with code and message."""

    attempts: int
    error: str
    host: str = ""
    poison: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def is_given_up(self) -> bool:
        """Whether no run tries the shard again."""
        return bool(self.error) and self.attempts >= TRIES


class Results:
    """The results below a URL. Every method raises StoreError."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @classmethod
    def at(cls, url: str) -> Results:
        """The results at a URL or in a folder."""
        return cls(open_store(url))

    def __str__(self) -> str:
        return printable(self.store.url)

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process opens the store anew, by the credentials that it has.
        url = self.store.url if SCHEME.match(self.store.url) else Path(self.store.url).absolute().as_posix()
        return _reopened, (url, self.store.overwrites)

    def begin(self, record: RunRecord) -> RunRecord:
        """Record a run, or join the one that is recorded, and return its record.

        A store that accepts a second object of the same name is found here; `store.overwrites` then says so. What a
        process has left that was killed while it stored a shard is deleted.

        Raises UsageError if the recorded run has other settings.
        """
        try:
            data = self.store.get(RUN)
        except NoSuchObject:
            self.store.put(RUN, msgspec.json.encode(record))
            data = self.store.get(RUN)
        # Harmless where it is accepted, since these are the bytes that are there.
        if self.store.put(RUN, data):
            self.store.overwrites = True
        if isinstance(self.store, FolderStore):
            self.store.tidy(DATA)
        found = self._record(data)
        if lines := differences(found, record):
            raise UsageError(f"{self} was made with other settings; take another --results\n" + "\n".join(lines))
        return found

    def record(self) -> RunRecord:
        """The record of the run. Raises StoreError if there are no results."""
        try:
            data = self.store.get(RUN)
        except NoSuchObject as error:
            raise StoreError(f"{self} has no results of sdprep") from error
        return self._record(data)

    def plan(self, make: Callable[[], Iterable[Shard]] | None = None) -> list[Shard]:
        """The shards. If they are not planned yet, the plan of `make` is stored, or that of a faster process."""
        try:
            data = self.store.get(PLAN)
        except NoSuchObject as error:
            if make is None:
                raise StoreError(f"{self} has no plan: the run ended before its sources were listed") from error
            self.store.put(PLAN, b"".join(msgspec.json.encode(shard) + b"\n" for shard in make()))
            data = self.store.get(PLAN)
        if not data:
            raise StoreError(f"{self}/{PLAN} is damaged: it is empty")
        decoder = msgspec.json.Decoder(Shard)
        try:
            return [decoder.decode(line) for line in data.splitlines()]
        except msgspec.MsgspecError as error:
            raise StoreError(f"{self}/{PLAN} is damaged: {error}") from error

    def done(self) -> dict[str, StoredObject]:
        """The objects of the shards that are done, by the names of the shards."""
        found = self.store.list(DATA)
        return {each.name[len(DATA) : -len(".parquet")]: each for each in found if each.name.endswith(".parquet")}

    def is_done(self, shard: str) -> bool:
        """Whether a shard is done."""
        return self.store.find(_data(shard)) is not None

    def commit(self, shard: str, rows: list[Row], facts: ShardFacts) -> bool:
        """Store the rows of a shard: it is done from then on. False if another process was faster; its rows stay."""
        data = encode_rows(rows, facts)
        for _ in range(ATTEMPTS):
            if self.store.put(_data(shard), data):
                return True
            if self.is_done(shard):
                return False
        raise StoreError(f"{self}/{_data(shard)} was refused {ATTEMPTS} times, although there is no such object")

    def rows(self, shard: str, task: str, *, answers: bool = True) -> list[Row]:
        """The rows of a shard that is done, or without `answers` only what the rows of all tasks have."""
        name = _data(shard)
        return decode_rows(self.store.get(name), task, printable(f"{self.store.url}/{name}"), answers=answers)

    def facts(self, found: StoredObject) -> ShardFacts:
        """What is known of a shard that is done, of which only the end is read."""
        name = found.name
        where = printable(f"{self.store.url}/{name}")
        return decode_facts(found.size, lambda start, end: self.store.get(name, start, end), where)

    def reopen(self, shard: str) -> None:
        """Have a shard that is done count as not done; its rows are kept elsewhere, and those kept there before go."""
        self.store.put(f"{BEFORE}{shard}.parquet", self.store.get(_data(shard)), replace=True)
        self.store.delete(_data(shard))

    def failed(self) -> dict[str, FailedShard]:
        """The shards that were given up, and those with images that end a worker, by name."""
        names = [each.name for each in self.store.list(FAILED) if each.name.endswith(".json")]
        return {
            name[len(FAILED) : -len(".json")]: self._decode(name, self.store.get(name), FailedShard) for name in names
        }

    def failure(self, shard: str) -> FailedShard | None:
        """What earlier attempts at a shard found, or None."""
        name = _failed(shard)
        try:
            return self._decode(name, self.store.get(name), FailedShard)
        except NoSuchObject:
            return None

    def set_failure(self, shard: str, failure: FailedShard | None) -> None:
        """Record what an attempt at a shard found; None forgets it."""
        if failure is None:
            self.store.delete(_failed(shard))
        else:
            self.store.put(_failed(shard), msgspec.json.encode(failure), replace=True)

    def _record(self, data: bytes) -> RunRecord:
        found = self._decode(RUN, data, RunRecord)
        if found.schema > SCHEMA:
            raise StoreError(f"{self} was written by a newer sdprep (schema {found.schema}). Update sdprep")
        return found

    def _decode(self, name: str, data: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.MsgspecError as error:
            raise StoreError(f"{self}/{printable(name)} is damaged: {error}") from error


def _reopened(url: str, overwrites: bool) -> Results:
    results = Results.at(url)
    results.store.overwrites = overwrites
    return results


def _data(shard: str) -> str:
    return f"{DATA}{shard}.parquet"


def _failed(shard: str) -> str:
    return f"{FAILED}{shard}.json"


def differences(there: RunRecord, here: RunRecord) -> list[str]:
    """Where a run differs from a recorded one in what their results depend on, a line for each.

    Of another task only that is said: its settings and answers have nothing in common.
    """
    return list(_different("task", there.task, here.task)) or list(dict.fromkeys(_differences(there, here)))


def _differences(there: RunRecord, here: RunRecord) -> Iterator[str]:
    for name in ("settings", "recipe", "source"):
        yield from _different(name, getattr(there, name), getattr(here, name))
    yield from _different("decoder", _decoder_options(there.decoder), _decoder_options(here.decoder))
    for package in PIXELS:
        yield from _different(package, _major(there, package), _major(here, package))


def _decoder_options(decoder: str) -> dict[str, Any]:
    """The options in the name of a decoder; its packages, which come first, may differ."""
    words = decoder.split()[1:]
    limit = int(words[words.index("max-pixels") + 1]) if "max-pixels" in words else MAX_PIXELS
    return {"--max-pixels": limit, "--allow-truncated": "allow-truncated" in words}


def _different(name: str, there: Any, here: Any) -> Iterator[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        for key in dict.fromkeys([*there, *here]):
            yield from _different(str(key), there.get(key), here.get(key))
    elif msgspec.json.encode(there) != msgspec.json.encode(here):
        # As JSON, which has no tuples.
        yield f"{printable(name)}: {_shown(there)} there, {_shown(here)} here"


def _shown(value: Any) -> str:
    return shortened(printable(msgspec.json.encode(value).decode("utf-8")))


def _major(record: RunRecord, package: str) -> str:
    return f"version {record.versions.get(package, 'unknown').partition('.')[0]}"
