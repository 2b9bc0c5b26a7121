"""Parquet, by pyarrow."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdprep.errors import MissingExtra
from sdprep.texts.exchange.sample import NewFile

if TYPE_CHECKING:
    import pyarrow

# Bytes at the end of a file that are read first: most footers fit in them.
FOOTER = 64 << 10
# Rows of a group in a long file.
GROUP = 100_000
# Rows with images that are in memory together.
FEW = 64


def parquet_file(name: str, rows: Sequence[Mapping[str, Any]]) -> NewFile:
    """A Parquet file with these rows. Raises MissingExtra without pyarrow."""
    check_parquet()
    import pyarrow
    import pyarrow.parquet

    stream = io.BytesIO()
    pyarrow.parquet.write_table(_with_types(pyarrow.Table.from_pylist(list(rows))), stream, compression="zstd")
    return NewFile(name, [stream.getvalue()])


def _with_types(table: pyarrow.Table) -> pyarrow.Table:
    """The table with columns that have no value at all as texts."""
    import pyarrow

    for index, column in enumerate(table.schema):
        if pyarrow.types.is_null(column.type):
            table = table.set_column(index, column.name, table.column(index).cast(pyarrow.string()))
    return table


def parquet_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a Parquet file; columns of bytes, such as images, are not read.

    Raises OSError and ValueError, and MissingExtra without pyarrow.
    """
    check_parquet()
    import pyarrow
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        names = [each.name for each in file.schema_arrow if not _holds_bytes(each.type)]
        rows: list[dict[str, Any]] = file.read(columns=names).to_pylist()
    return rows


def _holds_bytes(kind: pyarrow.DataType) -> bool:
    import pyarrow

    return (pyarrow.types.is_nested(kind) and not pyarrow.types.is_list(kind)) or pyarrow.types.is_binary(kind)


def parquet_bytes(columns: Mapping[str, Sequence[Any]], types: Mapping[str, str], facts: Mapping[str, str]) -> bytes:
    """A Parquet file with these columns, each of a type such as "string" or "list<float>", and facts in its footer.

    Raises MissingExtra without pyarrow.
    """
    check_parquet()
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([(name, _type(kind)) for name, kind in types.items()], metadata=dict(facts))
    arrays = [pyarrow.array(columns[field.name], field.type) for field in schema]
    stream = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(arrays, schema=schema), stream, compression="zstd")
    return stream.getvalue()


def parquet_parts(groups: Iterable[Mapping[str, Sequence[Any]]], types: Mapping[str, str]) -> Iterator[bytes]:
    """A Parquet file in parts, as its groups of rows come; the columns are as for `parquet_bytes`. Raises MissingExtra.

    Small groups are put together.
    """
    check_parquet()
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([(name, _type(kind)) for name, kind in types.items()])
    stream, waiting = _Parts(), list[pyarrow.Table]()
    with pyarrow.parquet.ParquetWriter(stream, schema, compression="zstd") as writer:
        for columns in groups:
            arrays = [pyarrow.array(columns[field.name], field.type) for field in schema]
            waiting.append(pyarrow.Table.from_arrays(arrays, schema=schema))
            if sum(table.num_rows for table in waiting) >= GROUP:
                writer.write_table(pyarrow.concat_tables(waiting))
                waiting.clear()
                yield from stream.taken()
        if waiting:
            writer.write_table(pyarrow.concat_tables(waiting))
    yield from stream.taken()


class _Parts(io.RawIOBase):
    """What is written, until it is taken."""

    def __init__(self) -> None:
        self._parts, self._size = list[bytes](), 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        return self._size

    def taken(self) -> list[bytes]:
        taken, self._parts = self._parts, []
        return taken


def _type(kind: str) -> pyarrow.DataType:
    import pyarrow

    return pyarrow.list_(_type(kind[5:-1])) if kind.startswith("list<") else pyarrow.type_for_alias(kind)


def parquet_columns(data: bytes, types: Mapping[str, str]) -> dict[str, Sequence[Any]]:
    """These columns of a Parquet file; lists of numbers are arrays of NumPy. Raises ValueError, and MissingExtra."""
    check_parquet()
    import pyarrow
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(pyarrow.BufferReader(data)) as file:
        table = file.read(columns=list(types))
    if missing := [name for name, kind in types.items() if name not in table.column_names]:
        raise ValueError(f"it has no column {missing[0]}")
    return {name: _values(table.column(name).cast(_type(kind)).combine_chunks()) for name, kind in types.items()}


def _values(column: pyarrow.Array) -> Sequence[Any]:
    import pyarrow

    kind = column.type
    if not pyarrow.types.is_list(kind) or not pyarrow.types.is_primitive(kind.value_type):
        values: list[Any] = column.to_pylist()
        return values
    numbers, ends = column.values.to_numpy(), column.offsets.to_pylist()
    return [
        numbers[start:end] if is_there else None
        for start, end, is_there in zip(ends, ends[1:], column.is_valid().to_pylist(), strict=False)
    ]


def parquet_facts(size: int, read: Callable[[int, int], bytes]) -> dict[str, str]:
    """The facts in the footer of a Parquet file of `size` bytes; `read` gets those from a start to an end.

    Raises ValueError if this is not a Parquet file, and MissingExtra.
    """
    check_parquet()
    import pyarrow
    import pyarrow.parquet

    tail = read(max(0, size - FOOTER), size)
    length = int.from_bytes(tail[-8:-4], "little") + 8
    if length > size or not tail.endswith(b"PAR1"):
        raise ValueError("it is not a Parquet file, or it is incomplete")
    if length > len(tail):
        tail = read(size - length, size)
    # Its beginning is that of every Parquet file; the footer follows.
    found = pyarrow.parquet.read_metadata(pyarrow.BufferReader(b"PAR1" + tail[-length:])).metadata or {}
    return {name.decode("utf-8"): value.decode("utf-8") for name, value in found.items()}


def parquet_groups(size: int, read: Callable[[int, int], bytes]) -> tuple[dict[str, bool], list[tuple[int, int]]]:
    """The columns of a Parquet file and whether they can hold images; the rows and bytes of each of its row groups.

    Raises ValueError and OSError if it cannot be read, and MissingExtra.
    """
    check_parquet()
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(_Ranges(size, read)) as file:
        groups = [file.metadata.row_group(index) for index in range(file.num_row_groups)]
        columns = {each.name: _can_hold_images(each.type) for each in file.schema_arrow}
        return columns, [(group.num_rows, group.total_byte_size) for group in groups]


def _can_hold_images(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    is_text = types.is_string(kind) or types.is_large_string(kind)
    return not (is_text or types.is_primitive(kind) or types.is_list(kind) or types.is_large_list(kind))


def parquet_group(
    size: int, read: Callable[[int, int], bytes], group: int, columns: Sequence[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a row group, each with its number in the file. Raises as `parquet_groups`."""
    check_parquet()
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(_Ranges(size, read)) as file:
        first = sum(file.metadata.row_group(index).num_rows for index in range(group))
        for batch in file.iter_batches(FEW, row_groups=[group], columns=list(columns)):
            for row in batch.to_pylist():
                yield first, row
                first += 1


class _Ranges(io.RawIOBase):
    """A file of which `read` gets the bytes from a start to an end."""

    def __init__(self, size: int, read: Callable[[int, int], bytes]) -> None:
        self._size, self._read, self._at = size, read, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, count: int = -1) -> bytes:
        end = self._size if count < 0 else min(self._size, self._at + count)
        data = self._read(self._at, end)
        self._at += len(data)
        return data


def check_parquet(extra: str = "parquet") -> None:
    """Raise MissingExtra, naming the extra that brings all that is needed, unless pyarrow is installed."""
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise MissingExtra("pyarrow", extra) from error
