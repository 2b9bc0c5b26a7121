"""The folder of an export: each file appears in it whole, under its name, and nothing else is changed."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from sdprep.errors import UsageError, WriteError
from sdprep.files import NEW_FILE, real_path, write_all
from sdprep.folders import open_item
from sdprep.types import ImageItem

TEMPORARY = ".sdprep-export.tmp"
# The errors of a hard link to another file system, of one without links, and of a file with too many or another owner.
NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS, errno.EACCES})


class ExportFolder:
    """Writes the files of an export; `copied` counts the images that could not be linked."""

    def __init__(self, root: Path) -> None:
        self.root, self.copied = root, 0
        self._written: set[str] = set()
        self._made: set[Path] = set()

    def put(self, name: str, parts: Iterable[bytes]) -> None:
        """Write a file. Raises WriteError."""
        temporary = self._temporary(name)
        try:
            descriptor = os.open(temporary, NEW_FILE, 0o666)
            try:
                for part in parts:
                    write_all(descriptor, part)
            finally:
                os.close(descriptor)
            self._publish(temporary, name)
        except OSError as error:
            raise WriteError(error) from error
        finally:
            temporary.unlink(missing_ok=True)

    def link(self, name: str, item: ImageItem) -> None:
        """Make a hard link to an image, or copy it where that is not possible. Raises WriteError."""
        source, temporary = real_path(item.path) if item.is_link else item.path, self._temporary(name)
        try:
            os.link(source, temporary)
            self._publish(temporary, name)
        except OSError as error:
            if error.errno not in NO_LINK:
                raise WriteError(error) from error
            self.copied += 1
            self.copy(name, item)
        finally:
            # A link to the file that is there already is not replaced, but stays.
            temporary.unlink(missing_ok=True)

    def copy(self, name: str, item: ImageItem) -> None:
        """Copy an image. Raises WriteError."""
        temporary = self._temporary(name)
        try:
            with open_item(item) as source, temporary.open("xb") as file:
                shutil.copyfileobj(source, file)
            self._publish(temporary, name)
        except OSError as error:
            raise WriteError(error) from error
        finally:
            temporary.unlink(missing_ok=True)

    def _temporary(self, name: str) -> Path:
        parent = (self.root / name).parent
        try:
            if parent not in self._made:
                parent.mkdir(parents=True, exist_ok=True)
                self._made.add(parent)
            # What a killed run left.
            (parent / TEMPORARY).unlink(missing_ok=True)
        except OSError as error:
            raise WriteError(error) from error
        return parent / TEMPORARY

    def _publish(self, temporary: Path, name: str) -> None:
        os.replace(temporary, self.root / name)  # noqa: PTH105 - the one call that is atomic everywhere
        self._written.add(name)

    def others(self) -> list[str]:
        """The files in the folder that are not of this export, such as those of an earlier one."""
        found = []
        for path, folders, names in os.walk(self.root):
            folders.sort()
            place = Path(path).relative_to(self.root).as_posix()
            rels = (name if place == "." else f"{place}/{name}" for name in sorted(names))
            found += [rel for rel in rels if rel not in self._written]
        return found


def check_output(root: Path, sources: Iterable[Path], *, overwrite: bool) -> None:
    """Raise UsageError unless an export may be written into a folder, new or empty and apart from the sources."""
    for source in sources:
        if root == source or root.is_relative_to(source) or source.is_relative_to(root):
            raise UsageError(f"-o {root} and {source} are inside each other; an export needs a folder of its own")
    try:
        str(root).encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"-o {root}: the files for trainers cannot name a path that is not valid Unicode") from error
    if not os.path.lexists(root):
        return
    if not root.is_dir():
        raise UsageError(f"-o {root} is not a folder")
    if not overwrite and any(root.iterdir()):
        raise UsageError(f"-o {root} is not empty; give a new folder, or --overwrite to replace the files of an export")
