"""Results into the catalog, texts into sidecars, and every image into one count."""

from __future__ import annotations

import stat
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sdprep.catalog.catalog import Catalog, RunInfo
from sdprep.catalog.journal import Change, record_existing
from sdprep.catalog.results import decode_caption
from sdprep.folders import SIDECAR_LIMIT, read_below
from sdprep.report import Listener, RunReport
from sdprep.rules.labels import merge_spellings
from sdprep.rules.mixed_text import MixedText, normalize
from sdprep.rules.policy import Action, SidecarState, why_kept
from sdprep.tasks.annotation.compose import adopted_state, equals_stored_result, text_for, text_on_disk
from sdprep.tasks.annotation.job import Job, PlannedImage, result_digest
from sdprep.tasks.changes import apply_changes
from sdprep.texts.sidecar import find_warning, sidecar_name
from sdprep.types import Failure, FailureCode, ImageItem, ImageWarning, KeptReason, Result

# Texts and results are committed together after this many images or seconds: a crash costs no more than that.
COMMIT_IMAGES = 128
COMMIT_SECONDS = 2.0
# Failures that need not happen on another machine or with another model: they are not remembered.
NOT_REMEMBERED = frozenset(
    {
        FailureCode.NONFINITE,
        FailureCode.OUT_OF_MEMORY,
        FailureCode.REFUSED,
        FailureCode.EMPTY_ANSWER,
        FailureCode.MALFORMED,
        FailureCode.REQUEST_FAILED,
    }
)

# The values of `existing` that add to a text.
ADDING = ("append", "prepend")


class Writer:
    """Takes the outcome of every image, in any order, and writes in small groups; the listener gets every text."""

    def __init__(self, report: RunReport, info: RunInfo, listener: Listener) -> None:
        self._report, self._info, self._listener = report, info, listener
        self._ready: list[PlannedImage] = []
        # Those of them whose result is not in the catalog yet.
        self._new: set[ImageItem] = set()
        # Results of single models of several, which become no text yet.
        self._kept: list[PlannedImage] = []
        self._committed = time.monotonic()
        self._tags = Counter[str]()

    def add_result(self, image: PlannedImage, result: Result) -> None:
        """Take an image with its new result; one that is paid for is stored now, and its sidecar with others."""
        disk = replace(image.disk, digest=result.digest)
        image = replace(image, disk=disk, result=result.data, warnings=result.warnings)
        if image.job.is_paid:
            with image.catalog.transaction():
                _store(image.catalog, [image])
            self._count_served(result.data)
        else:
            self._new.add(image.item)
        self.add(image)

    def _count_served(self, data: bytes) -> None:
        caption, served = decode_caption(data), self._report.served
        for each in (caption, *caption.others):
            if each.served is not None and (name := str(each.served)):
                served[name] = served.get(name, 0) + 1

    def keep(self, image: PlannedImage, job: Job, result: Result) -> PlannedImage:
        """Store the result that one model of several has for an image, by the job of that model alone."""
        disk = replace(image.disk, digest=result.digest)
        kept = replace(image, job=job, disk=disk, result=result.data, warnings=result.warnings)
        self._kept.append(kept)
        self._commit_if_due()
        return kept

    def add(self, image: PlannedImage) -> None:
        """Take an image whose result is known."""
        warning = None if image.result is None else image.job.reader.warning(image.result)
        for each in (*image.warnings, *([] if warning is None else [warning])):
            self._report.flag(image.item.rel, each)
        self._take(image)

    def add_failure(self, image: PlannedImage, failure: Failure) -> None:
        """Take an image without a result; a fault of its file is remembered until the file changes."""
        self._report.fail(failure)
        if failure.digest is None or failure.code in NOT_REMEMBERED:
            return
        catalog = image.catalog
        with catalog.transaction():
            catalog.remember_image(catalog.key(image.item.target), image.stamp, failure.digest)
            catalog.remember_failure(failure.digest, image.job.decoder, failure.code.value, failure.message)

    def leave(self, image: PlannedImage) -> None:
        """Take an image whose sidecar stays as it is: up to date, or kept."""
        is_current = _is_current(image)
        if is_current and not self._report.dry_run and _adopted(image) is not None:
            self._take(image)
        else:
            self._count_left(image, is_current)

    def _take(self, image: PlannedImage) -> None:
        self._ready.append(image)
        self._commit_if_due()

    def _commit_if_due(self) -> None:
        if len(self._ready) + len(self._kept) >= COMMIT_IMAGES or time.monotonic() - self._committed > COMMIT_SECONDS:
            self.commit()

    def preview(self, image: PlannedImage) -> None:
        """Take an image of a dry run whose sidecar would be written."""
        self._report.remaining += 1
        if image.result is not None:
            self._note_text(image, None, text_for(image)[1].content)

    def count_tags(self) -> None:
        """Report how often each tag occurs in the sidecars of all images so far, if that was asked for."""
        if self._tags:
            self._report.tag_counts = merge_spellings(self._tags)

    def _note_text(self, image: PlannedImage, data: bytes | None, content: MixedText) -> None:
        """Note the tags of a sidecar as it stays, and what a trainer cannot read in its bytes."""
        job = image.job
        if job.counts_tags:
            self._tags.update(content.tags)
        warning = None if data is None else find_warning(data)
        # Lines that a run was asked for, or that it left as they were, need no warning.
        if warning is not None and (warning is not ImageWarning.SEVERAL_LINES or job.request.existing in ADDING):
            self._report.flag(sidecar_name(image.item.rel, job.extension, job.naming), warning)

    def _count_left(self, image: PlannedImage, is_current: bool) -> None:
        report, decision = self._report, image.decision
        self._note_text(image, image.before, text_on_disk(image.disk))
        if is_current:
            report.current += 1
            report.other_settings += decision.other_settings
            report.stale += [image.item.rel] if decision.is_stale else []
            return
        report.keep(image.item.rel, why_kept(image.disk, image.job.request.task))
        if decision.image_changed:
            report.image_changed.append(image.item.rel)

    def commit(self) -> None:
        """Write what was taken, one catalog and one input after the other."""
        kept, self._kept = self._kept, []
        for catalog in {id(image.catalog): image.catalog for image in kept}.values():
            with catalog.transaction():
                _store(catalog, [image for image in kept if image.catalog is catalog])
        ready, self._ready = self._without_lost_folders(), []
        groups: dict[tuple[int, Path], list[PlannedImage]] = {}
        for image in ready:
            groups.setdefault((id(image.catalog), image.item.target_folder), []).append(image)
        for group in groups.values():
            self._commit_to(group[0].catalog, group)
        self._new.clear()
        self._committed = time.monotonic()

    def _without_lost_folders(self) -> list[PlannedImage]:
        """What was taken, except images whose folder is gone: it is not created again for their sidecars."""
        folders = {image.item.path.parent for image in self._ready}
        lost = {folder: reason for folder in folders if (reason := _why_lost(folder)) is not None}
        for image in self._ready if lost else ():
            if (reason := lost.get(image.item.path.parent)) is not None:
                self.add_failure(image, Failure(image.item, FailureCode.UNREADABLE, reason))
        return [image for image in self._ready if image.item.path.parent not in lost]

    def _commit_to(self, catalog: Catalog, ready: list[PlannedImage]) -> None:
        images: dict[Path, PlannedImage] = {}
        root = ready[0].item.target_folder

        def prepare() -> list[Change]:
            changes = []
            catalog.begin_run(self._info)
            _store(catalog, [image for image in ready if image.item in self._new])
            for image in ready:
                change = self._change_of(image)
                if change is not None:
                    changes.append(change)
                    images[change.path] = image
            return changes

        made = apply_changes(
            catalog,
            self._info,
            prepare,
            root,
            self._report,
            on_conflict=lambda change: self._count_conflict(images[change.path].item.rel, change, root),
            name=lambda change: images[change.path].item.rel,
        )
        for change in made:
            image = images[change.path]
            if isinstance(change.state, SidecarState):
                self._note_text(image, change.after, change.state.content)
            self._listener.note(f"{image.item.rel}: {normalize((change.after or b'').decode())}")

    def _count_conflict(self, rel: str, change: Change, root: Path) -> None:
        """Another run may have written the very same text meanwhile."""
        try:
            same = read_below(root, change.path, SIDECAR_LIMIT) == change.after
        except OSError:
            # It was another file a moment ago, and cannot be read now.
            same = False
        if same:
            self._report.current += 1
        else:
            self._report.keep(rel, KeptReason.CHANGED_MEANWHILE)

    def _change_of(self, image: PlannedImage) -> Change | None:
        """The change that a result asks for; None, and counted, if the sidecar stays as it is."""
        sidecar = image.job.sidecar(image.item)
        if image.leaves_sidecar:
            is_current = _is_current(image)
            self._count_left(image, is_current)
            adopted = _adopted(image) if is_current else None
            if adopted is not None:
                record_existing(image.catalog, sidecar, adopted)
            return None
        after, state = text_for(image)
        if state.task == "tag" and not state.content.text.strip():
            self._report.flag(image.item.rel, ImageWarning.NO_TAGS)
        disk = image.disk
        if not image.before or disk.text is None or normalize(disk.text) != state.text:
            return Change(sidecar, image.before, after, state)
        # What another task knows of its own text is not forgotten for a text of the user's.
        if state.origin != "user" or disk.state is None or disk.state.task == state.task:
            record_existing(image.catalog, sidecar, state)
        self._note_text(image, image.before, state.content)
        if state.origin == "user":
            self._report.keep(image.item.rel, KeptReason.NOTHING_TO_ADD)
        else:
            self._report.current += 1
        return None


def _is_current(image: PlannedImage) -> bool:
    return image.decision.action is Action.CURRENT or equals_stored_result(image)


def _adopted(image: PlannedImage) -> SidecarState | None:
    """The state under which an up-to-date sidecar counts as sdprep's from now on; None if it does already."""
    return None if image.decision.action is Action.CURRENT else adopted_state(image)


def _store(catalog: Catalog, images: Sequence[PlannedImage]) -> None:
    """Store new results under the keys of their jobs."""
    numbers: dict[tuple[int, bool], int] = {}
    for image in images:
        job, digest, is_truncated = image.job, image.disk.digest, ImageWarning.TRUNCATED in image.warnings
        if job.result_key is None or digest is None or image.result is None:
            continue
        if (id(job), is_truncated) not in numbers:
            key = job.truncated_key if is_truncated else job.result_key
            numbers[id(job), is_truncated] = catalog.recipe_id(key)
        stored = result_digest(digest, job.prompts, image.item.prompt)
        catalog.store_result(stored, numbers[id(job), is_truncated], image.result)
        catalog.remember_image(catalog.key(image.item.target), image.stamp, digest)


def _why_lost(folder: Path) -> str | None:
    """Why nothing can be written in the folder of an image, although an image was found there; None if it can."""
    try:
        return None if stat.S_ISDIR(folder.stat().st_mode) else "its folder was deleted meanwhile"
    except (FileNotFoundError, NotADirectoryError):
        return "its folder was deleted meanwhile"
    except OSError as error:
        return f"its folder cannot be reached: {error.strerror}"
