"""Merging sidecars and image sizes into the metadata JSON that kohya-style trainers read."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

from sdprep.catalog.session import AccessMode, CatalogAccess, CatalogSession
from sdprep.config import MergeSettings
from sdprep.errors import ImageError, MissingSidecars, UsageError, starting_threads
from sdprep.files import real_path
from sdprep.folders import Folders, check_writable
from sdprep.images.decode import read_size
from sdprep.images.decoder import failure_of
from sdprep.images.formats import IMAGE_SUFFIXES
from sdprep.images.source import FolderSource, sidecar_collisions
from sdprep.paths import is_inside
from sdprep.report import CancelToken, Listener, NullListener, RunReport
from sdprep.tasks.metadata_file import Files, open_metadata, recall_metadata, replace_metadata
from sdprep.tasks.run_info import catalogs_for
from sdprep.texts import metadata
from sdprep.texts.exact_json import Number
from sdprep.texts.metadata import Entries, Entry
from sdprep.texts.sidecar import read_text, sidecar_name, sidecar_path
from sdprep.types import Failure, FailureCode, ImageItem

TEXT_FIELDS = ("caption", "tags")
THREADS, GROUP = 8, 64  # A thread takes a group: to hand over one image takes as long as to read it.
NAMES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Image:
    """What lies on disk for one image: the wanted texts (None: no sidecar) and its stored [width, height]."""

    item: ImageItem
    texts: dict[str, str | None]
    size: list[int] | None = None
    failure: Failure | None = None

    @property
    def lacks_some(self) -> bool:
        """Whether a wanted sidecar is missing."""
        return None in self.texts.values()

    @property
    def lacks_all(self) -> bool:
        """Whether texts are wanted and none is there."""
        return bool(self.texts) and all(text is None for text in self.texts.values())

    def fields(self, missing: str) -> Entry:
        """What this image contributes to its entry."""
        texts: Entry = {name: text or "" for name, text in self.texts.items() if text is not None or missing == "empty"}
        if self.size is None:
            return texts
        return {**texts, "image_size": [Number(str(side)) for side in self.size]}


def merge(
    directory: Path,
    settings: MergeSettings = MergeSettings(),
    *,
    listener: Listener | None = None,
    stop: CancelToken | None = None,
) -> RunReport:
    """Write captions, tags and image sizes of a folder's images into one metadata JSON.

    Raises UsageError, NoImages, MetadataError if a JSON cannot be read or written, and MissingSidecars if every
    sidecar had to be there.
    """
    start = time.monotonic()
    listener, stop = listener or NullListener(), CancelToken() if stop is None else stop
    _check(settings)
    source = FolderSource(directory, recursive=settings.paths.recursive, output_dir=settings.paths.output_dir)
    files = open_metadata(directory, settings)
    items = source.items()
    if source.skipped:
        listener.note(source.skipped)
    report = RunReport("merge", found=len(items), dry_run=settings.dry_run)
    purpose = AccessMode.DRY_RUN if settings.dry_run else AccessMode.ADD
    with catalogs_for(directory, settings.paths, CatalogAccess("merge", purpose, listener.note)) as catalogs:
        # Opened before the work begins: another run may be at work, or nothing can be written there.
        catalog = catalogs.of(settings.paths.output_dir or source.directory)
        files = recall_metadata(files, catalog)
        if not settings.dry_run:
            check_writable(real_path(files.output).parent, "Give -o FILE for another output")
        pictures = _read_images(items, settings, catalogs, listener, stop)
        if stop:
            report.remaining, report.stopped = report.found, stop.exit_code
        else:
            after = _merged(pictures, files, source.directory, settings, report, listener)
            if not settings.dry_run and after != (files.before or metadata.dump({})):
                report.seconds = time.monotonic() - start
                replace_metadata(files, after, catalog, settings, report)
    report.output = str(files.output) if files.output.exists() else None
    report.seconds = time.monotonic() - start
    report.check()
    return report


def _merged(
    pictures: list[Image],
    files: Files,
    directory: Path,
    settings: MergeSettings,
    report: RunReport,
    listener: Listener,
) -> bytes:
    """The bytes that the metadata JSON shall have; every image is counted."""
    _count_missing(pictures, settings, report)
    entries = _arrange(files.base, pictures, directory, settings, listener)
    changed = _fill(entries, pictures, files, settings, report)
    _note_replaced(files, entries, [image.item for image in pictures], settings.keys, listener)
    for image in pictures if settings.debug else ():
        listener.note(f"{image.item.rel}: {entries.get(metadata.key_of(image.item, settings.keys))}")
    report.remaining, report.written = (changed, 0) if settings.dry_run else (0, changed)
    return metadata.dump(entries)


def _check(settings: MergeSettings) -> None:
    """Raise UsageError for settings that cannot be followed."""
    same = settings.caption_extension == settings.tag_extension
    if same and set(TEXT_FIELDS) <= set(settings.fields):
        raise UsageError(
            f"captions and tags would both be read from {settings.tag_extension}; merge one of the two fields, "
            "or give another extension"
        )


def _read_images(
    items: list[ImageItem], settings: MergeSettings, catalogs: CatalogSession, listener: Listener, stop: CancelToken
) -> list[Image]:
    """All images, in order; fewer only if a stop came in between."""
    unkeyed = {**metadata.key_failures(items, settings.keys), **_collisions(items, settings)}
    pictures: list[Image] = []
    groups = iter([items[start : start + GROUP] for start in range(0, len(items), GROUP)])
    listener.start(len(items))
    stop.interruptible = True
    with ThreadPoolExecutor(THREADS) as pool:
        while not stop and (some := list(islice(groups, 2 * THREADS))):
            with starting_threads():
                read = pool.map(lambda group: _read_group(group, unkeyed, settings), some)
            for image in chain.from_iterable(read):
                empty = "" in image.texts.values()
                pictures.append(_recalled(image, catalogs, settings) if empty else image)
                listener.advance()
    stop.interruptible = False
    return pictures


def _collisions(items: list[ImageItem], settings: MergeSettings) -> dict[str, Failure]:
    """The images that share a wanted sidecar: nobody can say whose text it is."""
    extensions = _extensions(settings)
    wanted = [extension for name, extension in extensions.items() if name in settings.fields]
    naming = settings.paths.sidecar_name
    clashes = [clash for extension in wanted[:1] for clash in sidecar_collisions(items, extension, naming)]
    return {clash.item.rel: clash for clash in clashes}


def _read_group(group: list[ImageItem], unkeyed: dict[str, Failure], settings: MergeSettings) -> list[Image]:
    with Folders(group[0].target_folder) as folders:
        return [_read(item, unkeyed.get(item.rel), settings, folders) for item in group]


def _read(item: ImageItem, failure: Failure | None, settings: MergeSettings, folders: Folders) -> Image:
    extensions = _extensions(settings)
    texts: dict[str, str | None] = {}
    size = None
    for name in settings.fields:
        try:
            if name == "image_size":
                size = list(read_size(item))
            else:
                sidecar = sidecar_name(item.rel, extensions[name], settings.paths.sidecar_name)
                texts[name] = _read_stripped(sidecar, folders)
        except BaseException as error:  # noqa: BLE001 - what is no fault of the image is raised again
            failure = failure or failure_of(item, error)
    return Image(item, texts, size, failure)


def _read_stripped(sidecar: str, folders: Folders) -> str | None:
    place, _, name = sidecar.rpartition("/")
    try:
        folder = folders.find(place)
        text = None if folder is None else read_text(folder, name)
    except OSError as error:
        raise ImageError(FailureCode.UNREADABLE, f"{name}: {error.strerror or error}") from error
    return None if text is None else text.replace("\r\n", "\n").replace("\r", "\n").strip()


def _recalled(image: Image, catalogs: CatalogSession, settings: MergeSettings) -> Image:
    """An image with what a run wrote in its sidecars of 0 bytes, which a power cut or a full disk has left."""
    texts, target = dict(image.texts), image.item.target
    for name in [name for name, text in texts.items() if text == ""]:
        path = sidecar_path(target, _extensions(settings)[name], settings.paths.sidecar_name)
        if os.path.lexists(path) and path.lstat().st_size == 0:
            catalog = catalogs.of(target.parent)
            state = catalog.state_of(catalog.key(path))
            texts[name] = "" if state is None else state.text.strip()
    return replace(image, texts=texts)


def _extensions(settings: MergeSettings) -> dict[str, str]:
    return {"caption": settings.caption_extension, "tags": settings.tag_extension}


def _count_missing(pictures: list[Image], settings: MergeSettings, report: RunReport) -> None:
    """Name the images that lack a wanted sidecar. Raises MissingSidecars if there may be none."""
    report.missing_paths = [image.item.rel for image in pictures if image.lacks_some]
    report.missing = len(report.missing_paths)
    if report.missing and settings.missing == "error":
        names = ", ".join(report.missing_paths[:NAMES_SHOWN])
        more = f" and {report.missing - NAMES_SHOWN} more" if report.missing > NAMES_SHOWN else ""
        which = " or ".join(name for name in settings.fields if name in TEXT_FIELDS)
        raise MissingSidecars(f"{report.missing} of {report.found} images lack a {which} sidecar: {names}{more}")


def _arrange(
    base: Entries, pictures: list[Image], directory: Path, settings: MergeSettings, listener: Listener
) -> Entries:
    """The entries to start from under the wanted keys, those of vanished images dropped if that is asked for."""
    items = [image.item for image in pictures]
    sound = [image for image in pictures if image.failure is None]
    claims = metadata.find_claims(base, items, settings.keys, metadata.locator())
    entries, lost = metadata.rekey(base, (image.item for image in sound), claims, settings.keys)
    lossy = [image for image in sound if lost.get(image.item.rel, set()) - image.fields(settings.missing).keys()]
    inside = [key for key in claims.orphans if is_inside(directory / key, directory)]
    vanished = [key for key in inside if not _has_file(key, directory)]
    _note(listener, len(claims.shared), "{} fit several images by their key and stay as they are")
    _note(listener, len(lossy), "{} stood under several keys with different values; the most exact key won")
    if not settings.prune:
        _note(listener, len(vanished), "{} without an image; --prune drops them")
        return entries
    _note(listener, len(vanished), f"{'would prune' if settings.dry_run else 'pruned'} {{}} of vanished images")
    return metadata.drop(entries, vanished)


def _note_replaced(files: Files, entries: Entries, items: list[ImageItem], style: str, listener: Listener) -> None:
    """Say how many entries of the output are lost because the run started from another JSON."""
    if files.base is files.held or not files.held:
        return
    claims = metadata.find_claims(files.held, items, style, metadata.locator())
    safe = {key for item in items if metadata.key_of(item, style) in entries for key in claims.keys.get(item.rel, ())}
    lost = files.held.keys() - files.base.keys() - entries.keys() - safe
    _note(listener, len(lost), f"{{}} of {files.output.name} that the JSON to start from lacks are dropped")


def _note(listener: Listener, count: int, message: str) -> None:
    if count:
        listener.note(message.replace("{}", f"{count} {'entry' if count == 1 else 'entries'}", 1))


def _has_file(key: str, directory: Path) -> bool:
    """Whether the file that a key names is there, though this run did not look at it: a link, or a subfolder."""
    return any(_is_file(directory / (key + ending)) for ending in _endings(key))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _endings(key: str) -> Iterable[str]:
    if Path(key).suffix.lower() in IMAGE_SUFFIXES:
        return ("",)
    return ("", *IMAGE_SUFFIXES, *(suffix.upper() for suffix in IMAGE_SUFFIXES))


def _fill(entries: Entries, pictures: list[Image], files: Files, settings: MergeSettings, report: RunReport) -> int:
    """Put what lies on disk into the entries, count every image, and return how many entries differ for it."""
    changed = 0
    for image in pictures:
        if image.failure is not None:
            report.fail(image.failure)
            continue
        key = metadata.key_of(image.item, settings.keys)
        textless = image.lacks_all and settings.missing == "skip"
        if textless and key not in entries:
            report.keep(image.item.rel)
            continue
        entries[key] = {**entries.get(key, {}), **image.fields(settings.missing)}
        if textless and entries[key] == files.base.get(key):
            report.keep(image.item.rel)
        elif entries[key] == files.held.get(key):
            report.current += 1
        else:
            changed += 1
    return changed
