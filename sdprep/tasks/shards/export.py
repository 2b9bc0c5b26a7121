"""`sdprep results export`: the images with a result as a table, or as metadata of kohya-style trainers."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sdprep.errors import UsageError, WriteError
from sdprep.files import replace_file
from sdprep.report import Listener, NullListener
from sdprep.shards.members import is_image, suffix_of
from sdprep.shards.results import Results, Shard
from sdprep.shards.table import OK, Row
from sdprep.texts.exact_json import dump_line
from sdprep.texts.exchange.parquet import check_parquet, parquet_parts
from sdprep.texts.metadata import dump

Format = Literal["parquet", "jsonl", "json", "webdataset"]
# A metadata JSON is one object that its readers hold in memory.
MOST_ENTRIES = 2_000_000
COLUMNS = {
    "file_name": "string",
    "text": "string",
    "width": "uint32",
    "height": "uint32",
    "key": "string",
    "shard": "string",
    "sha256": "string",
}


SUFFIXES: dict[str, Format] = {".parquet": "parquet", ".jsonl": "jsonl", ".json": "json"}


def format_of(output: str, stated: Format | None, extension: str | None) -> Format:
    """The format of an export, by the end of its name unless it is stated.

    Raises UsageError if it cannot be told, for a URL where a file is needed, and for an `extension` without effect.
    """
    kind = stated or SUFFIXES.get(posixpath.splitext(output)[1].lower())
    if kind is None:
        raise UsageError(
            f"-o {output}: end its name in {', '.join(SUFFIXES)}, or give a folder and --format webdataset"
        )
    if kind != "webdataset" and "://" in output:
        raise UsageError(f"-o {output}: {kind} is written to a file of this machine; only webdataset takes a URL")
    if kind != "webdataset" and extension is not None:
        raise UsageError(f"--extension has no effect for {kind}; leave it out")
    return kind


@dataclass(slots=True)
class ExportedResults:
    """What an export has: its images, those without a result by outcome, and the shards that are not done.

    `existing` shards were exported before, and `not_copied` has the reason for each that could not be.
    """

    output: str
    format: Format
    images: int = 0
    without_result: Counter[str] = field(default_factory=Counter)
    shards: int = 0
    remaining: int = 0
    existing: int = 0
    not_copied: dict[str, str] = field(default_factory=dict)

    def count(self, rows: Iterable[Row]) -> list[Row]:
        """The rows with a result, counted; the others are counted by their outcome."""
        counts = Counter(row.outcome for row in rows if row.is_image)
        self.images += counts.pop(OK, 0)
        self.without_result += counts
        return [row for row in rows if row.outcome == OK]


def export(
    results: Results, output: Path, kind: Format, *, overwrite: bool = False, listener: Listener | None = None
) -> ExportedResults:
    """Write the images with a result of all shards that are done into one file.

    Raises UsageError if the file exists, or two images share a key of a metadata JSON, StoreError, WriteError, and
    MissingExtra without pyarrow.
    """
    if output.exists() and not overwrite:
        raise UsageError(f"{output} exists already; use --overwrite to replace it, or another name")
    if not output.parent.is_dir():
        raise UsageError(f"-o {output}: there is no folder {output.parent}")
    check_parquet("shards")
    report = ExportedResults(str(output), kind)
    shards = done_shards(results, report, listener or NullListener())
    parts = {"parquet": _parquet, "jsonl": _json_lines, "json": _metadata}[kind]
    try:
        replace_file(output, parts(results, shards, report))
    except OSError as error:
        raise WriteError(error) from error
    return report


def done_shards(results: Results, report: ExportedResults, listener: Listener) -> Iterator[Shard]:
    """The shards that are done, in the order of the plan; each is counted when the next one is asked for."""
    plan, done = results.plan(), results.done()
    report.remaining = sum(shard.id not in done for shard in plan)
    listener.stage("exporting", len(plan) - report.remaining, "shards")
    for shard in plan:
        if shard.id in done:
            yield shard
            report.shards += 1
            listener.advance()


def _rows(results: Results, shards: Iterable[Shard], report: ExportedResults) -> Iterator[tuple[Shard, list[Row]]]:
    task = results.record().task
    for shard in shards:
        yield shard, report.count(results.rows(shard.id, task, answers=False))


def _parquet(results: Results, shards: Iterable[Shard], report: ExportedResults) -> Iterator[bytes]:
    tables = (_tables(shard, rows) for shard, rows in _rows(results, shards, report))
    return parquet_parts(tables, COLUMNS)


def _tables(shard: Shard, rows: Sequence[Row]) -> dict[str, list[Any]]:
    records = [_record(shard, row) for row in rows]
    return {name: [record[name] for record in records] for name in COLUMNS}


def _json_lines(results: Results, shards: Iterable[Shard], report: ExportedResults) -> Iterator[bytes]:
    for shard, rows in _rows(results, shards, report):
        yield b"".join(dump_line(_record(shard, row)) for row in rows)


def _record(shard: Shard, row: Row) -> dict[str, Any]:
    return {
        "file_name": row.member,
        "text": row.text or "",
        "width": row.width,
        "height": row.height,
        "key": row.key,
        "shard": shard.id,
        "sha256": None if row.digest is None else row.digest.hex(),
    }


def _name_in_table(row: Row) -> str:
    """The name of an image of a table by its key, which is the number of its row without a column of keys."""
    return row.key if is_image(row.key) else row.key + suffix_of(row.member)


def _metadata(results: Results, shards: Iterable[Shard], report: ExportedResults) -> Iterator[bytes]:
    """The entries of kohya-style trainers, under the names of the images."""
    what = "tags" if results.record().task == "tag" else "caption"
    entries: dict[str, dict[str, Any]] = {}
    origins: dict[str, str] = {}
    for shard, rows in _rows(results, shards, report):
        for row in rows:
            name = posixpath.normpath(row.member if shard.row_group is None else _name_in_table(row))
            if name in entries:
                raise UsageError(
                    f"{name} is an image of the shards {origins[name]} and {shard.id}, and a metadata JSON has one "
                    "entry for a name; export .jsonl or .parquet, which name the shard"
                )
            size = {} if row.width is None else {"image_size": [row.width, row.height]}
            entries[name], origins[name] = {what: row.text or "", **size}, shard.id
        if len(entries) > MOST_ENTRIES:
            raise UsageError(
                f"a metadata JSON of more than {MOST_ENTRIES:,} images has to be held in memory by all its readers; "
                "export .jsonl or .parquet"
            )
    yield dump(entries, Path("meta.json"))
