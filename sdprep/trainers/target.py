"""What all trainers have in common: the images that one takes, where it looks for text, and what comes of both."""

from __future__ import annotations

import io
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sdprep.images.source import entry_suffix
from sdprep.paths import stem_of
from sdprep.trainers.buckets import Bucket, BucketRules, Size
from sdprep.trainers.files import DatasetFiles
from sdprep.trainers.findings import Code, Finding

TEXT_SUFFIXES = frozenset({".txt", ".caption", ".tags", ".cap", ".tag"})
MARK = "\ufeff"
CHOICE = re.compile(r"(?<!\{)\{[^{}]*\|[^{}]*\}(?!\})")


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What the user has set in the trainer; an empty `extension` is the trainer's own default.

    `metadata` are the metadata files, and `wildcard` is enable_wildcard of sd-scripts.
    """

    extension: str = ""
    metadata: tuple[Path, ...] = ()
    wildcard: bool = False


@dataclass(slots=True)
class Loaded:
    """What a trainer loads: the prompts of each image, of which it uses one at a time, and what it does not load.

    `sources` has the file from which the prompt of an image comes. Images of other folders are under their own path.
    """

    prompts: dict[str, list[str]] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, Size] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def find(self, code: Code, path: str, detail: str = "") -> None:
        """Add a finding."""
        self.findings.append(Finding(code, path, detail))


class Target(ABC):
    """A trainer, or the way it takes its data.

    `turns` is whether it turns images by EXIF, and `drops_alpha` whether it ignores transparency; None: not known.
    `suffixes` are the extensions of its images, in lower case; `any_case` is whether it takes upper case, too.
    """

    name: str
    title: str
    extension: str
    suffixes: frozenset[str]
    any_case = True
    turns: bool | None = False
    drops_alpha: bool | None = True
    # Whether it writes caches beside images, with the names that `caches.py` knows.
    has_caches = False
    # Whether it has the options of the same meaning.
    takes_metadata = False
    has_wildcards = False

    @abstractmethod
    def load(self, files: DatasetFiles, options: LoadOptions) -> Loaded:
        """Return what the trainer loads from a folder."""

    def bucket(self, image: Size, rules: BucketRules) -> Bucket | None:  # noqa: ARG002 - not simulated here
        """The bucket of an image; None where that is not simulated."""
        return None

    def takes(self, name: str) -> bool:
        """Whether a file of this name is an image for the trainer."""
        suffix = name[name.rfind(".") :] if "." in name else ""
        return (suffix.lower() if self.any_case else suffix) in self._suffixes_as_spelled()

    def _suffixes_as_spelled(self) -> frozenset[str]:
        return self.suffixes if self.any_case else self.suffixes | {each.upper() for each in self.suffixes}

    def why_not(self, rel: str) -> str:
        """Why the trainer does not load an image of this path, if its name alone says so; else empty."""
        if self.takes(rel.rpartition("/")[2]):
            return ""
        suffix = rel[rel.rfind(".") :]
        if not self.any_case and suffix.lower() in self.suffixes:
            return f"{suffix} is neither all lower nor all upper case"
        return f"it does not read {suffix.lower()} files"


class SidecarTarget(Target):
    """A trainer that reads the prompt of an image from a file with the same name and another extension.

    `recursive` is whether it enters subfolders.
    """

    recursive = True
    # As in Python's `open`: None makes an LF of every line end, an empty text leaves all as they are.
    newline: str | None = None

    def load(self, files: DatasetFiles, options: LoadOptions) -> Loaded:
        """Return the images and what their sidecars say."""
        loaded = Loaded()
        extension = with_dot(options.extension) or self.extension
        for rel in self.select(files.images(), loaded):
            sidecar = stem_of(rel) + extension
            loaded.prompts[rel] = []
            if not files.has(sidecar):
                self.miss(rel, extension, files, loaded)
                continue
            loaded.sources[rel] = sidecar
            text = read_utf8(files, sidecar, loaded, newline=self.newline)
            if text is None:
                continue
            loaded.prompts[rel] = self.prompts_of(text)
            self.judge(rel, text, loaded)
        find_collisions(loaded)
        return loaded

    def select(self, images: Iterable[str], loaded: Loaded) -> Iterator[str]:
        """The images that the trainer takes; the others become findings."""
        for rel in images:
            reason = self.why_not(rel)
            if not reason and not self.recursive and "/" in rel:
                reason = "it reads no subfolders"
            if reason:
                loaded.find(Code.NOT_LOADED, rel, reason)
            else:
                yield rel

    def miss(self, rel: str, extension: str, files: DatasetFiles, loaded: Loaded) -> None:
        """Note that an image has no sidecar, and give it the prompt that it has without one."""
        loaded.prompts[rel] = list(self.prompts_without_text)
        find_missing(rel, extension, files, loaded, self.without_text)

    prompts_without_text: tuple[str, ...] = ("",)
    # What the trainer does with an image that has no sidecar, for the detail of the finding.
    without_text = "its prompt is empty"

    @abstractmethod
    def prompts_of(self, text: str) -> list[str]:
        """The prompts in the text of a sidecar."""

    def judge(self, rel: str, text: str, loaded: Loaded) -> None:
        """Add what only this trainer finds wrong with a text."""


def with_dot(extension: str) -> str:
    """An extension as it is given to a trainer, with its dot."""
    return extension if not extension or extension.startswith(".") else f".{extension}"


def read_utf8(files: DatasetFiles, rel: str, loaded: Loaded, newline: str | None = None) -> str | None:
    """The text of a file, with line ends as `newline` says in Python's `open`; None, and a finding, if it has none."""
    try:
        data = files.read(rel)
    except OSError as error:
        loaded.find(Code.UNREADABLE_TEXT, rel, error.strerror or str(error))
        return None
    try:
        text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", newline=newline).read()
    except UnicodeDecodeError as error:
        loaded.find(Code.NOT_UTF_8, rel, f"byte {error.start}")
        return None
    if text.startswith(MARK):
        loaded.find(Code.BYTE_ORDER_MARK, rel)
    return text


def find_missing(rel: str, extension: str, files: DatasetFiles, loaded: Loaded, effect: str) -> None:
    """Note that an image has no text, or has it under another name."""
    place, _, name = rel.rpartition("/")
    stem = stem_of(name)
    others = [
        each
        for each in files.folders[place]
        if entry_suffix(each) in TEXT_SUFFIXES | {extension.lower()} and stem_of(each) in (stem, name)
    ]
    if others:
        loaded.find(Code.WRONG_EXTENSION, rel, f"{stem}{extension} is wanted, {', '.join(sorted(others))} is there")
    else:
        loaded.find(Code.NO_TEXT, rel, effect)


def find_collisions(loaded: Loaded) -> None:
    """Note images that share their sidecar."""
    groups: dict[str, list[str]] = {}
    for rel in loaded.prompts:
        groups.setdefault(stem_of(rel), []).append(rel)
    for group in groups.values():
        for rel in group if len(group) > 1 else ():
            others = ", ".join(each.rpartition("/")[2] for each in group if each != rel)
            loaded.find(Code.STEM_COLLISION, rel, f"with {others}")
