"""The sink of a folder run: sidecars beside the images, with the catalog as its memory of earlier runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from heapq import merge
from itertools import islice
from pathlib import Path

from sdprep.catalog.results import join_results
from sdprep.catalog.session import CatalogSession
from sdprep.config import RunOptions
from sdprep.errors import ReadOnlyFolder
from sdprep.folders import write_obstacle
from sdprep.images.source import natural_key
from sdprep.models.captioners.server.requests import RequestLog, begin_log, finish_log, log_of
from sdprep.report import CancelToken, RunReport
from sdprep.tasks.annotation.job import Job, PlannedImage, ResultReader
from sdprep.tasks.annotation.lookup import CHUNK, StoredResults, stored_results
from sdprep.tasks.annotation.notes import other_model
from sdprep.tasks.annotation.planner import Planner
from sdprep.tasks.annotation.writer import Writer
from sdprep.texts.sidecar import sidecar_collisions
from sdprep.types import Failure, FailureCode, ImageItem, Result

OUTPUT_DIR = "Give --output-dir for images that must stay untouched"


class SidecarSink:
    """Writes what needs no model while it plans, then each result as it comes."""

    def __init__(
        self,
        catalogs: CatalogSession,
        writer: Writer,
        report: RunReport,
        options: RunOptions,
        stop: CancelToken,
        *,
        want_results: bool,
        advance: Callable[[], None] = lambda: None,
    ) -> None:
        self._catalogs, self._writer, self._report = catalogs, writer, report
        self._options, self._stop, self._want_results = options, stop, want_results
        self._advance = advance
        self._failed: set[ImageItem] = set()
        self._waiting: dict[ImageItem, PlannedImage] = {}
        # What the model would be shown if this were not a dry run.
        self.previewed: list[ImageItem] = []
        self._obstacles: dict[Path, OSError | None] = {}
        # What single models of several have answered, in this run or before.
        self._stored: dict[int, StoredResults] = {}
        self._requests: RequestLog | None = None

    def pending(self, parts: Sequence[tuple[list[ImageItem], Job]]) -> list[ImageItem]:
        """Count or write every image that needs no model, and return those that do.

        Raises ReadOnlyFolder if none of the sidecars that are needed can be written.
        """
        left, found = self._options.limit, sum(len(items) for items, _ in parts)
        for done, image in enumerate(self._planned(parts)):
            if self._stop:
                self._report.remaining += found - done
                break
            self._advance()
            if isinstance(image, Failure):
                self._failed.add(image.item)
                self._report.fail(image)
                continue
            if (model := other_model(image.disk, image.job.request)) is not None:
                self._report.other_models[model] = self._report.other_models.get(model, 0) + 1
            if image.leaves_sidecar and not self._needs_model(image):
                self._writer.leave(image)
            elif left == 0:
                self._report.remaining += 1
            else:
                left = None if left is None else left - 1
                self._begin(image)
        blocked = [(folder, error) for folder, error in self._obstacles.items() if error is not None]
        if blocked and len(blocked) == len(self._obstacles):
            folder, error = blocked[0]
            raise ReadOnlyFolder(folder, error, OUTPUT_DIR)
        return list(self._waiting)

    def unanswered(self, items: Sequence[ImageItem], job: Job) -> list[list[ImageItem]]:
        """For each of several models, those of the waiting images whose result of it is not stored."""
        asked: list[list[ImageItem]] = [[] for _ in job.members]
        stored, queue = [StoredResults(member) for member in job.members], iter(items)
        while chunk := list(islice(queue, CHUNK)):
            images = [self._waiting[item] for item in chunk]
            for catalog in {id(image.catalog): image.catalog for image in images}.values():
                some = [image for image in images if image.catalog is catalog]
                digests = [image.disk.digest for image in some if image.disk.digest is not None]
                found = [{} if self._options.refresh else each.results(catalog, digests) for each in stored]
                for image in some:
                    missing = [place for place, each in enumerate(found) if image.disk.digest not in each]
                    # Another run may have stored the last one meanwhile; one model answers again.
                    for place in missing or [len(found) - 1]:
                        asked[place].append(image.item)
        return asked

    @contextmanager
    def noting_requests(self) -> Iterator[Path | None]:
        """Inside, the requests for waiting images are noted in a file, if they are paid; those made again are counted.

        The file lies beside the first of their catalogs.
        """
        waiting = (image.catalog.file for image in self._waiting.values() if image.job.is_paid)
        if not (logs := [log_of(file) for file in dict.fromkeys(waiting) if file is not None]):
            yield None
            return
        log = begin_log(logs)
        try:
            with closing(RequestLog(log)) as self._requests:
                yield log
        finally:
            self._requests = None
            self._report.asked_again = finish_log(log)

    def keep(self, result: Result, job: Job) -> None:
        """Take the result of one model of several, of an image that others have not seen yet."""
        self._writer.keep(self._waiting[result.item], job.members[job.answering], result)

    def write(self, outcome: Result | Failure, job: Job) -> None:
        """Take the outcome of one image that the model was shown, as the last one of several."""
        image = replace(self._waiting.pop(outcome.item), job=job)
        if isinstance(outcome, Failure):
            self._writer.add_failure(image, outcome)
        elif job.members:
            self._add_combined(image, outcome)
        else:
            self._writer.add_result(image, outcome)
        if self._requests is not None and outcome.digest is not None:
            self._requests.settle(outcome.digest)

    def _add_combined(self, image: PlannedImage, result: Result) -> None:
        """Add an image of which all models have a result now."""
        job = image.job
        kept = self._writer.keep(image, job.members[job.answering], result)
        parts, warnings = list[bytes](), dict.fromkeys(result.warnings)
        for place, member in enumerate(job.members):
            if place == job.answering:
                parts.append(result.data)
                continue
            found = self._stored_of(member).results(image.catalog, [result.digest]).get(result.digest)
            if found is None:
                message = "it changed between two models of the run"
                self._writer.add_failure(image, Failure(image.item, FailureCode.CHANGING, message))
                return
            parts.append(found[0])
            warnings |= dict.fromkeys(found[1])
        self._writer.add(replace(image, disk=kept.disk, result=join_results(parts), warnings=tuple(warnings)))

    def _stored_of(self, member: Job) -> StoredResults:
        if id(member) not in self._stored:
            self._stored[id(member)] = StoredResults(member)
        return self._stored[id(member)]

    def commit(self) -> None:
        """Write all that was taken."""
        self._writer.commit()
        self._writer.count_tags()
        # The first results of a model give it a number in the catalog.
        self._stored.clear()

    def results(self, parts: Sequence[tuple[list[ImageItem], Job]]) -> Iterator[tuple[str, bytes, ResultReader]]:
        """The names and stored results of all images that did not fail while they were planned, in their order."""
        return merge(*map(self._results_of, parts), key=lambda found: natural_key(found[0]))

    def _results_of(self, part: tuple[list[ImageItem], Job]) -> Iterator[tuple[str, bytes, ResultReader]]:
        items, job = part
        left = [item for item in items if item not in self._failed] if self._failed else items
        return ((rel, result, job.reader) for rel, result in stored_results(left, job, self._catalogs))

    def _planned(self, parts: Sequence[tuple[list[ImageItem], Job]]) -> Iterator[PlannedImage | Failure]:
        collisions = self._collisions(parts)
        yield from collisions
        colliding = {collision.item for collision in collisions}
        for items, job in parts:
            planner = Planner(job, self._catalogs, want_results=self._want_results)
            yield from planner.plan([item for item in items if item not in colliding] if colliding else items)

    def _collisions(self, parts: Sequence[tuple[list[ImageItem], Job]]) -> list[Failure]:
        """The images that share a sidecar, also those with different settings."""
        named: dict[tuple[str, str], list[ImageItem]] = {}
        for items, job in parts:
            named.setdefault((job.extension, job.naming), []).extend(items)
        return [failure for names, items in named.items() for failure in sidecar_collisions(items, *names)]

    def _needs_model(self, image: PlannedImage) -> bool:
        if self._options.refresh:
            return True
        return image.result is None and (self._want_results or not image.leaves_sidecar)

    def _begin(self, image: PlannedImage) -> None:
        """Write from the stored result, or wait for the model; a dry run counts."""
        if self._options.dry_run:
            if image.leaves_sidecar:
                self._writer.leave(image)
            else:
                self._writer.preview(image)
                if self._needs_model(image):
                    self.previewed.append(image.item)
        elif not image.leaves_sidecar and (error := self._obstacle(image.item)) is not None:
            message = f"its folder cannot be written: {error.strerror}"
            self._writer.add_failure(image, Failure(image.item, FailureCode.UNWRITABLE, message))
        elif self._needs_model(image):
            # There may be a million of these: no result waits for one that will take its place.
            self._waiting[image.item] = image if image.result is None else replace(image, result=None)
        else:
            self._writer.add(image)

    def _obstacle(self, item: ImageItem) -> OSError | None:
        """Why the sidecar of an image cannot be written, found before a model is loaded, once per folder."""
        folder = item.target.parent
        if folder not in self._obstacles:
            self._obstacles[folder] = write_obstacle(item.target_folder, folder)
        return self._obstacles[folder]
