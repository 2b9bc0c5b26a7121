"""The files of a dataset folder by name, and their content, read only where a trainer would read it."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sdprep.files import real_path
from sdprep.folders import SIDECAR_LIMIT, Folders
from sdprep.images.formats import IMAGE_SUFFIXES, UNREAD_SUFFIXES
from sdprep.images.source import HELPER_ENDINGS, entry_suffix
from sdprep.types import ImageItem

PIXELS = IMAGE_SUFFIXES | UNREAD_SUFFIXES
# Those that Pillow reads without other packages.
OF_PILLOW = PIXELS - {".heic", ".heif", ".jxl", ".svg", ".dng", ".cr2", ".nef", ".arw"}


class DatasetFiles:
    """What is in a folder: the names of the files by subfolder ("" is the folder itself), hidden folders left out.

    Links to files count as files, and are in `links`. Linked folders are not entered, and named in `linked`.
    """

    def __init__(self, root: Path) -> None:
        self.root = real_path(root)
        self.folders: dict[str, set[str]] = {}
        self.links: set[str] = set()
        self.linked: list[str] = []
        waiting = [""]
        while waiting:
            place = waiting.pop()
            names = self.folders[place] = set()
            with os.scandir(self.root / place) as listing:
                for entry in listing:
                    rel = posixpath.join(place, entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        waiting += [] if entry.name.startswith(".") else [rel]
                    elif entry.is_symlink() and entry.is_dir():
                        self.linked.append(rel)
                    elif entry.is_file():
                        names.add(entry.name)
                        self.links.update([rel] if entry.is_symlink() else ())
        self.linked.sort()

    def images(self) -> Iterator[str]:
        """All files with the extension of an image, sorted; hidden ones and masks are not among them."""
        for place in sorted(self.folders):
            for name in sorted(self.folders[place]):
                suffix = entry_suffix(name)
                if suffix in PIXELS and name[0] != "." and not name[: -len(suffix)].endswith(HELPER_ENDINGS):
                    yield posixpath.join(place, name)

    def has(self, rel: str) -> bool:
        """Whether there is a file of this path below the folder."""
        place, _, name = rel.rpartition("/")
        return name in self.folders.get(place, ())

    def rel_of(self, path: str) -> str | None:
        """The path below the folder of an absolute path, however that is spelled; None if it is elsewhere."""
        above, name = os.path.split(path)
        for spelled in (os.path.normpath(above), os.path.realpath(above)):
            with suppress(ValueError):
                rel = Path(spelled).relative_to(self.root).as_posix()
                return posixpath.join("" if rel == "." else rel, name)
        return None

    def item(self, rel: str) -> ImageItem:
        """An image of the folder as the decoder takes it."""
        return ImageItem(self.root, rel, self.root, is_link=rel in self.links)

    def modified(self, rel: str) -> float:
        """When the content of a file was last changed."""
        return (self.root / rel).stat().st_mtime

    def read(self, rel: str, limit: int = SIDECAR_LIMIT) -> bytes:
        """The bytes of a file. Raises OSError, also for a link that leads out of the folder."""
        with Folders(self.root) as folders:
            data = folders.read(self.root / rel, limit)
        if data is None:
            raise FileNotFoundError(2, "it is gone", rel)
        return data
