"""The end of the line: results into the catalog, texts into sidecars, and every image into one count."""

from __future__ import annotations

import stat
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sdprep.catalog.catalog import Catalog, RunInfo
from sdprep.catalog.journal import Change, record_existing
from sdprep.folders import SIDECAR_LIMIT, read_below
from sdprep.report import Listener, RunReport
from sdprep.rules.mixed_text import normalize
from sdprep.rules.policy import Action, SidecarState
from sdprep.tasks.annotation.compose import adopted_state, is_what_would_be_written, text_for
from sdprep.tasks.annotation.planner import Job, PlannedImage
from sdprep.tasks.changes import apply_changes
from sdprep.types import Failure, FailureCode, ImageItem, ImageWarning

# Texts and results are committed together after this many images or seconds: a crash costs no more than that.
COMMIT_IMAGES = 128
COMMIT_SECONDS = 2.0
# Failures that another run, on another machine or with another model, need not meet again: they are not remembered.
NO_FAULT_OF_THE_FILE = (FailureCode.NONFINITE, FailureCode.OUT_OF_MEMORY)


class Writer:
    """Takes the outcome of every image, in any order, and writes in small groups; the listener hears every text."""

    def __init__(self, report: RunReport, info: RunInfo, job: Job, listener: Listener) -> None:
        self.job = job
        self._report, self._info, self._listener = report, info, listener
        self._ready: list[PlannedImage] = []
        # Those in hand whose result is not in the catalog yet.
        self._new: set[ImageItem] = set()
        self._committed = time.monotonic()

    def add(self, target: PlannedImage, digest: bytes, result: bytes, remarks: tuple[ImageWarning, ...]) -> None:
        """An image that the model was shown, and what a person should know of it."""
        self._new.add(target.item)
        self.rewrite(replace(target, disk=replace(target.disk, digest=digest), result=result, remarks=remarks))

    def rewrite(self, target: PlannedImage) -> None:
        """An image whose result is known."""
        remark = None if target.result is None else self.job.remark(target.result)
        for reason in [*(each.value for each in target.remarks), *([remark] if remark else [])]:
            self._report.flagged.append({"path": target.item.rel, "reason": reason})
        self._take(target)

    def _take(self, target: PlannedImage) -> None:
        self._ready.append(target)
        if len(self._ready) >= COMMIT_IMAGES or time.monotonic() - self._committed > COMMIT_SECONDS:
            self.commit()

    def fail(self, target: PlannedImage, failure: Failure) -> None:
        """An image that has no result; what is wrong with its file is remembered until the file changes."""
        self._report.fail(failure)
        if failure.digest is None or failure.code in NO_FAULT_OF_THE_FILE:
            return
        catalog = target.catalog
        with catalog.transaction():
            catalog.remember_image(catalog.key(target.item.target), target.stamp, failure.digest)
            catalog.remember_failure(failure.digest, self.job.decoder, failure.code.value, failure.message)

    def settle(self, target: PlannedImage) -> None:
        """An image whose sidecar stays as it is: current, or kept."""
        is_current = self._is_current(target)
        if is_current and not self._report.dry_run and self._adopted(target) is not None:
            self._take(target)
        else:
            self._count_settled(target, is_current)

    def _is_current(self, target: PlannedImage) -> bool:
        return target.decision.action is Action.CURRENT or is_what_would_be_written(target, self.job)

    def _adopted(self, target: PlannedImage) -> SidecarState | None:
        """The state under which a sidecar that is current counts as sdprep's from now on; None if it does already."""
        return None if target.decision.action is Action.CURRENT else adopted_state(target, self.job)

    def _count_settled(self, target: PlannedImage, is_current: bool) -> None:
        report, decision = self._report, target.decision
        if is_current:
            report.current += 1
            report.other_settings += decision.other_settings
            return
        report.keep(target.item.rel)
        if decision.image_changed:
            report.image_changed.append(target.item.rel)

    def commit(self) -> None:
        """Write what is in hand, one catalog after the other."""
        ready, self._ready = self._present(), []
        for catalog in {id(target.catalog): target.catalog for target in ready}.values():
            self._commit_to(catalog, [target for target in ready if target.catalog is catalog])
        self._new.clear()
        self._committed = time.monotonic()

    def _present(self) -> list[PlannedImage]:
        """What is in hand, but for images whose folder is gone: it is not made again for their sidecars."""
        folders = {target.item.path.parent for target in self._ready}
        gone = {folder: reason for folder in folders if (reason := _why_gone(folder)) is not None}
        for target in self._ready if gone else ():
            if (reason := gone.get(target.item.path.parent)) is not None:
                self.fail(target, Failure(target.item, FailureCode.UNREADABLE, reason))
        return [target for target in self._ready if target.item.path.parent not in gone]

    def _commit_to(self, catalog: Catalog, ready: list[PlannedImage]) -> None:
        names: dict[Path, str] = {}
        root = ready[0].item.target_folder

        def store_and_plan() -> list[Change]:
            changes = []
            catalog.begin_run(self._info)
            self._store(catalog, [target for target in ready if target.item in self._new])
            for target in ready:
                change = self._change_of(target)
                if change is not None:
                    changes.append(change)
                    names[change.path] = target.item.rel
            return changes

        made = apply_changes(
            catalog,
            self._info,
            store_and_plan,
            root,
            self._report,
            on_conflict=lambda change: self._count_conflict(names[change.path], change, root),
            name=lambda change: names[change.path],
        )
        for change in made:
            self._listener.note(f"{names[change.path]}: {normalize((change.after or b'').decode())}")

    def _count_conflict(self, rel: str, change: Change, root: Path) -> None:
        """Another run may have written the very same text meanwhile."""
        try:
            same = read_below(root, change.path, SIDECAR_LIMIT) == change.after
        except OSError:
            # It was another file a moment ago, and cannot be looked at now.
            same = False
        if same:
            self._report.current += 1
        else:
            self._report.keep(rel)

    def _store(self, catalog: Catalog, targets: Sequence[PlannedImage]) -> None:
        whole = self.job.result_key
        if whole is None:
            return
        numbers: dict[bool, int] = {}
        for target in targets:
            digest, incomplete = target.disk.digest, ImageWarning.INCOMPLETE in target.remarks
            if incomplete not in numbers:
                numbers[incomplete] = catalog.recipe_id(self.job.incomplete_key if incomplete else whole)
            if digest is not None and target.result is not None:
                catalog.store_result(digest, numbers[incomplete], target.result)
                catalog.remember_image(catalog.key(target.item.target), target.stamp, digest)

    def _change_of(self, target: PlannedImage) -> Change | None:
        """The change that a result asks for; None, and counted, where the sidecar stays as it is."""
        if target.settled:
            is_current = self._is_current(target)
            self._count_settled(target, is_current)
            adopted = self._adopted(target) if is_current else None
            if adopted is not None:
                record_existing(target.catalog, self.job.sidecar(target.item), adopted)
            return None
        after, state = text_for(target, self.job)
        disk = target.disk
        if disk.text is None or normalize(disk.text) != state.text:
            return Change(self.job.sidecar(target.item), target.before, after, state)
        # What another task knows of its own text is not forgotten for a text of the user's.
        if state.origin != "user" or disk.state is None or disk.state.task == state.task:
            record_existing(target.catalog, self.job.sidecar(target.item), state)
        if state.origin == "user":
            self._report.keep(target.item.rel)
        else:
            self._report.current += 1
        return None


def _why_gone(folder: Path) -> str | None:
    """Why nothing can be written in the folder of an image, although an image was found there; None if it can."""
    try:
        return None if stat.S_ISDIR(folder.stat().st_mode) else "its folder was deleted meanwhile"
    except (FileNotFoundError, NotADirectoryError):
        return "its folder was deleted meanwhile"
    except OSError as error:
        return f"its folder cannot be reached: {error.strerror}"
