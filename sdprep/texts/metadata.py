"""The metadata JSON of kohya-style trainers: one object with one entry per image, under a key that names the image.

sd-scripts also read JSON Lines, with one object per line that has the key as its `image_path`.

Tools use different keys: the absolute path, a path relative to the dataset folder or to the current folder, a path
without its extension, or only the stem. All of them find their image here.
"""

from __future__ import annotations

import functools
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from sdprep.errors import MetadataError
from sdprep.files import FILE_LIMIT, read_limited, real_path
from sdprep.paths import is_local_path
from sdprep.texts.exact_json import dump_exactly, dump_line, parse_exactly
from sdprep.texts.moved import Place, with_slashes
from sdprep.types import Failure, FailureCode, ImageItem

Entry = dict[str, Any]
Entries = dict[str, Entry]

NAMES_SHOWN = 3
# The field of JSON Lines that names the image.
IMAGE_PATH = "image_path"
# The place among the readings of a key of the one that looks it up from the current folder.
FROM_HERE = 3


def load(path: Path) -> Entries:
    """The entries of a metadata JSON. Raises MetadataError naming the file if it is missing or broken."""
    try:
        data = read_limited(path, FILE_LIMIT)
    except OSError as error:
        raise MetadataError(f"{path}: {error.strerror or error}") from error
    return parse(data, path)


def parse(data: bytes, path: Path) -> Entries:
    """The entries in the bytes of a metadata JSON, or of JSON Lines if `path` ends in .jsonl.

    Raises MetadataError naming `path` unless they are a JSON object of objects, or objects with an image path.
    """
    values, wrong = parse_values(data, path)
    wrong += [f"the entry {key!r} is not an object" for key, value in values.items() if not isinstance(value, dict)]
    if wrong:
        raise MetadataError(f"{path} is not a metadata file: {wrong[0]}")
    return values


def parse_values(data: bytes, path: Path) -> tuple[dict[str, Any], list[str]]:
    """The same whatever the entries are, and what is wrong with each line of JSON Lines that names no image.

    Raises MetadataError naming `path` if they are no such JSON, or have a key twice.
    """
    try:
        return _parse_lines(data) if is_json_lines(path) else (_parse_object(data), [])
    except ValueError as error:
        raise MetadataError(f"{path} {error}") from error


def is_json_lines(path: Path) -> bool:
    """Whether a file of this name is JSON Lines, with one object per image, as sd-scripts 0.10 and later read it."""
    return path.suffix.lower() == ".jsonl"


def _parse_object(data: bytes) -> dict[str, Any]:
    try:
        values = parse_exactly(data)
    except ValueError as error:
        raise ValueError(f"is not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError("is not a metadata JSON: an object with an entry for each image is expected")
    return values


def _parse_lines(data: bytes) -> tuple[dict[str, Any], list[str]]:
    entries: dict[str, Any] = {}
    wrong: list[str] = []
    try:
        # Other characters that end a line in Unicode may be in a JSON string.
        lines = data.decode(json.detect_encoding(data)).split("\n")
    except ValueError as error:
        raise ValueError(f"is not valid JSON Lines: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = parse_exactly(line)
        except ValueError as error:
            raise ValueError(f"is not valid JSON Lines: line {number}: {error}") from error
        key = entry.pop(IMAGE_PATH, None) if isinstance(entry, dict) else None
        if not isinstance(key, str):
            wrong.append(f"line {number} is not an object with an {IMAGE_PATH}")
            continue
        if key in entries:
            raise ValueError(f"is not a metadata file: line {number} has the {IMAGE_PATH} {key!r} a second time")
        entries[key] = entry
    return entries, wrong


def dump(entries: Mapping[str, Entry], path: Path) -> bytes:
    """The bytes of a metadata JSON, or of JSON Lines if `path` ends in .jsonl.

    Both are UTF-8 with LF and one final newline, and have numbers as they were read. Raises MetadataError for an entry
    that JSON Lines cannot hold.
    """
    if not is_json_lines(path):
        return dump_exactly(entries)
    for key, entry in entries.items():
        if IMAGE_PATH in entry:
            raise MetadataError(f"{path}: the entry {key!r} has a field {IMAGE_PATH}, which JSON Lines use for the key")
    return b"".join(dump_line({IMAGE_PATH: key, **entry}) for key, entry in entries.items())


def key_of(item: ImageItem, style: str) -> str:
    """The key of an image: its absolute path, its path relative to the dataset folder, or its stem."""
    if style == "absolute":
        return _absolute(item)
    return item.rel if style == "relative" else _stem(item)


def key_failures(items: Sequence[ImageItem], style: str) -> dict[str, Failure]:
    """A failure, by `rel`, for every image without a key of its own, or with one that JSON cannot hold."""
    sharing: dict[str, list[ImageItem]] = {}
    if style == "stem":
        counts = Counter(_stem(item) for item in items)
        for item in items:
            if counts[_stem(item)] > 1:
                sharing.setdefault(_stem(item), []).append(item)
    failures = {item.rel: _collision(item, group) for group in sharing.values() for item in group}
    for item in items:
        if not _is_unicode(key_of(item, style)):
            message = "its name is not valid Unicode, which a JSON for trainers cannot hold; rename it"
            failures[item.rel] = Failure(item, FailureCode.UNREADABLE, message)
    return failures


def _absolute(item: ImageItem) -> str:
    # `str(item.path)` is slow for a million images.
    return _beginning(item.folder) + item.within.replace("/", os.sep)


@functools.cache
def _beginning(folder: Path) -> str:
    """What the absolute paths of the images of a folder begin with."""
    return os.path.join(folder, "")  # noqa: PTH118


def _extensionless(item: ImageItem) -> str:
    return os.path.splitext(item.rel)[0]  # noqa: PTH122 - as above


def _stem(item: ImageItem) -> str:
    return os.path.splitext(item.rel.rpartition("/")[2])[0]  # noqa: PTH122 - as above


def _collision(item: ImageItem, group: list[ImageItem]) -> Failure:
    names = ", ".join(other.rel for other in group[:NAMES_SHOWN])
    more = f" and {len(group) - NAMES_SHOWN} more" if len(group) > NAMES_SHOWN else ""
    message = f"{names}{more} would share the key '{_stem(item)}'; use --keys absolute"
    return Failure(item, FailureCode.STEM_COLLISION, message)


def _is_unicode(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Claims:
    """Which image each entry belongs to.

    `keys` has the keys of an image by its `rel`, the most exact one first, and `named` the images of which one key is
    their present path; `shared` are keys that fit several images, `orphans` keys that fit none.
    """

    keys: dict[str, list[str]] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    shared: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)


def find_claims(
    keys: Iterable[str], items: Sequence[ImageItem], style: str, find_local: Callable[[str], str]
) -> Claims:
    """Find the image of each key; an exact key of the wanted style counts before any other meaning.

    Where a key fits no image as it is spelled, `\\` counts as `/`, since the JSON may come from Windows. `find_local`
    returns the absolute path that a key means in the current folder.
    """
    # Each index is made when a key first needs it: where all keys are of the wanted style, that one alone.
    absolute = functools.cache(lambda: _index(items, _absolute))
    relative = functools.cache(lambda: _index(items, lambda item: item.rel))
    # In the top folder this would be the bare stem, which only counts if it is unique in all folders.
    extensionless = functools.cache(lambda: _index((item for item in items if "/" in item.rel), _extensionless))
    stems = functools.cache(lambda: _index(items, _stem))
    wanted = {"absolute": absolute, "relative": relative, "stem": stems}[style]
    readings: list[Callable[[str], tuple[ImageItem, ...]]] = [
        lambda key: wanted().get(key, ()),
        lambda key: absolute().get(key, ()),
        lambda key: relative().get(PurePath(key).as_posix(), ()),
        lambda key: absolute().get(find_local(key), ()),
        lambda key: extensionless().get(key, ()),
        lambda key: stems().get(key, ()),
    ]
    claims = Claims()
    ranked: dict[str, list[tuple[int, str]]] = {}
    for key in keys:
        spellings = (key, with_slashes(key)) if "\\" in key else (key,)
        found = ((rank, owners) for name in spellings for rank, read in enumerate(readings) if (owners := read(name)))
        rank, owners = next(found, (0, ()))
        if len(owners) == 1:
            ranked.setdefault(owners[0].rel, []).append((rank, key))
            if rank == FROM_HERE or key in absolute():
                claims.named.add(owners[0].rel)
        else:
            (claims.shared if owners else claims.orphans).append(key)
    for rel, pairs in ranked.items():
        claims.keys[rel] = [key for _, key in sorted(pairs, key=lambda pair: pair[0])]
    return claims


def adopt(claims: Claims, places: Iterable[Place]) -> Claims:
    """The claims with the keys of former places for their images, as the least exact ones."""
    keys = {rel: list(own) for rel, own in claims.keys.items()}
    for place in places:
        for key, rel in place.keys.items():
            keys.setdefault(rel, []).append(key)
    adopted = {key for place in places for key in place.keys}
    return replace(claims, keys=keys, orphans=[key for key in claims.orphans if key not in adopted])


def locator() -> Callable[[str], str]:
    """Return a function that finds the absolute path of a key in the current folder, resolving each folder once."""
    real = functools.cache(real_path)

    def find_local(key: str) -> str:
        path = Path(key)
        try:
            return str(real(path.parent) / path.name) if is_local_path(key) else key
        except (OSError, ValueError, RuntimeError):
            return key

    return find_local


def _index(items: Iterable[ImageItem], name_of: Callable[[ImageItem], str]) -> dict[str, tuple[ImageItem, ...]]:
    index: dict[str, tuple[ImageItem, ...]] = {}
    for item in items:
        name = name_of(item)
        index[name] = (*index.get(name, ())[:1], item)
    return index


def rekey(
    entries: Mapping[str, Entry], items: Iterable[ImageItem], claims: Claims, style: str
) -> tuple[Entries, dict[str, set[str]]]:
    """The entries with each of these images under its wanted key, in the position of its old entry.

    Several entries of an image are merged; field by field, the most exact key counts. The second value has, by the
    `rel` of an image, the fields in which a different value was lost.
    """
    moved: dict[str, tuple[str, Entry] | None] = {}
    order = {key: position for position, key in enumerate(entries)}
    lost: dict[str, set[str]] = {}
    for item in items:
        keys = claims.keys.get(item.rel, [])
        wanted = key_of(item, style)
        if keys and keys != [wanted]:
            united, lost[item.rel] = unite([entries[key] for key in keys])
            moved.update(dict.fromkeys(keys))
            moved[wanted if wanted in keys else min(keys, key=order.__getitem__)] = (wanted, united)
    result: Entries = {}
    for key, entry in entries.items():
        kept = moved.get(key, (key, entry))
        if kept is not None:
            result[kept[0]] = kept[1]
    return result, lost


def unite(entries: Sequence[Entry]) -> tuple[Entry, set[str]]:
    """Merge entries, the earlier one counting field by field, and return the fields with different values too."""
    united: Entry = {}
    differing: set[str] = set()
    for entry in entries:
        differing |= {name for name, value in entry.items() if name in united and united[name] != value}
        united |= {name: value for name, value in entry.items() if name not in united}
    return united, differing


def rename(entries: Mapping[str, Entry], names: Mapping[str, str]) -> Entries:
    """The entries under new keys, in their order; where a key is taken, its entry counts field by field."""
    result: Entries = {}
    for key, entry in entries.items():
        name = names.get(key, key)
        if name in result:
            found = [result[name], entry]
            # What had the key before counts first.
            entry = unite(found[::-1] if name == key else found)[0]
        result[name] = entry
    return result


def drop(entries: Mapping[str, Entry], keys: Iterable[str]) -> Entries:
    """The entries without those under these keys."""
    gone = frozenset(keys)
    return {key: entry for key, entry in entries.items() if key not in gone}
