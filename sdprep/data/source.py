"""Finding the pictures of a folder."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from sdprep.config import PICTURE_SUFFIXES, Layout
from sdprep.data.sidecar import sidecar_name
from sdprep.errors import NoImages, UsageError
from sdprep.types import Failure, FailureCode, ImageItem

# OneTrainer keeps masks and condition images beside the pictures under these endings of the stem.
HELPER_ENDINGS = ("-masklabel", "-condlabel")
# Pictures that sdprep does not read; a person who has some should hear of it.
UNREAD_SUFFIXES = frozenset({".tif", ".tiff", ".jp2", ".psd", ".svg", ".dng", ".cr2", ".nef", ".arw"})
NUMBER = re.compile("[0-9]+")


class FolderSource:
    """The pictures of a folder in natural order: no hidden ones, no links, no helper files of trainers."""

    def __init__(self, directory: Path, layout: Layout) -> None:
        if not directory.is_dir():
            raise UsageError(f"{directory} is not a folder")
        self.directory = directory.resolve()
        self._recursive = layout.recursive
        self._unread: Counter[str] = Counter()
        self._target_root = layout.output_dir.resolve() if layout.output_dir else self.directory

    def items(self) -> list[ImageItem]:
        """All pictures. Raises NoImages when there are none."""
        found = sorted(self._walk(""), key=natural_key)
        if not found:
            kinds = " ".join(sorted(suffix[1:] for suffix in PICTURE_SUFFIXES))
            besides = f"; {self.passed_over}" if self.passed_over else ""
            raise NoImages(f"no images in {self.directory} (looked for: {kinds}{besides})")
        return [ImageItem(self.directory, rel, self._target_root) for rel in found]

    @property
    def passed_over(self) -> str:
        """What `items` did not take although it looks like pictures, as a sentence; empty if there is nothing."""
        if not self._unread:
            return ""
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self._unread.items()))
        return f"passed over: {kinds}"

    def _walk(self, prefix: str) -> Iterator[str]:
        """The pictures of a folder and of those in it; `prefix` and what is given are paths in that of the run."""
        try:
            listing = os.scandir(self.directory / prefix)
        except PermissionError:
            self._unread["folders without permission"] += 1
            return
        folders = []
        with listing:
            for entry in listing:
                if entry.name.startswith("."):
                    continue
                suffix = entry_suffix(entry.name)
                if entry.is_symlink():
                    if suffix in PICTURE_SUFFIXES or entry.is_dir():
                        self._unread["links"] += 1
                    continue
                if suffix in UNREAD_SUFFIXES:
                    self._unread[suffix] += 1
                if entry.is_dir(follow_symlinks=False):
                    folders.append(f"{prefix}{entry.name}/")
                elif _is_picture(entry.name, suffix):
                    if entry.is_file(follow_symlinks=False):
                        yield prefix + entry.name
                    else:
                        self._unread["pipes, sockets or devices"] += 1
        for folder in folders if self._recursive else ():
            yield from self._walk(folder)


def is_picture(name: str) -> bool:
    """Whether a file of this name is a picture to prepare."""
    return _is_picture(name, entry_suffix(name))


def _is_picture(name: str, suffix: str) -> bool:
    return suffix in PICTURE_SUFFIXES and not name.lower().removesuffix(suffix).endswith(HELPER_ENDINGS)


def entry_suffix(name: str) -> str:
    """The extension of a file name in lower case."""
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else ""


def natural_key(text: str) -> str:
    """A sort key under which `img2` comes before `img10`; equal but for letter case falls back to the text.

    One string, since a million of them are sorted: NUL, which no name holds, ends what is no number; then comes 1
    and a number, the count of its digits first, or 2 and the text as it is.
    """
    return f"{NUMBER.sub(_number_key, text.casefold())}\0\2{text}"


def _number_key(number: re.Match[str]) -> str:
    digits = number[0].lstrip("0")
    return f"\0\1{chr(len(digits))}{digits}"


def sidecar_collisions(items: list[ImageItem], extension: str, naming: str) -> list[Failure]:
    """A failure for every picture that would share its sidecar with another.

    Names are compared as macOS and Windows would, so that a dataset stays whole when it moves; pictures whose own
    names differ in letter case alone live on a file system that tells their sidecars apart too.
    """
    seen: set[str] = set()
    shared: dict[str, list[ImageItem]] = {}
    for item in items:
        name = _folded(sidecar_name(item.rel, extension, naming))
        if name in seen:
            shared[name] = []
        seen.add(name)
    # Few datasets get here, and with a million pictures the groups would take as much memory as all the rest.
    for item in items if shared else ():
        name = _folded(sidecar_name(item.rel, extension, naming))
        if name in shared:
            shared[name].append(item)
    failures = []
    for group in shared.values():
        if len({_folded(item.rel) for item in group}) > 1:
            names = ", ".join(item.rel for item in group)
            message = f"{names} would share one sidecar; rename one, or use --sidecar-name full (a.jpg{extension})"
            failures += [Failure(item, FailureCode.STEM_COLLISION, message) for item in group]
    return failures


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
