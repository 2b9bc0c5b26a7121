"""A plan of changes of sidecars, which a command shows first and then makes exactly as shown, through the journal."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from sdprep.catalog.catalog import Catalog, RunInfo
from sdprep.catalog.journal import Change
from sdprep.catalog.session import AccessMode, CatalogAccess, CatalogSession
from sdprep.errors import NoSidecars
from sdprep.report import CancelToken, Listener, NullListener, RunReport
from sdprep.rules.policy import SidecarState
from sdprep.tasks.annotation.moves import recognise
from sdprep.tasks.changes import apply_changes
from sdprep.tasks.run_info import run_info
from sdprep.tasks.texts.records import ImageRecord, Records
from sdprep.tasks.texts.sidecars import Sidecar, collisions
from sdprep.texts.sidecar import decode_text, encode_like, encode_text
from sdprep.types import Failure, ImageItem, KeptReason

# Files that are committed together; a stop is checked between two groups.
GROUP = 128
# The kinds of sidecars in words and commands.
WORDS = {"tags": "tag", "caption": "caption"}


@dataclass(frozen=True, slots=True)
class TextChange:
    """A text as it is shown: its name, and what it is before (None: no file) and after."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class PlannedChange:
    """A file of an image, its bytes now and after the change (None: no file), and its new state (None: as it is)."""

    item: ImageItem
    path: Path
    before: bytes | None
    after: bytes | None
    state: SidecarState | int | None = field(default=None, compare=False, kw_only=True)

    def shown(self) -> Iterator[TextChange]:
        """The texts that change."""
        folder = self.item.rel.rpartition("/")[0]
        before = None if self.before is None else decode_text(self.before)
        yield TextChange(
            f"{folder}/{self.path.name}".lstrip("/"), before, None if self.after is None else decode_text(self.after)
        )


@dataclass(slots=True)
class Plan:
    """The sidecars that a command would change, and what becomes of the others that it chose.

    `catalogs` are those with which it was made. `missing` names images whose sidecar is not there, which stay without,
    and `kept` those whose sidecar stays as it is, with the reason. `settings` are stored with the run, and `stated` has
    those of them that the log shows, by option.
    """

    command: str
    catalogs: CatalogSession
    settings: Mapping[str, Any]
    stated: Mapping[str, Any] = field(default_factory=dict)
    changes: list[PlannedChange] = field(default_factory=list)
    unchanged: int = 0
    missing: list[str] = field(default_factory=list)
    kept: list[tuple[str, KeptReason]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def add(self, change: PlannedChange) -> None:
        """Take a sidecar with the bytes that it is to have, which may be those that it has."""
        if change.before == change.after:
            self.unchanged += 1
        else:
            self.changes.append(change)

    def edit(self, sidecar: Sidecar, text: str) -> None:
        """Take a sidecar with the text that it is to have, in the encoding that it has."""
        before = sidecar.data or b""
        # The text of a file that was emptied comes from the catalog.
        after = encode_like(before, text) if before else encode_text(text)
        self.add(PlannedChange(sidecar.item, sidecar.path, sidecar.data, before if text == sidecar.text else after))

    def take(self, records: Records, kinds: Sequence[str]) -> Iterator[tuple[str, ImageRecord, Sidecar]]:
        """The sidecars of these kinds that can be edited, with their kind and image; the plan names the others.

        An image is missing if it has none of them.
        """
        shared = {kind: collisions(records.items, records.names_of, kind) for kind in kinds}
        for each in records.select():
            is_missing = True
            for kind in kinds:
                sidecar = each.tags if kind == "tags" else each.caption
                failure = shared[kind].get(each.item.rel) or (sidecar and sidecar.failure)
                if failure:
                    self.failures.append(failure)
                elif sidecar and (sidecar.data or sidecar.text):
                    yield kind, each, sidecar
                else:
                    continue
                is_missing = False
            self.missing += [each.item.rel] if is_missing else []

    def check_found(self, records: Records, kinds: Sequence[str]) -> None:
        """Raise NoSidecars if no image has a sidecar of these kinds."""
        if not self.missing or self.changes or self.unchanged or self.failures:
            return
        item = next(item for item in records.items if item.rel == self.missing[0])
        names = " or ".join(f"{WORDS[kind]} file ({records.names_of(item).name(item.rel, kind)})" for kind in kinds)
        commands = " and ".join(f"sdprep {WORDS[kind]}" for kind in kinds)
        options = " and ".join(f"--{WORDS[kind]}-extension" for kind in kinds)
        write, name = ("writes", "names") if len(kinds) == 1 else ("write", "name")
        raise NoSidecars(
            f"none of the {len(self.missing)} images has a {names}; {commands} {write} them, and {options} {name} "
            "another extension"
        )

    def report(self, *, dry_run: bool = False) -> RunReport:
        """A report in which only the changes have no outcome yet; that of a dry run lists them with their texts."""
        report = RunReport(self.command, current=self.unchanged, dry_run=dry_run, missing=len(self.missing))
        others = len(self.missing) + len(self.kept) + len(self.failures)
        report.found = len(self.changes) + self.unchanged + others
        for failure in self.failures:
            report.fail(failure)
        for rel in self.missing:
            report.keep(rel)
        report.missing_paths = list(self.missing)
        for rel, reason in self.kept:
            report.keep(rel, reason)
        if dry_run:
            report.remaining = len(self.changes)
            report.planned = [_as_planned(change) for change in self.changes]
        return report


def _as_planned(change: PlannedChange) -> dict[str, str]:
    before, after = decode_text(change.before or b""), decode_text(change.after or b"")
    return {"path": change.item.rel, "change": "write", "before": before or "", "after": after or ""}


def apply(plan: Plan, *, listener: Listener | None = None, stop: CancelToken | None = None) -> RunReport:
    """Make the changes of a plan in one run, which can be undone; without changes there is no run.

    A file that has changed since the plan was made is left as it is and named. The catalog's record of who wrote what
    stays: a text that differs from it is the user's, and a tag that is in it alone is one that the user removed.

    Raises FolderInUse if another run is at work, and WriteError if no file can be written.
    """
    stop = CancelToken() if stop is None else stop
    report = plan.report()
    try:
        _apply(plan, report, listener or NullListener(), stop)
    except KeyboardInterrupt as interrupt:
        interrupt.args = (report.kept_so_far,)
        raise
    report.check()
    return report


def _apply(plan: Plan, report: RunReport, listener: Listener, stop: CancelToken) -> None:
    began = time.monotonic()
    info = run_info(plan.command, dict(plan.settings), None, stated=dict(plan.stated))
    access = CatalogAccess(plan.command, AccessMode.ADD, listener.note)
    with plan.catalogs.anew(access) as catalogs:
        # All locks before the first change.
        of_folder = {folder: catalogs.of(folder) for folder in {change.path.parent for change in plan.changes}}
        stop.interruptible = True
        recognise(catalogs, [change.item for change in plan.changes], stop)
        listener.stage("writing", len(plan.changes), "files")
        queue = _groups(plan.changes, of_folder)
        for catalog, root, group in queue:
            if stop:
                report.remaining += len(group)
                continue
            _apply_group(catalog, root, group, info, report)
            listener.advance(len(group))
        stop.interruptible = False
        report.run = info.uid if plan.changes else None
        report.stopped, report.seconds = stop.exit_code, time.monotonic() - began
        _end_run(catalogs, info, report)


def _groups(
    changes: Sequence[PlannedChange], of_folder: Mapping[Path, Catalog]
) -> Iterator[tuple[Catalog, Path, list[PlannedChange]]]:
    """The changes in groups, each of one catalog and below one folder."""

    def place(change: PlannedChange) -> tuple[int, Path]:
        return id(of_folder[change.path.parent]), change.item.target_folder

    for (_, root), some in groupby(changes, place):
        while group := list(islice(some, GROUP)):
            yield of_folder[group[0].path.parent], root, group


def _apply_group(
    catalog: Catalog, root: Path, group: Sequence[PlannedChange], info: RunInfo, report: RunReport
) -> None:
    names = {change.path: change.item.rel for change in group}
    apply_changes(
        catalog,
        info,
        # The state is read with the intent: it may have changed since the plan was made.
        lambda: [_change(catalog, each) for each in group],
        root,
        report,
        on_conflict=lambda change: report.keep(names[change.path], KeptReason.CHANGED_MEANWHILE),
        name=lambda change: names[change.path],
    )


def _change(catalog: Catalog, planned: PlannedChange) -> Change:
    state = planned.state or catalog.state_id_of(catalog.key(planned.path))
    return Change(planned.path, planned.before, planned.after, None if planned.after is None else state)


def _end_run(catalogs: CatalogSession, info: RunInfo, report: RunReport) -> None:
    for catalog in catalogs:
        with catalog.transaction():
            catalog.end_run(info.uid, report.as_dict())
