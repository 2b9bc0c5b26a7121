"""Images in the rows of Parquet files: a row group is a shard."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from sdprep.errors import StoreError, UsageError
from sdprep.sanitize import printable
from sdprep.shards.members import Member, faulty, too_large
from sdprep.shards.store import Store, StoredObject
from sdprep.texts.exchange.parquet import parquet_group, parquet_groups
from sdprep.types import FailureCode

# Where the datasets of the Hub have their images.
IMAGE_COLUMN = "image"
# The extension of an image that has no name, by its first bytes; others are found out when it is decoded.
BEGINNINGS = {b"\xff\xd8": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"BM": ".bmp", b"RIFF": ".webp"}
# What pyarrow raises for a file that it cannot read.
DAMAGED = (ValueError, OSError, NotImplementedError)


def row_groups(
    store: Store, found: StoredObject, image_column: str | None, key_column: str | None
) -> list[tuple[int, int]]:
    """The rows and the bytes of each row group. Raises UsageError without these columns, StoreError, MissingExtra."""
    name = printable(f"{store.url}/{found.name}")
    try:
        columns, groups = parquet_groups(found.size, partial(store.get, found.name))
    except DAMAGED as error:
        raise StoreError(f"{name} cannot be read as Parquet: {error}") from error
    for column, option in ((image_column or IMAGE_COLUMN, "--image-column"), (key_column, "--key-column")):
        if column is not None and column not in columns:
            raise UsageError(f"{name} has no column {column}; give {option}, one of {', '.join(columns)}")
    if not columns[image_column or IMAGE_COLUMN]:
        fit = ", ".join(column for column, can in columns.items() if can)
        advice = f"give --image-column, one of {fit}" if fit else "no other column has any"
        raise UsageError(f"{name}: the column {image_column or IMAGE_COLUMN} has no bytes of images; {advice}")
    return groups


def read_rows(
    store: Store, found: StoredObject, group: int, columns: tuple[str | None, str | None], limit: int
) -> Iterator[Member]:
    """The images of a row group; `columns` are that of the images and that of the keys. Raises StoreError.

    An image is called by the number of its row in the file, which is also its key if there is no column of keys.
    """
    image_column, key_column = columns[0] or IMAGE_COLUMN, columns[1]
    names = [image_column, *([] if key_column is None else [key_column])]
    try:
        for number, row in parquet_group(found.size, partial(store.get, found.name), group, names):
            yield _member(number, row[image_column], None if key_column is None else row[key_column], limit)
    except DAMAGED as error:
        raise StoreError(f"{printable(f'{store.url}/{found.name}')} cannot be read as Parquet: {error}") from error


def _member(number: int, value: Any, key: Any, limit: int) -> Member:
    name = f"{number:09}"
    # The datasets of the Hub have the bytes and a path.
    data = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(data, bytes) or not data:
        member = faulty(name, FailureCode.EMPTY_FILE, "its row has no bytes of an image")
    elif len(data) > limit:
        member = Member(name, name, fault=too_large(limit))
    else:
        suffix = next((suffix for start, suffix in BEGINNINGS.items() if data.startswith(start)), ".jpg")
        member = Member(name, name + suffix, data)
    return member if key is None else Member(str(key), member.name, member.data, member.fault)
