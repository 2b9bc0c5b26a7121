"""The metadata files of sd-scripts (`FineTuningDataset`), which three generations of it read differently.

0.9 (up to 0.9.1) looks for `key` as a path, then for `key` with an extension in the image folder. 0.10 joins the key to
the image folder and looks no further. Later versions look for an extension again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdprep.errors import MetadataError, UsageError
from sdprep.files import FILE_LIMIT, read_limited
from sdprep.paths import is_local_path
from sdprep.texts import metadata
from sdprep.texts.exact_json import Number
from sdprep.trainers.buckets import Bucket, BucketRules, Size
from sdprep.trainers.files import DatasetFiles
from sdprep.trainers.findings import Code
from sdprep.trainers.target import CHOICE, MARK, Loaded, LoadOptions, Target

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
SPELLED = sorted([*SUFFIXES, *(each.upper() for each in SUFFIXES)])
SEPARATOR = ","
KEEP_SEPARATOR = "|||"
METADATA = "metadata.json"


@dataclass(frozen=True, slots=True)
class Generation:
    """What differs between the versions: how keys find images, and what counts of a file and of an entry.

    `finds_relative` is whether a key may be a path in the image folder, `finds_stem` whether it may lack its extension.
    With `tags_stand_in`, tags take the place of a caption that is not there.
    """

    finds_relative: bool
    finds_stem: bool
    reads_lines: bool
    reads_sizes: bool
    tags_stand_in: bool


OLD = Generation(finds_relative=False, finds_stem=True, reads_lines=False, reads_sizes=False, tags_stand_in=True)
MIDDLE = Generation(finds_relative=True, finds_stem=False, reads_lines=True, reads_sizes=True, tags_stand_in=False)
NEW = Generation(finds_relative=True, finds_stem=True, reads_lines=True, reads_sizes=True, tags_stand_in=False)
CACHE_NOTE = "sd-scripts 0.10 stops while it reads metadata unless fine_tune.py or sdxl_train.py has --cache_latents"


class SdScripts(Target):
    """The metadata files of one generation."""

    extension = ""
    suffixes = SUFFIXES
    any_case = False
    has_caches = True
    takes_metadata = True
    has_wildcards = True

    def __init__(self, name: str, title: str, generation: Generation) -> None:
        self.name, self.title, self._generation = name, title, generation

    def bucket(self, image: Size, rules: BucketRules) -> Bucket:
        """The bucket of an image."""
        return rules.choose(image)

    def load(self, files: DatasetFiles, options: LoadOptions) -> Loaded:
        """Return the images and prompts of the metadata files. Raises UsageError and MetadataError."""
        if options.extension:
            raise UsageError(f"{self.name} reads metadata files, so --caption-extension has no effect; leave it out")
        loaded, owners = Loaded(), dict[str, str]()
        for path in options.metadata or (files.root / METADATA,):
            name = files.rel_of(str(path.absolute())) or str(path)
            for key, entry in self._entries(path, name, loaded).items():
                if key in owners:
                    loaded.find(Code.LISTED_TWICE, key, f"in {owners[key]} and {name}: only the last counts")
                self._add(key, entry, name, files, options, loaded, is_new=key not in owners)
                owners[key] = name
        for rel in files.images():
            if rel not in loaded.prompts:
                reason = self.why_not(rel)
                loaded.find(Code.NOT_LOADED if reason else Code.NOT_LISTED, rel, reason)
        if self._generation is MIDDLE:
            loaded.notes.append(CACHE_NOTE)
        return loaded

    def _entries(self, path: Path, name: str, loaded: Loaded) -> Mapping[str, Any]:
        try:
            data = read_limited(path, FILE_LIMIT)
        except OSError as error:
            advice = "; write it with `sdprep merge`, or give --metadata FILE" if name == METADATA else ""
            raise MetadataError(f"{path}: {error.strerror or error}{advice}") from error
        if metadata.is_json_lines(path) and not self._generation.reads_lines:
            loaded.find(Code.BAD_ENTRY, name, "this version reads no JSON Lines")
            return {}
        if data.startswith((MARK.encode(), b"\xff\xfe", b"\xfe\xff")):
            loaded.find(Code.BAD_ENTRY, name, "the file is not UTF-8 without a byte order mark")
        entries, wrong = metadata.parse_values(data, path)
        for detail in wrong:
            loaded.find(Code.BAD_ENTRY, name, detail)
        return entries

    def _add(
        self,
        key: str,
        entry: Any,
        name: str,
        files: DatasetFiles,
        options: LoadOptions,
        loaded: Loaded,
        *,
        is_new: bool,
    ) -> None:
        """Add the image of an entry with its prompts; `name` is the metadata file; a key that is not new replaces."""
        rel = self._resolve(key, files)
        if rel is None:
            loaded.find(Code.UNRESOLVED_KEY, key, name)
            return
        others = loaded.prompts.get(rel, []) if is_new else []
        if is_new and rel in loaded.prompts:
            loaded.find(Code.LISTED_TWICE, rel, "under several keys: it is trained with each")
        loaded.sources[rel], loaded.prompts[rel] = name, others
        if not isinstance(entry, dict):
            loaded.find(Code.BAD_ENTRY, rel, "the entry is not an object")
            return
        caption, tags, size = entry.get("caption"), entry.get("tags"), entry.get("image_size")
        if not isinstance(caption, str | None) or not isinstance(tags, str | None):
            loaded.find(Code.BAD_ENTRY, rel, f"{'caption' if isinstance(tags, str | None) else 'tags'} is not a text")
            return
        if size is not None and self._generation.reads_sizes:
            if (read := as_size(size)) is None:
                loaded.find(Code.BAD_ENTRY, rel, "image_size is not [width, height]")
            else:
                loaded.sizes[rel] = read
        joined = self._joined(caption, tags, wildcard=options.wildcard)
        loaded.prompts[rel] = [*others, *choose_lines(joined, wildcard=options.wildcard)]
        self._judge(rel, joined, tags or "", loaded, wildcard=options.wildcard)

    def _joined(self, caption: str | None, tags: str | None, *, wildcard: bool) -> str:
        """Caption and tags as one text, of which lines are chosen at each step."""
        if caption is None and self._generation.tags_stand_in:
            return tags or ""
        caption = caption or ""
        if wildcard and tags is not None:
            tags = tags.replace("\n", SEPARATOR)
            return "\n".join(f"{line}{SEPARATOR}{tags}" for line in caption.split("\n") if line.strip())
        if not tags or wildcard:
            return caption
        # 0.9 joins tags to an empty caption with a separator, too.
        return caption + SEPARATOR + tags if caption or self._generation.tags_stand_in else tags

    def _judge(self, rel: str, joined: str, tags: str, loaded: Loaded, *, wildcard: bool) -> None:
        wanted = tags.replace("\n", SEPARATOR) if wildcard else tags.partition("\n")[0]
        if tags.strip() and not any(wanted in prompt for prompt in loaded.prompts[rel]):
            why = "no caption, and enable_wildcard is on" if wildcard else "the caption has several lines"
            loaded.find(Code.TAGS_LOST, rel, why)
        else:
            judge_lines(rel, joined, loaded, wildcard=wildcard)

    def _resolve(self, key: str, files: DatasetFiles) -> str | None:
        """The image that a key means, as its path below the folder, or the whole path if it is elsewhere."""
        if not is_local_path(key):
            return None
        path = files.root / key
        exists = _is_file(path) and (self._generation.finds_relative or Path(key).is_absolute())
        if self._generation.finds_stem and (not exists or (self._generation is NEW and not path.suffix)):
            found = next((each for each in _with_extensions(path) if _is_file(each)), None)
            path, exists = found or path, exists or found is not None
        rel = files.rel_of(str(path)) if exists else None
        return rel if rel is not None and files.has(rel) else str(path) if exists else None


def _with_extensions(path: Path) -> Iterator[Path]:
    return (Path(f"{path}{each}") for each in SPELLED)


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - no key is an error, however long it is


def as_size(value: Any) -> Size | None:
    """A width and a height as numbers; None if a metadata file has anything else there."""
    if not isinstance(value, list) or len(value) != 2:
        return None
    texts = [each.text if isinstance(each, Number) else "" for each in value]
    return (int(texts[0]), int(texts[1])) if all(re.fullmatch("[0-9]{1,9}", text) for text in texts) else None


def choose_lines(text: str, *, wildcard: bool) -> list[str]:
    """The lines of which one is the prompt at each step; a choice in braces stays."""
    return text.split("\n") if wildcard else [text.split("\n")[0]]


def judge_lines(rel: str, text: str, loaded: Loaded, *, wildcard: bool) -> None:
    """Note lines that are lost, and what stays in the prompt although it means something else."""
    if not wildcard and any(line.strip() for line in text.split("\n")[1:]):
        loaded.find(Code.LINES_LOST, rel)
    prompts = list(_shown(loaded.prompts[rel]))
    if not wildcard and any(CHOICE.search(prompt) for prompt in prompts):
        loaded.find(Code.WILDCARD_OFF, rel)
    if any(KEEP_SEPARATOR in prompt for prompt in prompts):
        loaded.find(Code.SEPARATOR_IN_PROMPT, rel)


def _shown(prompts: list[str]) -> Iterator[str]:
    return (prompt for prompt in prompts if prompt)


GENERATIONS = (
    SdScripts("sd-scripts-0.9", "sd-scripts up to 0.9.1, metadata JSON", OLD),
    SdScripts("sd-scripts-0.10", "sd-scripts 0.10, metadata JSON or JSON Lines", MIDDLE),
    SdScripts("sd-scripts", "sd-scripts after 0.10.1, metadata JSON or JSON Lines", NEW),
)
