"""`sdprep review`: one session over the images of a folder; no HTTP, and nothing is printed."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sdprep.catalog.history import SESSION
from sdprep.catalog.schema import FOLDER
from sdprep.catalog.session import AccessMode, CatalogAccess, CatalogSession
from sdprep.config import MergeSettings
from sdprep.errors import UsageError
from sdprep.files import real_path
from sdprep.folders import write_obstacle
from sdprep.images.decode import read_upright_size
from sdprep.images.source import ImageSource
from sdprep.report import CancelToken, Listener, NullListener, RunReport
from sdprep.rules.edits.operations import Field, Operation
from sdprep.rules.labels import normalize_tag
from sdprep.rules.where.parse import parse
from sdprep.tasks.annotation.moves import recognise
from sdprep.tasks.history.undo import undo
from sdprep.tasks.review.approval import add_approval
from sdprep.tasks.review.index import Index, Named
from sdprep.tasks.review.marks import add_moves, marks, relocate, set_stars
from sdprep.tasks.review.rows import as_in, rows, sample, shown, text_hash
from sdprep.tasks.review.session import Progress, Session, SessionRun, WaitingPlan, outcome
from sdprep.tasks.review.suggest import read_tag_list, suggestions
from sdprep.tasks.review.training import crop, findings
from sdprep.tasks.review.visit import KeptCatalogs
from sdprep.tasks.review.watch import Watched
from sdprep.tasks.run_info import fixed_catalog, image_source, new_id, package_versions
from sdprep.tasks.settings import Cascade, Layers
from sdprep.tasks.texts.edit import checked, plan_operations, stated_by
from sdprep.tasks.texts.plan import Plan, PlannedChange, apply
from sdprep.tasks.texts.records import matching, names_of

COMMAND = "review"
# Tags whose counts are shown, and files of a plan.
MOST_COUNTED, MOST_SAMPLES = 200, 12
# The exit code of a run that was stopped.
STOPPED = 130


class Conflict(Exception):  # noqa: N818 - it is what the page is told, and no error of sdprep
    """A sidecar is not what the page has shown; nothing was written. Its text is what an operation would give now."""


class Gone(Exception):  # noqa: N818 - as Conflict
    """A plan is no longer kept: it was applied, or others came after it."""


class Review:
    """A session of looking at images and changing their sidecars; every change is a run, all with the session's id.

    Methods may be called by several threads, each of which ends with `close`.
    """

    def __init__(
        self,
        source: ImageSource,
        settings: MergeSettings,
        layers: Layers = Layers(),
        tag_list: Path | None = None,
        listener: Listener | None = None,
    ) -> None:
        self.folder, self.settings, self._source = source.directory, settings, source
        self._listener = listener or NullListener()
        self.note = self._listener.note
        self.session = new_id(time.time())
        self._own = threading.local()
        self._session = Session(self.session)
        # The last filter, the state of the index then, and the numbers of the images that matched.
        self._viewed: tuple[str, int, list[int]] = "", -1, []
        self._viewing = threading.Lock()
        self._tag_list = [] if tag_list is None else read_tag_list(tag_list)
        self.progress, self._halt = Progress(), CancelToken()
        self.index = self._open(layers)
        self._watched = Watched(self.index, self.session)
        self._target = self.index.items[0].target_folder
        self.is_read_only = write_obstacle(self._target, self._target) is not None
        self._stop = CancelToken()

    def _open(self, layers: Layers) -> Index:
        """List the images and how their sidecars are named."""
        items = self._source.items()
        if self._source.skipped:
            self._listener.note(self._source.skipped)
        with self._reading() as catalogs:
            recognise(catalogs, items, CancelToken())
            cascade = Cascade("merge", self.settings, layers, catalogs, self._source.places, self.note)
            items = matching(items, self.settings.paths.where, cascade, catalogs, self._listener, CancelToken())
            named = names_of(cascade)
            # Beside the catalog, or where it would be.
            fixed = fixed_catalog(self.settings.paths)
            self.root = catalogs.of(items[0].target_folder).root
            self.store = self.root / FOLDER if fixed is None else fixed.parent
            self.names = named(items[0])
            others = {item.rel: name for item in items if (name := named(item)) != self.names}
        return Index(items, Named(self.names, others))

    # Catalogs

    def _access(self, mode: AccessMode) -> CatalogAccess:
        return CatalogAccess(COMMAND, mode, self.note)

    def _catalogs(self, mode: AccessMode) -> KeptCatalogs:
        """The catalogs of this thread for a mode."""
        kept: dict[AccessMode, KeptCatalogs] = self._own.__dict__.setdefault("kept", {})
        if mode not in kept:
            kept[mode] = KeptCatalogs(self._source.homes, self._access(mode), fixed_catalog(self.settings.paths))
        return kept[mode]

    @contextmanager
    def _reading(self) -> Iterator[CatalogSession]:
        with self._catalogs(AccessMode.DRY_RUN) as catalogs:
            yield catalogs

    def close(self) -> None:
        """End what this thread has opened."""
        for catalogs in self._own.__dict__.pop("kept", {}).values():
            catalogs.close()

    # Looking

    def load(self) -> None:
        """Read all images; it ends early when the review does."""
        with self._reading() as catalogs:
            self.index.load(catalogs, self._stop)
        # The first edit need not wait for that.
        package_versions()

    def end(self) -> None:
        """Have what is being read or written end, after the files in hand."""
        self._stop.exit_code = 0
        self.stop()

    def about(self) -> dict[str, Any]:
        """What the page has to know of the folder."""
        return {
            "name": self.folder.name,
            "found": len(self.index.items),
            "read": self.index.read,
            "is_reading": self.index.is_reading,
            "is_read_only": self.is_read_only,
            "tag_extension": self.names.tags,
            "caption_extension": self.names.caption,
            "session": self.session,
            "state": self.index.state,
        }

    def read_for(self, where: str) -> bool:
        """Read what a filter asks about of some more images; whether all is read. Raises WhereError."""
        with self._viewing, self._reading() as catalogs:
            return self.index.read_for(parse(where) if where.strip() else None, catalogs)

    def view(self, where: str = "") -> list[int]:
        """The numbers of the images that match a filter. Raises WhereError."""
        while not self.read_for(where):
            pass
        with self._viewing:
            known, state, numbers = self._viewed
            if (known, state) != (where, self.index.state):
                state, numbers = self.index.state, self.index.view(parse(where) if where.strip() else None)
                self._viewed = where, state, numbers
            return numbers

    def view_with_rows(self, where: str, near: int, count: int) -> tuple[list[int], list[dict[str, Any]]]:
        """A view, with so many rows before and after the image `near`; the first ones if that does not match."""
        numbers = self.view(where)
        place = bisect_left(numbers, near)
        if place == len(numbers) or numbers[place] != near:
            place = 0
        return numbers, self.rows(numbers[max(0, place - count) : place + count])

    def rows(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """What the page shows of images, as it is on disk now."""
        with self._reading() as catalogs:
            self._watched.show(numbers)
            return rows(self.index, numbers, catalogs)

    def counts(self, where: str, numbers: Sequence[int] | None, stop: CancelToken) -> dict[str, Any]:
        """How many of the images that match a filter, or of these, have each tag; the most frequent first.

        With a stop it ends early, and the answer is incomplete.
        """
        if numbers is None and where.strip():
            numbers = self.view(where)
        counts = self.index.counts() if numbers is None else self.index.counts_of(numbers, stop)
        of = len(self.index.items) if numbers is None else len(numbers)
        most, spelled = counts.most_common(MOST_COUNTED), self.index.spellings.of
        return {"of": of, "counts": [[spelled(tag), count] for tag, count in most]}

    def suggest(self, query: str) -> list[dict[str, Any]]:
        """Tags for what was typed so far."""
        found = suggestions(query, self.index.counts(), self._tag_list)
        return [{**each, "tag": self.index.spellings.of(normalize_tag(each["tag"]))} for each in found]

    def changes(self, since: int) -> dict[str, Any]:
        """The images whose captions and tags have changed since a state, by this session or by anything else."""
        with self._reading() as catalogs:
            self._watched.look(catalogs)
        return {"state": self.index.state, "numbers": self.index.changed_since(since)}

    # Changing

    def write(self, number: int, kind: str, text: str, expected: Collection[str]) -> dict[str, Any]:
        """Replace the caption or the tags of an image as one run; the answer has its id, or None if nothing changes.

        Raises Conflict if the file is none of those that are `expected`, and FolderInUse if another run is at work.
        """
        with self._reading() as catalogs:
            [image] = self.index.reading([number], catalogs)
        sidecar = image.tags if kind == "tags" else image.caption
        if sidecar is None or text_hash(sidecar.data) not in expected or sidecar.failure is not None:
            raise Conflict
        plan = self._plan({"path": image.item.rel, "kind": kind})
        if sidecar.data is not None or text.strip():
            plan.edit(sidecar, as_in(sidecar.text or "", text) or "\n")
        return self._write(WaitingPlan(plan, f"{kind} {image.item.rel}", [number]), number)

    def edit(self, number: int, kind: Field, operation: Operation, expected: Collection[str]) -> dict[str, Any]:
        """Do an operation on the caption or tags of an image at once; answers and raises as `write`.

        Raises UsageError for a value that the operation does not take, and for a file that cannot be edited.
        """
        waiting = self._planned([number], kind, operation)
        for failure in waiting.plan.failures:
            raise UsageError(failure.message)
        for change in waiting.plan.changes:
            if text_hash(change.before) not in expected:
                raise _conflict(change)
        return self._write(waiting, number)

    def _write(self, waiting: WaitingPlan, number: int) -> dict[str, Any]:
        report = self._apply(waiting)
        for failed in report.failures:
            raise UsageError(failed["message"])
        if report.kept > report.missing:
            raise _conflict(waiting.plan.changes[0])
        hashes = [text_hash(change.after) for change in waiting.plan.changes]
        return {"run": report.run, "hash": hashes[0] if hashes else None, "row": self.rows([number])[0]}

    def plan(self, numbers: Sequence[int], kind: Field, operation: Operation) -> dict[str, Any]:
        """Plan an operation on the captions or tags of images: nothing is written.

        Raises UsageError for a value that the operation does not take.
        """
        waiting = self._planned(numbers, kind, operation)
        made, touched = waiting.plan, waiting.numbers
        step = max(1, -(-len(touched) // MOST_SAMPLES))
        return {
            "plan": self._session.keep_plan(waiting),
            "changes": len(touched),
            "of": len(numbers),
            "missing": len(made.missing),
            "left": [{"path": each.item.rel, "reason": each.message} for each in made.failures],
            "samples": [sample(number, change) for number, change in zip(touched, made.changes, strict=True)][::step],
        }

    def _planned(self, numbers: Sequence[int], kind: Field, operation: Operation) -> WaitingPlan:
        operations = checked([operation], kind)
        settings = {"operations": [[operation.name, operation.value]], "edited": kind}
        made = self._plan(settings, stated_by([operation], kind, None))
        with self._reading() as catalogs:
            records = self.index.reading(numbers, catalogs)
            plan_operations(made, records, operations, kind, self.settings.paths)
        return self._waiting(made, str(operation), numbers)

    def _waiting(self, plan: Plan, what: str, numbers: Sequence[int]) -> WaitingPlan:
        places = {self.index.items[number].rel: number for number in numbers}
        return WaitingPlan(plan, what, [places[change.item.rel] for change in plan.changes])

    def apply(self, name: str) -> dict[str, Any]:
        """Make the changes of a plan, exactly those that were shown. Raises Gone, and FolderInUse."""
        waiting = self._session.plans.get(name)
        if waiting is None:
            raise Gone
        report = self._apply(waiting)
        self._session.plans.pop(name, None)
        return outcome(report)

    def approve(self, numbers: Sequence[int], kind: str) -> dict[str, Any]:
        """Make the captions or tags of images the user's, as they are: later runs keep them."""
        plan = self._plan({"approved": kind})
        with self._reading() as catalogs:
            for image in self.index.reading(numbers, catalogs):
                add_approval(plan, image, kind, catalogs)
        return outcome(self._apply(self._waiting(plan, f"approve {kind}", numbers)))

    def mark(self, numbers: Sequence[int], stars: int | None, is_rejected: bool | None) -> dict[str, Any]:
        """Give images stars, and move them to the folder of rejected ones or back.

        Moving is a run; stars are not: `before` has the images by the stars that they had, for the page to give again.
        Raises UsageError for stars that there are not, and images that are not moved.
        """
        before: dict[int, list[int]] = {}
        if stars is not None:
            with self._catalogs(AccessMode.ADD).anew(self._access(AccessMode.ADD)) as catalogs:
                for number, known in marks(self.index, numbers, catalogs).items():
                    before.setdefault(known["stars"], []).append(number)
                set_stars(self.index, numbers, stars, catalogs)
            self.index.note(numbers)
        if is_rejected is None:
            return {"run": None, "before": list(before.items())}
        plan = self._plan({"rejected": is_rejected})
        with self._reading() as catalogs:
            moving = add_moves(plan, self.index, numbers, catalogs, rejected=is_rejected)
        return outcome(self._apply(WaitingPlan(plan, "reject" if is_rejected else "take back", moving)))

    def findings(self, target: str) -> list[dict[str, Any]]:
        """What is wrong with the images for a trainer, by code."""
        return findings(self.index, self.folder, target, self._listener)

    def crop(self, number: int, resolution: tuple[int, int], target: str) -> dict[str, Any] | None:
        """The part of an image that a trainer uses, in its own pixels."""
        return crop(read_upright_size(self.index.items[number]), resolution, target)

    def undo(self, run: str) -> dict[str, Any]:
        """Undo a run of this session; undoing that undo makes it again. Raises UsageError for any other run."""
        known = self._session.runs.get(run)
        if known is None:
            raise UsageError(f"this session has no run {run}")
        self._begin()
        report = undo(
            self._target,
            run,
            catalog=self.settings.paths.catalog,
            listener=self.progress,
            stop=self._halt,
            session=self.session,
        )
        if report.written:
            done = SessionRun(str(report.run), known.opposite, report.written, known.numbers, undoes=run)
            self._session.add(done, is_whole=not report.remaining)
            self._refresh(known.numbers)
        return outcome(report)

    def stop(self) -> None:
        """Have the action at work finish the files in hand."""
        self._halt.exit_code = STOPPED

    def _begin(self) -> None:
        """Begin an action that can be stopped; after the end of the review it is stopped at once."""
        self.progress.stage("")
        self._halt = CancelToken()
        if self._stop:
            self.stop()

    def runs(self) -> list[dict[str, Any]]:
        """What the session has done."""
        return self._session.as_list()

    def _plan(self, settings: dict[str, Any], stated: dict[str, Any] | None = None) -> Plan:
        catalogs = self._catalogs(AccessMode.ADD)
        return Plan(COMMAND, catalogs, {**settings, SESSION: self.session}, stated or {})

    def _apply(self, waiting: WaitingPlan) -> RunReport:
        self._begin()
        report = apply(waiting.plan, listener=self.progress, stop=self._halt)
        if report.run is not None and report.written:
            self._session.add(SessionRun(report.run, waiting.what, report.written, waiting.numbers))
            self._refresh(waiting.numbers)
        return report

    def _refresh(self, numbers: Sequence[int]) -> None:
        """Read images again that this session has changed."""
        relocate(self.index, numbers)
        with self._reading() as catalogs:
            self.index.refresh(numbers, catalogs, noted=True)


def _conflict(change: PlannedChange) -> Conflict:
    [text] = change.shown()
    return Conflict(shown(text.after or ""))


def open_review(
    directory: Path,
    settings: MergeSettings = MergeSettings(),
    layers: Layers = Layers(),
    *,
    tag_list: Path | None = None,
    listener: Listener | None = None,
) -> Review:
    """Begin a session over the images of a folder. Raises NoImages, UsageError, and as `CatalogSession`."""
    return Review(image_source(real_path(directory), settings.paths), settings, layers, tag_list, listener)
