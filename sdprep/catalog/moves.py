"""Images and sidecars that were found at new paths: what the catalog knows of them, and the record of their moves."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from sdprep.catalog.catalog import Catalog
from sdprep.catalog.schema import Key, as_bytes, as_key, as_number, select_many
from sdprep.paths import stem_of

# The first and the last row of the journal that count for a key in the history of a file.
Span = tuple[Key, int, int]
NO_LIMIT = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Move:
    """A file that was found at another key; `is_gone` says that it is no longer at its former key."""

    former: Key
    key: Key
    is_gone: bool


@dataclass(frozen=True, slots=True)
class KnownSidecar:
    """What the catalog knows of a sidecar: the hash of its text, and the SHA-256 of the image that it describes.

    `ending` follows the name of its image: with its extension if `is_full`, or else without it.
    """

    key: Key
    ending: str
    is_full: bool
    text: bytes
    digest: bytes


def has_sidecars(catalog: Catalog) -> bool:
    """Whether the catalog knows any sidecar."""
    return catalog.db.execute("SELECT 1 FROM sidecars LIMIT 1").fetchone() is not None


def count_below(catalog: Catalog, prefix: str) -> int:
    """How many images are known whose key begins with this, "" for all."""
    where, bounds = _range(prefix)
    [count] = catalog.db.execute(f"SELECT count(*) FROM images {where}", bounds).fetchone()
    return int(count)


def images_below(catalog: Catalog, prefix: str) -> dict[Key, bytes]:
    """The known images whose key begins with this, "" for all, with their SHA-256."""
    where, bounds = _range(prefix)
    with catalog.decoding("what it knows of an image"):
        rows = catalog.db.execute(f"SELECT key, digest FROM images {where}", bounds)
        return {key: as_bytes(digest) for key, digest in rows}


def _range(prefix: str) -> tuple[str, tuple[Key, ...]]:
    first = as_key(prefix)
    return ("WHERE key >= ? AND key < ?", (first, _after(first))) if prefix else ("", ())


def _after(prefix: Key) -> Key:
    """The first key after all that begin with a prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1) if isinstance(prefix, str) else prefix[:-1] + bytes([prefix[-1] + 1])


def image_sizes(catalog: Catalog) -> set[int]:
    """The sizes of all known images."""
    with catalog.decoding("what it knows of an image"):
        return {as_number(size) for [size] in catalog.db.execute("SELECT size FROM images")}


def images_with(catalog: Catalog, digests: Collection[bytes]) -> dict[bytes, list[Key]]:
    """The keys under which images of this content were last read."""
    found: dict[bytes, list[Key]] = {}
    for key, digest in select_many(
        catalog.db, "SELECT key, digest FROM images WHERE digest IN ({}) ORDER BY key", list(digests)
    ):
        found.setdefault(digest, []).append(key)
    return found


def sidecars_of(catalog: Catalog, image: Key) -> list[KnownSidecar]:
    """The known sidecars of an image."""
    name = os.fsdecode(image)
    stem = stem_of(name)
    first = as_key(stem + ".")
    found = []
    with catalog.decoding("what it knows of a text file"):
        for key, text, digest in catalog.db.execute(
            "SELECT key, text, digest FROM sidecars JOIN states ON states.id = state WHERE key > ? AND key < ?",
            (first, _after(first)),
        ):
            sidecar = os.fsdecode(key)
            is_full = sidecar.startswith(name + ".")
            ending = sidecar[len(name if is_full else stem) :]
            # `a.b.txt` belongs to `a.b.png`, not to `a.png`.
            if is_full or ending.count(".") == 1:
                found.append(KnownSidecar(key, ending, is_full, as_bytes(text), as_bytes(digest)))
    return found


def record_moves(catalog: Catalog, sidecars: Iterable[Move], gone_images: Collection[Key]) -> None:
    """Let the states and the history of sidecars also hold at their new keys, and forget keys that have nothing left.

    Call it inside a transaction, with the keys of images that are gone with all their sidecars.
    """
    sidecars = list(sidecars)
    states = {move.former: catalog.state_id_of(move.former) for move in sidecars}
    [last] = catalog.db.execute("SELECT coalesce(max(id), 0) FROM journal").fetchone()
    for move in sidecars:
        if move.is_gone:
            catalog.set_state(move.former, None)
    for move in sidecars:
        catalog.set_state(move.key, states[move.former])
        catalog.db.execute(
            "INSERT INTO moves (key, former, last, gone) VALUES (?, ?, ?, ?)",
            (move.key, move.former, last, move.is_gone),
        )
    catalog.db.executemany("DELETE FROM images WHERE key = ?", [(key,) for key in gone_images])


def history_of(catalog: Catalog, key: Key) -> list[Span]:
    """The parts of the journal that tell the history of a file, oldest first: under its former keys, then its own.

    What was at a key before the file came there belongs to it too, unless that has moved away.
    """
    # In a catalog that is only read, the last move may not be recorded.
    spans: list[Span] = [(key, NO_LIMIT, NO_LIMIT)] if key in catalog.formers else []
    key, end, number = catalog.formers.get(key, key), NO_LIMIT, NO_LIMIT
    replaced: list[Span] = []
    while row := catalog.db.execute(
        "SELECT id, former, last FROM moves WHERE key = ? AND id < ? ORDER BY id DESC LIMIT 1", (key, number)
    ).fetchone():
        number, former, last = as_number(row[0]), row[1], as_number(row[2])
        spans.append((key, last + 1, end))
        left = "SELECT 1 FROM moves WHERE former = ? AND gone AND last <= ?"
        if catalog.db.execute(left, (key, last)).fetchone() is None:
            replaced.append((key, 0, last))
        key, end = former, last
    return [*reversed(replaced), (key, 0, end), *reversed(spans)]


def has_moves(catalog: Catalog) -> bool:
    """Whether any file is known to have left its key."""
    return bool(catalog.left) or catalog.db.execute("SELECT 1 FROM moves WHERE gone LIMIT 1").fetchone() is not None


def key_now(catalog: Catalog, key: Key, row: int) -> Key:
    """The key of the file that had a key when this row of the journal was written, as far as its moves are known."""
    number = 0
    while found := catalog.db.execute(
        "SELECT id, key FROM moves WHERE former = ? AND gone AND last >= ? AND id > ? ORDER BY id LIMIT 1",
        (key, row, number),
    ).fetchone():
        number, key = as_number(found[0]), found[1]
    return catalog.left.get(key, key)


def remember_formers(catalog: Catalog, sidecars: Iterable[Move]) -> None:
    """Let a catalog that is only read answer for the new keys of sidecars as for their former ones."""
    for move in sidecars:
        catalog.formers[move.key] = move.former
        if move.is_gone:
            catalog.left[move.former] = move.key
