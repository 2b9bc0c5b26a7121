"""The images of a shard: their names, and their bytes or what is wrong with them."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from sdprep.errors import ImageError
from sdprep.images.formats import IMAGE_SUFFIXES, UNREAD_SUFFIXES
from sdprep.types import FailureCode

KNOWN = IMAGE_SUFFIXES | UNREAD_SUFFIXES
# A part of a name that begins with a dot, and is not a dot or two.
HIDDEN = re.compile(r"(?:^|[/\\])\.(?!\.?(?:[/\\]|$))")
SLASH = re.compile(r"[/\\]")
DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class Member:
    """An image of a shard: the key of its sample, its own name, and its bytes or the fault that it has none.

    The fault of a whole shard, such as a web page instead of a tar, has an empty name.
    """

    key: str
    name: str
    data: bytes = b""
    fault: ImageError | None = None

    @property
    def suffix(self) -> str:
        """The extension of an image, in small letters."""
        return suffix_of(self.name)


def faulty(name: str, code: FailureCode, message: str) -> Member:
    """An image, or with an empty name a whole shard, that cannot be read."""
    return Member(key_of(name), name, fault=ImageError(code, message))


def too_large(limit: int) -> ImageError:
    """Why an image of more than `limit` bytes is not read; the same for all of them, so that they are told together."""
    message = f"it has more than the {limit / 1e6:,.0f} MB that are read; --max-pixels and --spool set this limit"
    return ImageError(FailureCode.TOO_LARGE, message)


def suffix_of(name: str) -> str:
    """The extension of a name, in small letters."""
    return posixpath.splitext(name)[1].lower()


def key_of(name: str) -> str:
    """The key of the sample that a member belongs to, as WebDataset has it: all before the first dot of its name."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def is_image(name: str) -> bool:
    """Whether a name is that of an image; hidden files, as those that macOS adds to a tar, are none."""
    # It is asked of every name of a listing.
    end = name.rfind(".")
    return end > 0 and name[end:].lower() in KNOWN and HIDDEN.search(name) is None


def fault_of_name(name: str) -> ImageError | None:
    """Why an image of this name is not read, if it is not."""
    if name.startswith(("/", "\\")) or DRIVE.match(name) or ".." in SLASH.split(name):
        return ImageError(FailureCode.UNREADABLE, "its name leads out of the folder that a tar is unpacked in")
    if (suffix := suffix_of(name)) in UNREAD_SUFFIXES:
        return ImageError(FailureCode.NOT_AN_IMAGE, f"the format {suffix} is not supported")
    return None
