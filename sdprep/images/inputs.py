"""What a run is given: folders, image files and patterns, alone or from a list."""

from __future__ import annotations

import errno
import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sdprep.errors import UsageError
from sdprep.files import real_path

# Names in a message; there may be a million.
NAMES_SHOWN = 5
# The errors for a path without a file, or one that no file can have.
NOTHING_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG})


@dataclass(slots=True)
class Root:
    """A folder with images of a run: what to list in it, and single files; paths in it with forward slashes.

    `prefix` comes before the names of its images. A folder to list is "" or ends in a slash. `target` is where its
    sidecars are, if that is elsewhere.
    """

    folder: Path
    prefix: str = ""
    listed: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    target: Path | None = None


def parse_list(data: bytes) -> list[Path]:
    """The paths of a list in UTF-8: one per line, or separated by NUL if there is any, as `find -print0` writes."""
    text = data.decode("utf-8-sig", "surrogateescape")
    lines = text.split("\0") if "\0" in text else [line.removesuffix("\r") for line in text.split("\n")]
    return [Path(line) for line in lines if line]


def names_of(paths: Iterable[Path | str]) -> str:
    """Some of these names, for a message."""
    names = [str(path) for path in paths]
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {len(names) - NAMES_SHOWN} more" if names[NAMES_SHOWN:] else "")


def find_roots(inputs: Sequence[Path]) -> list[Root]:
    """The folders in which the inputs lie: for each of them the highest that is an input itself, or has a file given.

    Raises UsageError naming every input that is not there.
    """
    folders: dict[Path, None] = {}
    files: dict[Path, list[str]] = {}
    above: dict[Path, Path] = {}
    for path in _expanded(inputs):
        if path.is_dir():
            folders[real_path(path)] = None
        else:
            # Of a link that is given, only the folder is resolved: its sidecars lie beside it.
            if path.parent not in above:
                above[path.parent] = real_path(path.parent)
            files.setdefault(above[path.parent], []).append(path.name)
    tops: dict[Path, Root] = {}
    for folder in dict.fromkeys((*folders, *files)):
        top = next(each for each in (*reversed(folder.parents), folder) if each in folders or each in files)
        root = tops.setdefault(top, Root(top))
        place = "" if folder == top else f"{folder.relative_to(top).as_posix()}/"
        if folder in folders and place not in root.listed:
            root.listed.append(place)
        root.files += [place + name for name in files.get(folder, ())]
    return _with_prefixes(list(tops.values()))


def _expanded(inputs: Sequence[Path]) -> list[Path]:
    """The inputs, with patterns replaced by what they match unless a file has that very name."""
    found: list[Path] = []
    missing: list[Path] = []
    for path in inputs:
        if _is_there(path):
            found.append(path)
        elif glob.has_magic(str(path)) and (matches := sorted(glob.glob(str(path), recursive=True))):  # noqa: PTH207
            found += map(Path, matches)
        else:
            missing.append(path)
    if missing and all(glob.has_magic(str(path)) for path in missing):
        raise UsageError(f"no file fits the pattern {names_of(missing)}")
    if missing:
        unmatched = [path for path in missing if glob.has_magic(str(path))]
        faults = [
            f"{what}: {names_of(paths)}"
            for what, paths in (
                ("no such file or folder", [path for path in missing if path not in unmatched]),
                ("no file matches the pattern", unmatched),
            )
            if paths
        ]
        raise UsageError("\n".join(faults))
    return found


def _is_there(path: Path) -> bool:
    """Whether a path leads to something. Raises UsageError if that cannot be told."""
    try:
        path.stat()
    except OSError as error:
        if error.errno in NOTHING_THERE:
            return False
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError:
        return False
    return True


def _with_prefixes(roots: list[Root]) -> list[Root]:
    """The roots with the prefixes that tell them apart: their paths below the folder that they share."""
    if len(roots) > 1:
        shared = common_folder(roots)
        for root in roots:
            if root.folder != shared:
                # On Windows, folders on two drives share none.
                place = root.folder.relative_to(shared) if shared else Path(str(root.folder).replace(":", ""))
                root.prefix = place.as_posix().strip("/") + "/"
    return roots


def common_folder(roots: Sequence[Root]) -> Path | None:
    """The lowest folder that holds all roots; None for folders on several drives."""
    try:
        return Path(os.path.commonpath([root.folder for root in roots]))
    except ValueError:
        return None


def settings_folder(inputs: Sequence[Path]) -> Path:
    """The folder whose settings file counts for all inputs: the lowest that holds them.

    A metadata JSON is not one of them: `merge` takes its output as an argument too.
    """
    given = [path for path in inputs if path.suffix.lower() not in (".json", ".jsonl")] or inputs
    folders = [path if path.is_dir() else path.parent for path in given]
    return folders[0] if len(folders) == 1 else common_folder([Root(real_path(each)) for each in folders]) or folders[0]
