"""Which entries of a metadata JSON name the images of a folder at the place where the folder was before.

A dataset that is moved or copied takes its metadata.json along, and every absolute key in it names the old place. Such
keys end in the relative paths of the images here. Two datasets may both have a `001.png`, though, and one JSON may
describe both: whether a place is the former one depends on all of its entries together, never on one name, and no file
at a key's path is accessed.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum, auto

_ABSOLUTE = re.compile("/|[A-Za-z]:/")


class Likeness(Enum):
    """How an entry compares with the sidecars and the size of an image."""

    SAME_TEXT = auto()
    OTHER_TEXT = auto()
    OTHER_SIZE = auto()
    UNKNOWN = auto()


@dataclass(frozen=True, slots=True)
class Place:
    """A folder that is not here: its path as keys spell it, with forward slashes, and its keys with their images."""

    path: str
    keys: dict[str, str]

    def holds(self, key: str) -> bool:
        """Whether a key names a file at this place."""
        return with_slashes(key).startswith(f"{self.path}/")

    def relative(self, key: str) -> str:
        """The path of one of its files relative to this place."""
        return with_slashes(key)[len(self.path) + 1 :]


def with_slashes(key: str) -> str:
    """The key with `/` for each `\\`, which Windows writes."""
    return key.replace("\\", "/")


def find_places(keys: Iterable[str], rels: AbstractSet[str]) -> list[Place]:
    """The places of keys that end in the relative path of an image, the place with the most keys first.

    A key may end in the paths of several images, as `/old/sub/a.png` in `sub/a.png` and `a.png`: it counts for the
    place that explains more keys, and else for the longer path. A place within such a place is a subfolder of it.
    """
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for key in keys:
        path = with_slashes(key)
        end = path.find("/")
        while end >= 0:
            if (rel := path[end + 1 :]) in rels:
                found[path[:end]][key] = rel
            end = path.find("/", end + 1)
    places: dict[str, Place] = {}
    taken: set[str] = set()
    for path, images in sorted(found.items(), key=lambda pair: (-len(pair[1]), len(pair[0]))):
        ends = (end for end, letter in enumerate(path) if letter == "/")
        free = {key: rel for key, rel in images.items() if key not in taken}
        if free and not any(path[:end] in places for end in ends):
            places[path] = Place(path, free)
            taken |= free.keys()
    return list(places.values())


def renamed_folders(keys: Iterable[str], rels: Iterable[str]) -> list[Place]:
    """The folders of keys whose files are gone, each with the folder that has most of its names.

    `rels` are images without an entry. Whether the names are those of the same images is for `former_places` to tell.
    """
    folders: dict[str, set[str]] = defaultdict(set)
    for rel in rels:
        folder, _, name = rel.rpartition("/")
        folders[name].add(folder)
    gone: dict[str, list[str]] = defaultdict(list)
    for key in keys:
        gone[with_slashes(key).rpartition("/")[0]].append(key)
    places = []
    for path, theirs in gone.items():
        names = {key: with_slashes(key).rpartition("/")[2] for key in theirs}
        found = Counter(folder for name in names.values() for folder in sorted(folders.get(name, ())))
        if path and found:
            [(best, _)] = found.most_common(1)
            ours = {key: f"{best}/{name}".lstrip("/") for key, name in names.items() if best in folders.get(name, ())}
            places.append(Place(path, ours))
    return places


def former_places(
    places: Iterable[Place], named: AbstractSet[str], compare: Callable[[str, str], Likeness], home: str | None
) -> list[Place]:
    """Those of the places at which the images here once were, or of which they are copies.

    `named` are the images that have an entry under their present path, and `compare` compares an entry with an image.
    `home` is the path of the folder if the JSON is in it: such a JSON moved along, so for another absolute path the
    relative paths are enough unless the sizes differ. Where another entry names the same image, or the JSON is
    elsewhere and may describe several datasets, most captions or tags have to be those of the sidecars here.
    """
    places = list(places)
    claims = Counter(rel for place in places for rel in set(place.keys.values()))
    former = []
    for place in places:
        found = Counter(compare(key, rel) for key, rel in place.keys.items())
        is_alone = not any(rel in named or claims[rel] > 1 for rel in place.keys.values())
        is_other = home is not None and _ABSOLUTE.match(f"{place.path}/") and not f"{place.path}/".startswith(home)
        if found[Likeness.SAME_TEXT] > found[Likeness.OTHER_TEXT] + found[Likeness.OTHER_SIZE] or (
            is_other and is_alone and 2 * found[Likeness.OTHER_SIZE] <= len(place.keys)
        ):
            former.append(place)
    return former
