"""WebDataset copies: the tars of a run again, with the text of each image as a member after it."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from sdprep.errors import StoreError, UsageError
from sdprep.images.formats import TARS, has_extension
from sdprep.paths import stem_of
from sdprep.report import Listener, NullListener
from sdprep.sanitize import printable
from sdprep.shards.results import Results, Shard
from sdprep.shards.store import Store, open_store, split_url
from sdprep.tasks.shards.export import ExportedResults, done_shards
from sdprep.texts.exchange.tables import tar_end, tar_member

GZIP = b"\x1f\x8b"
CHUNK = 1 << 20


def copy_tars(
    results: Results, output: Store, *, extension: str | None = None, listener: Listener | None = None
) -> ExportedResults:
    """Write a tar for each shard that is done: all bytes of its members, and the text of each image after it.

    A tar that is there already is left, so that the same command goes on where it ended. One that cannot be copied is
    named with the reason, such as a source that has changed since, or two images whose texts would have the same name.

    Raises UsageError if the shards are not tars, or one has a member of the same name, StoreError, and MissingExtra.
    """
    record = results.record()
    extension = extension or record.extension
    report = ExportedResults(output.url, "webdataset")
    existing = {found.name for found in output.list()}
    for shard in done_shards(results, report, listener or NullListener()):
        if not has_extension(shard.url, TARS):
            raise UsageError(f"{printable(shard.url)} is not a tar; export .parquet or .jsonl instead")
        name = f"{shard.id}.tar"
        if name in existing:
            report.existing += 1
            continue
        rows = report.count(results.rows(shard.id, record.task, answers=False))
        texts = {row.member: (row.text or "").encode("utf-8") for row in rows}
        with TemporaryDirectory(prefix="sdprep-") as folder:
            copy = Path(folder) / name
            try:
                _copy(shard, texts, extension, copy)
            except (StoreError, tarfile.TarError) as error:
                report.not_copied[shard.id] = str(error)
            else:
                output.put_file(name, copy)
    return report


def _copy(shard: Shard, texts: Mapping[str, bytes], extension: str, copy: Path) -> None:
    _check_names(texts, extension)
    source = copy.with_name("source")
    _fetch(shard, source)
    with source.open("rb") as file, copy.open("wb") as out:
        size = 0
        for part in _with_texts(file, source.stat().st_size, texts, extension):
            out.write(part)
            size += len(part)
        out.write(tar_end(size))


def _check_names(texts: Iterable[str], extension: str) -> None:
    """Raise StoreError for two images that differ in their extensions alone: readers refuse a name that comes twice."""
    seen = dict[str, str]()
    for name in texts:
        if (other := seen.setdefault(stem_of(name), name)) != name:
            text = printable(stem_of(name) + extension)
            raise StoreError(
                f"{printable(other)} and {printable(name)} would both have {text}; export .parquet or .jsonl"
            )


def _fetch(shard: Shard, place: Path) -> None:
    """Copy the tar of a shard to a file, unpacked. Raises StoreError if it is not the one of the plan."""
    folder, name = split_url(shard.url)
    opened = open_store(folder).open(name)
    if shard.etag and opened.found.etag != shard.etag:
        raise StoreError(f"{printable(shard.url)} has changed since it was planned")
    packed = place.with_name("packed")
    with packed.open("wb") as file:
        for chunk in opened.chunks:
            file.write(chunk)
    with packed.open("rb") as file:
        is_packed = file.read(len(GZIP)) == GZIP
    if not is_packed:
        packed.rename(place)
        return
    # As much of an incomplete one as there is.
    with gzip.open(packed) as source, place.open("wb") as file, suppress(EOFError, zlib.error, gzip.BadGzipFile):
        while part := source.read1(CHUNK):
            file.write(part)


def _with_texts(file: IO[bytes], size: int, texts: Mapping[str, bytes], extension: str) -> Iterator[bytes]:
    """The bytes of the whole members of a tar of this size, and the text of each image after it.

    Raises UsageError if there is a member that has the name of a text.
    """
    waiting, taken = dict(texts), {stem_of(name) + extension for name in texts}
    start = 0
    with tarfile.open(fileobj=file, mode="r:") as tar:
        while (member := tar.next()) is not None and tar.offset <= size:
            name = printable(member.name)
            if name in taken:
                raise UsageError(f"{name} is in a source already; use another --extension, such as .sdprep{extension}")
            yield from _span(file, start, tar.offset)
            start = tar.offset
            if (text := waiting.pop(name, None)) is not None:
                yield tar_member(stem_of(member.name) + extension, text)


def _span(file: IO[bytes], start: int, end: int) -> Iterator[bytes]:
    """The bytes of a file between two places, which are then read on where they were."""
    before = file.tell()
    file.seek(start)
    while start < end and (part := file.read(min(CHUNK, end - start))):
        start += len(part)
        yield part
    file.seek(before)
