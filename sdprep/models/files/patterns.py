"""The names in a model's `files` may be patterns: its weights are in as many files as its makers chose."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

import msgspec

from sdprep.models.parse import read_json

WILDCARDS = "*?["
WEIGHTS, INDEX = ".safetensors", ".safetensors.index.json"


class Index(msgspec.Struct):
    """Which file has which weight of a model whose weights are in several."""

    weight_map: dict[str, str]


def is_pattern(name: str) -> bool:
    """Whether a name of `files` stands for any number of files."""
    return any(each in name for each in WILDCARDS)


def expanded(names: Iterable[str], present: Iterable[str]) -> tuple[str, ...]:
    """The files that names and patterns stand for; a pattern stands for those present at the top of the repository."""
    known, found = sorted(name for name in present if "/" not in name), list[str]()
    for name in names:
        found += [each for each in known if fnmatchcase(each, name)] if is_pattern(name) else [name]
    return tuple(dict.fromkeys(found))


def in_folder(names: Iterable[str], folder: Path) -> tuple[str, ...]:
    """The files that names and patterns stand for in a folder of this machine."""
    wanted = tuple(names)
    lists = folder.is_dir() and any(map(is_pattern, wanted))
    return expanded(wanted, (path.name for path in folder.iterdir() if path.is_file()) if lists else ())


def without_files(names: Iterable[str], present: Iterable[str]) -> list[str]:
    """The names that are not present, and the patterns for weights that stand for no file; others may be for none."""
    known = set(present)
    return [
        name
        for name in names
        if (name.endswith(WEIGHTS) and not expanded([name], known) if is_pattern(name) else name not in known)
    ]


def lacking_weights(folder: Path, names: Iterable[str]) -> list[str]:
    """The files with weights that an index among these files of a folder names, and that are not among them.

    Raises ModelError for an index that cannot be read.
    """
    known = set(names)
    named = {
        file
        for name in known
        if name.endswith(INDEX) and (folder / name).is_file()
        for file in read_json(folder / name, Index).weight_map.values()
    }
    return sorted(named - known)
