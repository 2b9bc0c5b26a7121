"""Members of a shard as files, in memory where there is room: what a worker is shown are always files."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from filelock import FileLock, Timeout

from sdprep.errors import SdprepError
from sdprep.types import ImageItem

MEMORY = Path("/dev/shm")
PREFIX = "sdprep-spool-"


class Spool:
    """A folder for the members that are in hand, with room for `size` bytes of them."""

    def __init__(self, folder: Path, size: int) -> None:
        self.size = size
        self._folder, self._count = folder, 0

    def add(self, data: bytes, suffix: str, prompt: str = "") -> ImageItem:
        """A file with these bytes as an image of a run, about which a captioner is asked `prompt`.

        Raises SdprepError if it cannot be written, as where others have filled the place.
        """
        self._count += 1
        item = ImageItem(self._folder, f"{self._count:06}{suffix}", self._folder, prompt=prompt)
        try:
            item.path.write_bytes(data)
        except OSError as error:
            raise SdprepError(
                f"{self._folder} cannot hold the images in hand: {error.strerror or error}. "
                "Lower --spool, or make room there, or set TMPDIR to a folder with more"
            ) from error
        return item

    def remove(self, item: ImageItem) -> None:
        """Delete the file of an image."""
        item.path.unlink(missing_ok=True)


@contextmanager
def open_spool(size: int, places: tuple[Path, ...] = (MEMORY,)) -> Iterator[Spool]:
    """A spool with room for so many bytes, in memory where that is; those of processes that were killed go.

    Its lock ends with this process, however that ends.
    """
    place = next((each for each in places if _has_room(each, size)), Path(tempfile.gettempdir()))
    _sweep(place)
    name = place / f"{PREFIX}{token_hex(8)}"
    with FileLock(_lock_of(name), mode=0o600):
        name.mkdir(mode=0o700)
        try:
            yield Spool(name, size)
        finally:
            shutil.rmtree(name, ignore_errors=True)
            _lock_of(name).unlink(missing_ok=True)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _has_room(place: Path, size: int) -> bool:
    # Docker gives a container 64 MB there.
    return place.is_dir() and shutil.disk_usage(place).free >= 2 * size


def _sweep(place: Path) -> None:
    """Delete the folders of processes that ended without doing so."""
    for lock in place.glob(f"{PREFIX}*.lock"):
        # It is at work, or another user's.
        with suppress(Timeout, OSError), FileLock(lock, timeout=0):
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
