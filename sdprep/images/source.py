"""Finding the images of the inputs of a run."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from sdprep.errors import NoImages
from sdprep.files import real_path
from sdprep.folders import is_below
from sdprep.images.formats import IMAGE_SUFFIXES, OF_SHARDS, UNREAD_SUFFIXES, has_extension
from sdprep.images.inputs import Root, common_folder, find_roots, names_of
from sdprep.types import ImageItem

# OneTrainer keeps masks and condition images beside the images under these endings of the stem.
HELPER_ENDINGS = ("-masklabel", "-condlabel")
NUMBER = re.compile("[0-9]+")
# Folders that Windows keeps on each disk.
SYSTEM_FOLDERS = frozenset({"$recycle.bin", "system volume information"})
# Where `sdprep review` moves images that are not for the dataset.
REJECTED = "_rejected"
JUNCTION = 0xA0000003
# What is left out, and which links are followed, in words.
LINKS = "links (--follow-links includes them)"
IRREGULAR = "pipes, sockets or devices"
FOREIGN = "file{s} without the extension of an image"
UNLISTED = "folder{s} that cannot be read"
NOWHERE = "link{s} to nothing"
LOOP = "link{s} in a circle"
MET = "folder{s} included under another name"
OUTSIDE = "link{s} out of the inputs"
TWICE = "link{s} to images included under another name"
HINT = "\nIt has tars or Parquet files: sdprep tag and sdprep caption read the images in them with --results URL"


class ImageSource:
    """The images of folders, image files and patterns in natural order, each once.

    Hidden files, helper files of trainers and system folders are left out. Links in a folder are left out unless
    `follow_links`; those that are inputs themselves are followed. `directory` is the folder that holds all inputs, and
    `homes` are the folders that may get a catalog, and `places` the folders and images that settings are stated for;
    those of followed links are added when the images are listed.

    Raises UsageError naming the inputs that are not there.
    """

    def __init__(
        self,
        inputs: Path | Sequence[Path],
        *,
        recursive: bool = True,
        follow_links: bool = False,
        output_dir: Path | None = None,
    ) -> None:
        self._roots = find_roots([inputs] if isinstance(inputs, Path) else inputs)
        self._recursive, self._follow_links = recursive, follow_links
        self._output_dir = real_path(output_dir) if output_dir else None
        self.directory = common_folder(self._roots) or self._roots[0].folder
        self.homes: dict[Path, None] = {}
        self.places: list[Path] = []
        for root in self._roots:
            root.target = None if self._output_dir is None else self._output_dir / root.prefix
            self.homes[self._output_dir or root.folder] = None
            self.places += [(root.target or root.folder) / each for each in root.listed or root.files]
        self._unread: Counter[str] = Counter()
        self._has_shards = False
        self._unused: defaultdict[str, list[str]] = defaultdict(list)
        self._followed: defaultdict[str, list[str]] = defaultdict(list)
        # The folders that were listed, kept if one may be met again, and links to folders that wait.
        self._may_meet = follow_links or any(len(root.listed) > 1 for root in self._roots)
        self._met: set[str] = set()
        self._linked: deque[tuple[str, str]] = deque()

    def items(self) -> list[ImageItem]:
        """All images. Raises NoImages when there are none."""
        found: list[ImageItem] = []
        for root in self._roots:
            given = {within: self._item(root, within) for within in root.files if self._takes_file(root, within)}
            found += given.values()
            found += (item for item in self._walk(root) if item.within not in given)
        # Only now, so that what a folder and a link lead to has the name that it has in the folder.
        while self._linked:
            if (linked := self._linked_root(*self._linked.popleft())) is not None:
                found += self._walk(linked, is_linked=True)
        if not found:
            raise NoImages(self._why_none())
        self._name_links(found)
        return sorted(found, key=lambda item: natural_key(item.rel))

    def _why_none(self) -> str:
        kinds = " ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
        besides = f"; {self.skipped}" if self.skipped else ""
        place = names_of(root.folder for root in self._roots)
        if any(root.listed for root in self._roots):
            hint = HINT if self._has_shards else ""
            return f"no images in {place} (looked for: {kinds}{besides}){hint}"
        given = names_of(root.folder / within for root in self._roots for within in root.files)
        return f"no image was given, but {given}{besides}\nGive images, or the folder in which they lie: {place}"

    @property
    def skipped(self) -> str:
        """What `items` skipped although it looks like images, and which links it followed; empty for nothing."""
        kinds = [f"{count} {kind}" for kind, count in sorted(self._unread.items()) if count]
        kinds += [_listed(kind, names) for kind, names in sorted(self._unused.items())]
        followed = [_listed(kind, names) for kind, names in sorted(self._followed.items())]
        sentences = [("skipped", kinds), ("followed", followed)]
        return "; ".join(f"{verb}: {', '.join(parts)}" for verb, parts in sentences if parts)

    @property
    def home(self) -> Path:
        """The folder of the catalog that records what belongs to the run as a whole."""
        return next(iter(self.homes))

    def _item(self, root: Root, within: str, *, is_link: bool | None = None) -> ImageItem:
        if is_link is None:
            is_link = (root.folder / within).is_symlink()
        return ImageItem(root.folder, root.prefix + within, root.target or root.folder, root.prefix, is_link)

    def _takes_file(self, root: Root, within: str) -> bool:
        """Whether a file that was given is an image; others are named."""
        path = root.folder / within
        kind = FOREIGN if not is_image(path.name) else None if path.is_file() else IRREGULAR
        if kind is not None:
            self._unused[kind].append(root.prefix + within)
        return kind is None

    def _walk(self, root: Root, *, is_linked: bool = False) -> Iterator[ImageItem]:
        """The images of the folders to list in a root. Without recursion, since folders may be nested deeply."""
        folders = root.listed[::-1]
        while folders:
            prefix = folders.pop()
            path = f"{root.folder}/{prefix}"
            if (real := path.rstrip("/")) in self._met:
                self._unused[MET] += [root.prefix + prefix] if is_linked else []
                continue
            self._met.update([real] if self._may_meet else ())
            try:
                with os.scandir(path) as listing:
                    for entry in listing:
                        if is_link(entry):
                            if self._follows(root, prefix, entry):
                                yield self._item(root, prefix + entry.name, is_link=True)
                        elif entry.is_dir(follow_symlinks=False):
                            if self._recursive and not _is_hidden(entry.name):
                                folders.append(f"{prefix}{entry.name}/")
                        elif self._takes(entry):
                            yield self._item(root, prefix + entry.name, is_link=False)
            except OSError as error:
                # No permission, deleted or replaced since it was listed, or a path that is too long for the system.
                name = root.prefix + prefix or "."
                self._unused[UNLISTED].append(f"{name} ({error.strerror or error})")

    def _takes(self, entry: os.DirEntry[str]) -> bool:
        """Whether a file is an image to prepare; those that only look like one are counted."""
        if entry.name.startswith("."):
            return False
        suffix = entry_suffix(entry.name)
        self._unread[suffix] += suffix in UNREAD_SUFFIXES
        if not _is_image(entry.name, suffix):
            self._has_shards = self._has_shards or has_extension(entry.name, OF_SHARDS)
            return False
        regular = entry.is_file(follow_symlinks=False)
        self._unread[IRREGULAR] += not regular
        return regular

    def _follows(self, root: Root, prefix: str, link: os.DirEntry[str]) -> bool:
        """Whether a link leads to an image to prepare; one to a folder waits until all others are listed."""
        if _is_hidden(link.name):
            return False
        name = f"{root.prefix}{prefix}{link.name}"
        is_image_name = is_image(link.name)
        try:
            mode = os.stat(link.path).st_mode  # noqa: PTH116 - as `os.scandir`
        except OSError as error:
            is_loop = error.errno == errno.ELOOP
            if is_image_name and self._follow_links:
                self._unused[LOOP if is_loop else NOWHERE].append(name)
            self._unread[LINKS] += is_image_name and not self._follow_links
            return False
        is_folder = stat.S_ISDIR(mode)
        if not self._follow_links:
            self._unread[LINKS] += is_folder or is_image_name
        elif is_folder and self._recursive:
            self._linked.append((name, link.path))
        elif is_image_name and not stat.S_ISREG(mode):
            self._unread[IRREGULAR] += 1
        return self._follow_links and is_image_name and stat.S_ISREG(mode)

    def _linked_root(self, name: str, path: str) -> Root | None:
        """The folder to which a link leads; None, and named, if it was listed already or holds the link itself."""
        real = os.path.realpath(path)
        if is_below(os.path.realpath(os.path.dirname(path)), real):  # noqa: PTH120 - as `os.path.realpath`
            self._unused[LOOP].append(name)
            return None
        if real in self._met:
            self._unused[MET].append(name)
            return None
        if not self._is_given(real):
            self._followed[OUTSIDE].append(f"{name} ({real})")
        prefix = f"{name}/"
        target = None if self._output_dir is None else self._output_dir / name
        if target is None:
            self.homes[Path(real)] = None
            self.places.append(Path(real))
        return Root(Path(real), prefix, [""], target=target)

    def _name_links(self, items: Sequence[ImageItem]) -> None:
        """Name the images behind links that lie elsewhere, or are images of this run themselves."""
        links = {item.rel: os.path.realpath(item.path) for item in items if item.is_link}
        if not links:
            return
        counts = Counter(links.values())
        direct = {path for item in items if not item.is_link and (path := str(item.path)) in counts}
        for rel, real in links.items():
            if not self._is_given(real):
                self._followed[OUTSIDE].append(f"{rel} ({real})")
            if real in direct or counts[real] > 1:
                self._followed[TWICE].append(rel)

    def _is_given(self, real: str) -> bool:
        """Whether a path without links lies in an input."""
        return any(is_below(real, str(root.folder)) for root in self._roots)


def _listed(kind: str, names: Sequence[str]) -> str:
    """How many there are of a kind, and some of their names."""
    return f"{len(names)} {kind.format(s='' if len(names) == 1 else 's')}: {names_of(names)}"


def is_link(entry: os.DirEntry[str]) -> bool:
    """Whether an entry of a folder is a symbolic link, or a junction, which leads to another folder on Windows."""
    if entry.is_symlink():
        return True
    # `DirEntry.is_junction` is of Python 3.12.
    return sys.platform == "win32" and getattr(entry.stat(follow_symlinks=False), "st_reparse_tag", 0) == JUNCTION


def _is_hidden(name: str) -> bool:
    """Whether a folder is not for images: its name starts with a dot, it has rejected ones, or Windows keeps it."""
    return name.startswith(".") or name == REJECTED or name.lower() in SYSTEM_FOLDERS


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
