"""Entries of a metadata JSON that fit no image of a folder: those of vanished images, and those of other places."""

from __future__ import annotations

import functools
import re
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from sdprep.images.formats import IMAGE_SUFFIXES
from sdprep.paths import is_inside, is_local_path
from sdprep.texts.moved import Place, with_slashes

# Places in a message; there may be many.
PLACES_SHOWN = 3
# A drive of Windows, which elsewhere would look like a folder of this name, and the address of a file on a server.
_DRIVE = re.compile(r"[A-Za-z]:/")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(slots=True)
class Orphans:
    """Keys that fit no image.

    `vanished` are those of missing files in the folder, `present` those of files that this run does not include, and
    `outside` those of other places.
    """

    vanished: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)


def sort_orphans(keys: Iterable[str], directory: Path) -> Orphans:
    """Sort the keys that fit no image.

    Nothing outside the folder is accessed: a key may name a share or a device, or a drive that is not connected.
    """
    is_folder_inside = functools.cache(lambda folder: is_inside(folder, directory))
    orphans = Orphans()
    for key in keys:
        path = directory / with_slashes(key)
        if _is_elsewhere(with_slashes(key)) or path.name == ".." or not is_folder_inside(path.parent):
            orphans.outside.append(key)
        else:
            (orphans.present if has_file(key, directory) else orphans.vanished).append(key)
    return orphans


def _is_elsewhere(path: str) -> bool:
    if not is_local_path(path):
        return True
    return _ADDRESS.match(path) is not None or (sys.platform != "win32" and _DRIVE.match(path) is not None)


def paths_here(orphans: Orphans, former: Iterable[Place], folders: Iterable[str], directory: Path) -> dict[str, str]:
    """The relative path of each entry outside that belongs to a former place and whose file is or was in the folder.

    It was there if its folder is one of `folders`, those of the images; another may belong to a dataset that stayed.
    """
    former, known = list(former), frozenset(folders)
    found: dict[str, str] = {}
    for key in orphans.outside if former else ():
        rel = next((place.relative(key) for place in former if place.holds(key)), None)
        if rel is not None and (rel.rpartition("/")[0] in known or rel in sort_orphans([rel], directory).present):
            found[key] = rel
    return found


def folders_of(keys: Iterable[str]) -> Counter[str]:
    """The folders of keys with the number of keys in each."""
    return Counter(with_slashes(key).rpartition("/")[0] or with_slashes(key) for key in keys)


def name_places(counts: Counter[str]) -> str:
    """The places with most entries, as in `/data/a (12), D:/b (3) and 2 more folders`; of one place the name alone."""
    if len(counts) == 1:
        return next(iter(counts))
    names = ", ".join(f"{place} ({count})" for place, count in counts.most_common(PLACES_SHOWN))
    more = len(counts) - PLACES_SHOWN
    return names if more <= 0 else f"{names} and {more} more {'folder' if more == 1 else 'folders'}"


def has_file(key: str, directory: Path) -> bool:
    """Whether the file of a key exists although this run does not include it, such as a link or a subfolder's image."""
    names = {key, with_slashes(key)}
    return any(_is_there(directory / (name + ending)) for name in names for ending in _endings(name))


def _is_there(path: Path) -> bool:
    try:
        # A link counts as itself, since it may lead anywhere.
        return path.is_symlink() or path.is_file()
    except (OSError, ValueError):
        return False


def _endings(key: str) -> Iterable[str]:
    if Path(key).suffix.lower() in IMAGE_SUFFIXES:
        return ("",)
    return ("", *IMAGE_SUFFIXES, *(suffix.upper() for suffix in IMAGE_SUFFIXES))
