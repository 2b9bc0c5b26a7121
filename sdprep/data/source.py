"""Finding the pictures of a folder."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from sdprep.config import PICTURE_SUFFIXES, Layout
from sdprep.data.sidecar import sidecar_path
from sdprep.errors import NoImages, UsageError
from sdprep.types import Failure, FailureCode, ImageItem

# OneTrainer keeps masks and condition images beside the pictures under these endings of the stem.
HELPER_ENDINGS = ("-masklabel", "-condlabel")
# Pictures that sdprep does not read; a person who has some should hear of it.
UNREAD_SUFFIXES = frozenset({".tif", ".tiff", ".jp2", ".psd", ".svg", ".dng", ".cr2", ".nef", ".arw"})


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
        found = sorted(self._walk(self.directory), key=lambda item: natural_key(item.rel))
        if not found:
            kinds = " ".join(sorted(suffix[1:] for suffix in PICTURE_SUFFIXES))
            besides = f"; {self.passed_over}" if self.passed_over else ""
            raise NoImages(f"no images in {self.directory} (looked for: {kinds}{besides})")
        return found

    @property
    def passed_over(self) -> str:
        """What `items` did not take although it looks like pictures, as a sentence; empty if there is nothing."""
        if not self._unread:
            return ""
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self._unread.items()))
        return f"passed over: {kinds}"

    def _walk(self, folder: Path) -> Iterator[ImageItem]:
        try:
            with os.scandir(folder) as listing:
                entries = list(listing)
        except PermissionError:
            self._unread["folders without permission"] += 1
            return
        for entry in entries:
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
                if self._recursive:
                    yield from self._walk(Path(entry.path))
            elif is_picture(entry.name) and not entry.is_file(follow_symlinks=False):
                self._unread["pipes, sockets or devices"] += 1
            elif is_picture(entry.name):
                path = Path(entry.path)
                rel = path.relative_to(self.directory)
                yield ImageItem(path, rel.as_posix(), self._target_root / rel)


def is_picture(name: str) -> bool:
    """Whether a file of this name is a picture to prepare."""
    suffix = entry_suffix(name)
    return suffix in PICTURE_SUFFIXES and not name.lower().removesuffix(suffix).endswith(HELPER_ENDINGS)


def entry_suffix(name: str) -> str:
    """The extension of a file name in lower case."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - names, not paths: a million of them


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """A sort key under which `img2` comes before `img10`; equal but for letter case falls back to the text."""
    parts = re.split(r"([0-9]+)", text)
    key = [(0, int(part), "") if index % 2 else (1, 0, part.casefold()) for index, part in enumerate(parts)]
    return [*key, (2, 0, text)]


def sidecar_collisions(items: list[ImageItem], extension: str, naming: str) -> list[Failure]:
    """A failure for every picture that would share its sidecar with another.

    Names are compared as macOS and Windows would, so that a dataset stays whole when it moves; pictures whose own
    names differ in letter case alone live on a file system that tells their sidecars apart too.
    """
    groups: dict[str, list[ImageItem]] = defaultdict(list)
    for item in items:
        groups[_folded(sidecar_path(item.target, extension, naming))].append(item)
    failures = []
    for group in groups.values():
        if len({_folded(item.path) for item in group}) > 1:
            names = ", ".join(item.rel for item in group)
            message = f"{names} would share one sidecar; rename one, or use --sidecar-name full (a.jpg{extension})"
            failures += [Failure(item, FailureCode.STEM_COLLISION, message) for item in group]
    return failures


def _folded(path: Path) -> str:
    return unicodedata.normalize("NFC", str(path)).casefold()
