"""Finding the images of a folder."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from sdprep.errors import NoImages, UsageError
from sdprep.files import real_path
from sdprep.images.formats import IMAGE_SUFFIXES, UNREAD_SUFFIXES
from sdprep.types import ImageItem

# OneTrainer keeps masks and condition images beside the images under these endings of the stem.
HELPER_ENDINGS = ("-masklabel", "-condlabel")
# Names in a message; there may be a million.
NAMES_SHOWN = 5
NUMBER = re.compile("[0-9]+")


class FolderSource:
    """The images of a folder in natural order, without hidden files, links and helper files of trainers."""

    def __init__(self, directory: Path, *, recursive: bool = True, output_dir: Path | None = None) -> None:
        try:
            found = directory.is_dir()
            self.directory = real_path(directory)
        except OSError as error:
            raise UsageError(f"{directory} cannot be read: {error}") from error
        if not found:
            raise UsageError(f"{directory} is not a folder")
        self._recursive = recursive
        self._unread: Counter[str] = Counter()
        self._unlisted: list[tuple[str, str]] = []
        self._target_root = real_path(output_dir) if output_dir else self.directory

    def items(self) -> list[ImageItem]:
        """All images. Raises NoImages when there are none."""
        found = sorted(self._walk(), key=natural_key)
        if not found:
            kinds = " ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
            besides = f"; {self.skipped}" if self.skipped else ""
            raise NoImages(f"no images in {self.directory} (looked for: {kinds}{besides})")
        return [ImageItem(self.directory, rel, self._target_root) for rel in found]

    @property
    def skipped(self) -> str:
        """What `items` skipped although it looks like images, as a sentence; empty if there is nothing."""
        kinds = [f"{count} {kind}" for kind, count in sorted(self._unread.items()) if count]
        if self._unlisted:
            names = [f"{folder} ({reason})" for folder, reason in self._unlisted[:NAMES_SHOWN]]
            more = len(self._unlisted) - len(names)
            kinds.append(
                f"{len(self._unlisted)} {'folder' if len(self._unlisted) == 1 else 'folders'} that cannot be read: "
                + ", ".join(names)
                + (f" and {more} more" if more else "")
            )
        return f"skipped: {', '.join(kinds)}" if kinds else ""

    def _walk(self) -> Iterator[str]:
        """The relative paths of all images. Without recursion, since folders may be nested deeply."""
        folders = [""]
        while folders:
            prefix = folders.pop()
            try:
                with os.scandir(f"{self.directory}/{prefix}") as listing:
                    for entry in listing:
                        if entry.is_dir(follow_symlinks=False):
                            if self._recursive and not entry.name.startswith("."):
                                folders.append(f"{prefix}{entry.name}/")
                        elif self._takes(entry):
                            yield prefix + entry.name
            except OSError as error:
                # No permission, deleted or replaced since it was listed, or a path that is too long for the system.
                self._unlisted.append((prefix or ".", error.strerror or str(error)))

    def _takes(self, entry: os.DirEntry[str]) -> bool:
        """Whether a file is an image to prepare; those that only look like one are counted."""
        if entry.name.startswith("."):
            return False
        suffix = entry_suffix(entry.name)
        if entry.is_symlink():
            self._unread["links"] += suffix in IMAGE_SUFFIXES or _leads_to_folder(entry)
            return False
        self._unread[suffix] += suffix in UNREAD_SUFFIXES
        if not _is_image(entry.name, suffix):
            return False
        regular = entry.is_file(follow_symlinks=False)
        self._unread["pipes, sockets or devices"] += not regular
        return regular


def _leads_to_folder(link: os.DirEntry[str]) -> bool:
    try:
        return link.is_dir()
    except OSError:
        # A circle of links, or a folder without permission.
        return False


def is_image(name: str) -> bool:
    """Whether a file of this name is an image to prepare."""
    return _is_image(name, entry_suffix(name))


def _is_image(name: str, suffix: str) -> bool:
    return suffix in IMAGE_SUFFIXES and not name.lower().removesuffix(suffix).endswith(HELPER_ENDINGS)


def entry_suffix(name: str) -> str:
    """The extension of a file name in lower case."""
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else ""


def natural_key(text: str) -> str:
    """A sort key under which `img2` comes before `img10`; equal but for letter case falls back to the text.

    One string, since a million of them are sorted. NUL, which no name contains, ends each part that is not a number;
    then follow 1 and a number, with the count of its digits first, or 2 and the original text.
    """
    return f"{NUMBER.sub(_number_key, text.casefold())}\0\2{text}"


def _number_key(number: re.Match[str]) -> str:
    digits = number[0].lstrip("0")
    return f"\0\1{chr(len(digits))}{digits}"
