"""Checking a dataset folder against what a trainer will load from it; nothing is written."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from sdprep.catalog.session import AccessMode, CatalogAccess
from sdprep.config import MergeSettings, PathOptions
from sdprep.errors import ImageError, NoImages, UsageError
from sdprep.images.decoder import file_digest
from sdprep.images.facts import ImageFacts, read_facts
from sdprep.images.formats import IMAGE_SUFFIXES
from sdprep.images.source import entry_suffix, natural_key
from sdprep.models.tokens import TokenCounter, load_counter
from sdprep.report import CancelToken, Listener, NullListener
from sdprep.sanitize import printable, to_json
from sdprep.tasks.reading import GROUP, read_groups
from sdprep.tasks.settings import Layers
from sdprep.tasks.texts.records import open_records
from sdprep.trainers.buckets import BucketRules, Size
from sdprep.trainers.caches import find_stale_latents, find_stale_texts
from sdprep.trainers.files import DatasetFiles
from sdprep.trainers.findings import ABOUT, Code, Finding
from sdprep.trainers.target import Loaded, LoadOptions, Target
from sdprep.trainers.targets import TARGETS

# The share of an image that may be cropped away.
CROP_LIMIT = 0.2
CHARACTERS_SHOWN = 40
# After these an image has no prompt, and nothing more need be said about it.
WITHOUT_PROMPT = frozenset(
    {
        Code.NO_TEXT,
        Code.WRONG_EXTENSION,
        Code.EMPTY_TEXT_FILE,
        Code.NOT_UTF_8,
        Code.UNREADABLE_TEXT,
        Code.BAD_ENTRY,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSettings:
    """The settings of `sdprep check`, most of them under the names that sd-scripts has for them.

    An empty `caption_extension` is the trainer's own default, and `metadata` may be left to the trainer, too.
    `max_bucket_reso` 0 is twice the longer side of the resolution, `max_token_length` 0 is without a limit. With
    `where`, only what concerns the images that match is reported.
    """

    resolution: Size = (1024, 1024)
    caption_extension: str = ""
    metadata: tuple[Path, ...] = ()
    enable_wildcard: bool = False
    max_token_length: int = 75
    min_bucket_reso: int = 256
    max_bucket_reso: int = 0
    bucket_reso_steps: int = 64
    bucket_no_upscale: bool = False
    where: str | None = None

    @property
    def rules(self) -> BucketRules:
        """The rules of the buckets. Raises UsageError if they contradict each other."""
        return BucketRules(
            resolution=self.resolution,
            min_bucket_reso=self.min_bucket_reso,
            max_bucket_reso=self.max_bucket_reso or 2 * max(self.resolution),
            bucket_reso_steps=self.bucket_reso_steps,
            bucket_no_upscale=self.bucket_no_upscale,
        )


@dataclass(slots=True)
class CheckReport:
    """What a trainer will load: how many images, the prompts of each, and everything that is wrong."""

    target: str
    images: int = 0
    prompts: dict[str, list[str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 without findings, 3 with some."""
        return 3 if self.findings else 0

    def as_dict(self, *, prompts: bool = False) -> dict[str, Any]:
        """The report as JSON-ready values; a prompt is a list where the trainer chooses one of several."""
        counts = Counter(finding.code for finding in self.findings)
        values = {
            "command": "check",
            "target": self.target,
            "images": self.images,
            "counts": {code.value: counts[code] for code in Code if counts[code]},
            "findings": [
                {
                    "code": each.code.value,
                    "severity": ABOUT[each.code].severity,
                    "path": each.path,
                    "detail": each.detail,
                }
                for each in self.findings
            ],
            "seconds": round(self.seconds, 3),
        }
        if prompts:
            values["prompts"] = {
                printable(path): some[0] if len(some) == 1 else some for path, some in self.prompts.items()
            }
        known: dict[str, Any] = to_json(values)
        return known


def check(
    directory: Path,
    target: str,
    settings: CheckSettings = CheckSettings(),
    *,
    counter: TokenCounter | None = None,
    listener: Listener | None = None,
) -> CheckReport:
    """Find out what a trainer will load from a folder, and what is lost or wrong.

    Tokens are counted with `counter`, or with the best one on this machine. Raises UsageError, MetadataError if a
    metadata file cannot be read, and NoImages, also if no image matches the filter.
    """
    began, listener = time.monotonic(), listener or NullListener()
    if target not in TARGETS:
        raise UsageError(f"unknown target {target!r}; known are {', '.join(TARGETS)}")
    trainer, rules = TARGETS[target], settings.rules
    _check_effect(trainer, settings, listener)
    files = DatasetFiles(directory)
    if not any(True for _ in files.images()):
        raise NoImages(f"no images in {directory}")
    options = LoadOptions(settings.caption_extension, settings.metadata, settings.enable_wildcard)
    loaded = trainer.load(files, options)
    if settings.where is not None:
        _narrow(loaded, files, settings.where, listener)
    inside = sorted((rel for rel in loaded.prompts if files.has(rel)), key=natural_key)
    _add_notes(files, loaded, len(loaded.prompts) - len(inside), listener)
    if settings.max_token_length:
        counter = counter or load_counter()
    if counter is not None and counter.note:
        listener.note(counter.note)
    findings = [
        *loaded.findings,
        *_check_prompts(loaded, settings.max_token_length, counter),
        *_check_images(inside, trainer, rules, files, loaded, listener),
        *_find_duplicates(inside, files),
    ]
    order = {code: number for number, code in enumerate(Code)}
    unique = sorted(dict.fromkeys(findings), key=lambda each: (order[each.code], natural_key(each.path)))
    return CheckReport(target, len(loaded.prompts), loaded.prompts, unique, time.monotonic() - began)


def _narrow(loaded: Loaded, files: DatasetFiles, where: str, listener: Listener) -> None:
    """Keep the images that match a filter, and the findings that are about no other image. Raises NoImages."""
    settings = MergeSettings(paths=PathOptions(where=where))
    access = CatalogAccess("check", AccessMode.DRY_RUN, listener.note)
    with open_records(files.root, settings, Layers(), access, listener, CancelToken()) as records:
        matching = {each.item.rel for each in records.select()}
    prompts = {rel: some for rel, some in loaded.prompts.items() if rel in matching}
    sources = {source for rel, source in loaded.sources.items() if rel in matching}
    others = ({*files.images(), *loaded.prompts} - matching) | ({*loaded.sources.values()} - sources)
    loaded.prompts = prompts
    loaded.findings = [each for each in loaded.findings if each.path not in others]


def _check_effect(trainer: Target, settings: CheckSettings, listener: Listener) -> None:
    """Note bucket options without effect. Raises UsageError for other options that the trainer does not have."""
    for given, taken, name in (
        (settings.metadata, trainer.takes_metadata, "--metadata"),
        (settings.enable_wildcard, trainer.has_wildcards, "--enable-wildcard"),
    ):
        if given and not taken:
            raise UsageError(f"{name} has no effect with {trainer.name}; leave it out")
    if type(trainer).bucket is Target.bucket and settings.rules != CheckSettings().rules:
        listener.note(f"the buckets of {trainer.name} are not computed, so the options for them have no effect")


def _add_notes(files: DatasetFiles, loaded: Loaded, outside: int, listener: Listener) -> None:
    """Note what was not checked."""
    for note in loaded.notes:
        listener.note(note)
    if files.linked:
        listener.note(f"linked folders were not checked: {', '.join(files.linked)}")
    if outside:
        listener.note(f"{outside} images are outside {files.root}: only their prompts were checked")


def _check_prompts(loaded: Loaded, limit: int, counter: TokenCounter | None) -> Iterator[Finding]:
    """Prompts that are empty or too long."""
    explained = {finding.path for finding in loaded.findings if finding.code in WITHOUT_PROMPT}
    for rel, prompts in loaded.prompts.items():
        if not any(prompt.strip() for prompt in prompts):
            if explained.isdisjoint((rel, loaded.sources.get(rel, ""))):
                yield Finding(Code.EMPTY_PROMPT, rel)
        elif limit and counter is not None:
            tokens, longest = max((counter.count(prompt), prompt) for prompt in prompts)
            if tokens > limit:
                shown = longest[:CHARACTERS_SHOWN] + ("..." if len(longest) > CHARACTERS_SHOWN else "")
                about = "about " if counter.is_estimate else ""
                yield Finding(Code.PROMPT_CUT, rel, f"{about}{tokens} tokens, {limit} are used: {shown}")


def _check_images(
    rels: Sequence[str],
    trainer: Target,
    rules: BucketRules,
    files: DatasetFiles,
    loaded: Loaded,
    listener: Listener,
) -> Iterator[Finding]:
    """What the headers of the images say, and caches beside them."""
    listener.stage("reading images", len(rels))
    groups = (rels[start : start + GROUP] for start in range(0, len(rels), GROUP))
    read = read_groups(lambda group: [(rel, _facts(rel, files)) for rel in group], groups, CancelToken())
    for rel, facts in chain.from_iterable(read):
        listener.advance()
        if isinstance(facts, ImageError):
            yield Finding(Code.UNREADABLE_IMAGE, rel, str(facts))
        elif facts is not None:
            yield from _check_image(rel, facts, trainer, rules, files, loaded)


def _facts(rel: str, files: DatasetFiles) -> ImageFacts | ImageError | None:
    """The facts of an image, why it has none, or None for a format that sdprep does not read."""
    if entry_suffix(rel) not in IMAGE_SUFFIXES:
        return None
    try:
        return read_facts(files.item(rel))
    except ImageError as error:
        return error


def _check_image(
    rel: str, facts: ImageFacts, trainer: Target, rules: BucketRules, files: DatasetFiles, loaded: Loaded
) -> Iterator[Finding]:
    if facts.turn is not None and trainer.turns is False:
        yield Finding(Code.EXIF_IGNORED, rel)
    if facts.has_alpha and trainer.drops_alpha:
        yield Finding(Code.ALPHA_DROPPED, rel)
    stated = loaded.sizes.get(rel, facts.size)
    if stated != facts.size:
        yield Finding(Code.WRONG_SIZE, rel, f"{_name(stated)} is stated, it is {_name(facts.size)}")
    yield from _check_bucket(rel, facts.upright if trainer.turns else facts.size, trainer, rules, files)
    if trainer.has_caches and rel in loaded.sources:
        yield from find_stale_texts(rel, loaded.sources[rel], files)


def _check_bucket(rel: str, size: Size, trainer: Target, rules: BucketRules, files: DatasetFiles) -> Iterator[Finding]:
    bucket = trainer.bucket(size, rules)
    if bucket is None:
        return
    where = f"{_name(size)} becomes {_name(bucket.size)}"
    if min(bucket.size) == 0:
        yield Finding(Code.ZERO_BUCKET, rel, where)
    elif bucket.crop_loss > CROP_LIMIT:
        yield Finding(Code.CROP_LOSS, rel, f"{bucket.crop_loss:.0%}: {where}")
    if trainer.has_caches and max(bucket.size) > rules.most:
        yield Finding(Code.OVERSIZED_BUCKET, rel, f"{where}, more than {rules.most}")
    if trainer.has_caches:
        yield from find_stale_latents(rel, size, bucket, files)


def _find_duplicates(rels: Iterable[str], files: DatasetFiles) -> Iterator[Finding]:
    """Images with the same bytes; only those of the same length are read."""
    lengths: dict[int, list[str]] = {}
    for rel in rels:
        lengths.setdefault(os.stat(files.root / rel).st_size, []).append(rel)  # noqa: PTH116 - a million of them
    digests: dict[bytes, list[str]] = {}
    for same in lengths.values():
        for rel in same if len(same) > 1 else ():
            try:
                digests.setdefault(file_digest(files.item(rel)), []).append(rel)
            except ImageError:
                # Reading its header has failed, too, and is a finding.
                continue
    for same in digests.values():
        for rel in same[1:]:
            yield Finding(Code.DUPLICATE_IMAGE, rel, f"the same as {same[0]}")


def _name(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
