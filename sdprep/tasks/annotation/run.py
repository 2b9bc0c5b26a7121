"""The run that caption and tag share: the images of a source, through a model, into a sink."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from sdprep.catalog.catalog import RunInfo
from sdprep.catalog.session import AccessMode, CatalogAccess, CatalogSession
from sdprep.config import CaptionSettings, TagSettings
from sdprep.engines.base import EngineConfig, open_engine
from sdprep.errors import CatalogFailed, ModelError, UsageError, WriteError
from sdprep.models.backends import check_installed
from sdprep.models.base import ModelFiles, ModelSpec
from sdprep.models.captioners.server.estimate import describe_requests
from sdprep.models.files.hub import ensure_downloaded, find_local
from sdprep.models.registry.registry import unlisted
from sdprep.report import CancelToken, Listener, NullListener, RunReport, StageTime, add_stages
from sdprep.tasks.annotation.engine_config import (
    caption_options,
    check_limits,
    engine_config,
    quantize_for,
    with_request_log,
)
from sdprep.tasks.annotation.job import Annotator, Combination, Job, Member, Part, Replace, ResultReader, Results
from sdprep.tasks.annotation.moves import recognise
from sdprep.tasks.annotation.notes import other_models_note, toy_note, without_effect
from sdprep.tasks.annotation.sidecar_sink import SidecarSink
from sdprep.tasks.annotation.writer import Writer
from sdprep.tasks.changes import replace_through_journal
from sdprep.tasks.option_values import kept_settings_note
from sdprep.tasks.run_info import catalogs_for, image_source, retry_commands
from sdprep.tasks.settings import Cascade, Layers
from sdprep.tasks.texts.records import matching
from sdprep.types import Failure, FailureCode, ImageItem, Result

# A model that has answered with NaN or infinity this often, and never with numbers, is at fault, and not the images.
NONFINITE_LIMIT = 8
# What a listener is told while the model sees the images, by command.
DOING = {"caption": "captioning", "tag": "tagging"}
# The stages of a run, in their order.
STAGES = ("plan", "decode", "predict", "write")

S = TypeVar("S", bound=TagSettings | CaptionSettings)
# Does what is left when all images have their outcome.
Finish = Callable[[Sequence[ResultReader], Results, Replace], None]


class Source(Protocol):
    """Where images come from."""

    @property
    def skipped(self) -> str:
        """What `items` left out although it may be an image, as a sentence; empty if there is nothing."""

    def items(self) -> list[ImageItem]:
        """All images. Raises NoImages if there are none."""


class Sink(Protocol):
    """Where results go. It counts every image in the report of the run."""

    def pending(self, parts: Sequence[tuple[list[ImageItem], Job]]) -> list[ImageItem]:
        """The images that the model has to see; the others are counted now. Those of a part have the same job."""

    def write(self, outcome: Result | Failure, job: Job) -> None:
        """Take the outcome of one pending image; `job.reader` reads its result."""

    def commit(self) -> None:
        """Make everything that was taken durable; also called when the run ends early."""


class Annotation(Generic[S]):
    """One run of caption or tag; `report` counts the images.

    `annotator` makes the annotator of images with the same settings, from the settings, the names of the options that
    are stated for them, and of those that are stated now. `want_results` shows the model images that need no text too.
    """

    def __init__(
        self,
        command: str,
        annotator: Callable[[S, frozenset[str], frozenset[str]], Annotator | Combination],
        settings: S,
        listener: Listener | None = None,
        stop: CancelToken | None = None,
        *,
        want_results: bool = False,
    ) -> None:
        self._annotator, self._settings, self._want_results = annotator, settings, want_results
        self._listener = NullListener() if listener is None else listener
        self._stop = CancelToken() if stop is None else stop
        self._began = time.monotonic()
        self._timings: dict[str, StageTime] = {}
        self._files: dict[tuple[Any, ...], ModelFiles | None] = {}
        self._parts: list[Part[S]] = []
        self._providers: dict[str, None] = {}
        # By image without an outcome, how many models have still to answer.
        self._open: dict[ImageItem, int] = {}
        if (reason := unlisted()) is not None:
            self._listener.note(reason)
        self.report = RunReport(command, dry_run=settings.run.dry_run)

    def run_inputs(self, inputs: Path | Sequence[Path], layers: Layers, finish: Finish | None = None) -> RunReport:
        """Annotate these images with sidecars, each by its own settings; `finish` gets the stored results.

        Raises SdprepError if the run cannot continue; the fault of an image is in the report.
        """
        try:
            return self._run_inputs(inputs, layers, finish)
        except (WriteError, CatalogFailed) as error:
            missing = self.report.uncounted + self.report.remaining
            error.args = (f"{error}\n{missing} of {self.report.found} images are missing",)
            raise
        except KeyboardInterrupt as interrupt:
            interrupt.args = (self.report.kept_so_far,)
            raise

    def _run_inputs(self, inputs: Path | Sequence[Path], layers: Layers, finish: Finish | None) -> RunReport:
        paths, options, report = self._settings.paths, self._settings.run, self.report
        source = image_source(inputs, paths)
        mode = AccessMode.DRY_RUN if options.dry_run else AccessMode.ADD
        access = CatalogAccess(report.command, mode, self._listener.note)
        with catalogs_for(source, paths, access) as catalogs:
            cascade = Cascade(report.command, self._settings, layers, catalogs, source.places, self._listener.note)
            items = self._listed(source)
            self._recognise(items, catalogs)
            report.found = len(items := matching(items, paths.where, cascade, catalogs, self._listener, self._stop))
            self._prepare(items, cascade, layers)
            info = self._run_info(cascade)
            writer = Writer(report, info, self._listener if options.debug else NullListener())
            sink = SidecarSink(
                catalogs,
                writer,
                report,
                options,
                self._stop,
                want_results=self._want_results,
                advance=self._listener.advance,
            )
            self._annotate(sink)
            self._note_requests(sink.previewed)
            report.retry = retry_commands(source, paths) if report.failed_before else []
            if finish is not None and not options.dry_run:
                catalog = catalogs.of(source.home)
                results = partial(sink.results, self._item_jobs())
                readers = [part.job.reader for part in self._parts]
                finish(readers, results, partial(replace_through_journal, catalog, info))
            self._close_report()
            for catalog in () if options.dry_run else catalogs:
                with catalog.transaction():
                    if not self._stop:
                        cascade.record(catalog, info.uid)
                    catalog.end_run(info.uid, report.as_dict())
        return report

    def _recognise(self, items: list[ImageItem], catalogs: CatalogSession) -> None:
        """Let what is known of sidecars that were moved or copied hold at their new paths, and report it."""
        self._stop.interruptible = True
        found = recognise(catalogs, items, self._stop, self._settings.run.max_pixels)
        if (note := kept_settings_note(self.report.command, found.kept_settings)) is not None:
            self._listener.note(note)
        self._stop.interruptible = False
        self.report.add_moves(len(found.sidecars), ((each.sidecar, each.image) for each in found.orphans))

    def run(self, source: Source, sink: Sink) -> RunReport:
        """Annotate the images of a source, all by the same settings. Raises SdprepError if the run cannot continue."""
        self._add_part(self._settings, self._listed(source), frozenset(), frozenset())
        if self._parts[0].combination is not None:
            raise UsageError("a sink of your own takes one model")
        self._annotate(sink)
        self._close_report()
        return self.report

    def _listed(self, source: Source) -> list[ImageItem]:
        items = source.items()
        if source.skipped:
            self._listener.note(source.skipped)
        self.report.found = len(items)
        return items

    def _prepare(self, items: list[ImageItem], cascade: Cascade[S], layers: Layers) -> None:
        """Make the parts of the run. Raises UsageError if the settings of some images do not fit their model."""
        parts = cascade.parts(items)
        for effective, some in parts:
            try:
                self._add_part(effective.settings, some, effective.stated, frozenset(layers.now))
            except UsageError as error:
                raise UsageError(f"{error}{cascade.remembered_hint(effective.remembered)}") from error
        cascade.note_remembered(parts)
        stated = layers.whole_run | layers.now.keys()
        for line in without_effect(stated, self._used):
            self._listener.note(line)

    def _add_part(self, settings: S, items: list[ImageItem], stated: frozenset[str], explicit: frozenset[str]) -> None:
        made = self._annotator(settings, stated, explicit)
        combination = made if isinstance(made, Combination) else None
        members = []
        for annotator in made.members if isinstance(made, Combination) else (made,):
            files = self._files_of(annotator.spec)
            members.append(Member(annotator, files, annotator.job(files)))
        # Those of a single member name its model alone.
        used = members[0].annotator.settings if combination is None else settings
        self._parts.append(Part(used, items, members, combination))

    @property
    def _used(self) -> list[tuple[S, ModelSpec]]:
        """All models with the settings of their images."""
        return [(part.settings, member.spec) for part in self._parts for member in part.members]

    def _files_of(self, spec: ModelSpec) -> ModelFiles | None:
        """The files of a model if they are on this machine, looked for once; downloaded again if that is forced."""
        key = _files_key(spec)
        if key not in self._files:
            if isinstance(self._settings, TagSettings) and self._settings.force_download and spec.source.repo:
                check_installed(spec)
                ensure_downloaded(spec, self._listener, check=True)
            self._files[key] = find_local(spec)
        return self._files[key]

    def _run_info(self, cascade: Cascade[S]) -> RunInfo:
        """The record of the run, which names all its models, and what was stated for which folder."""
        self.report.model = ", ".join(dict.fromkeys(spec.name for _, spec in self._used))
        info = cascade.run_record(self._parts[0].settings, self._models)
        self.report.run = info.uid
        return info

    @property
    def _models(self) -> str:
        return ", ".join(dict.fromkeys(str(part.job.request.settings["model"]) for part in self._parts))

    def _item_jobs(self) -> list[tuple[list[ImageItem], Job]]:
        return [(part.items, part.job) for part in self._parts]

    def _annotate(self, sink: Sink) -> None:
        """Give every image an outcome."""
        toys = [toy_note(member.spec, part.items) for part in self._parts for member in part.members]
        for warning in filter(None, dict.fromkeys(toys)):
            self._listener.note(warning)
        self._listener.stage("planning", self.report.found)
        with self._interruptible(sink), self._measured("plan", self.report.found):
            pending = sink.pending(self._item_jobs())
        if (note := other_models_note(self.report.other_models, self._models)) is not None:
            self._listener.note(note)
        self._open = dict.fromkeys(pending, 0)
        engines = [] if self._stop else self._engines(pending, sink)
        check_limits([config for config, _ in engines])
        with sink.noting_requests() if isinstance(sink, SidecarSink) else nullcontext() as log:
            for config, jobs in engines:
                if not self._stop:
                    self._predict(with_request_log(config, log), jobs, sink)
        self.report.remaining += len(self._open)

    def _note_requests(self, previewed: Iterable[ImageItem]) -> None:
        """Tell what the images of a dry run would ask of servers."""
        prompts = {item: item.prompt for item in previewed}
        for part in self._parts:
            spec = part.members[0].spec
            asked = [prompts[item] for item in part.items if item in prompts]
            if isinstance(part.settings, CaptionSettings) and spec.server is not None and asked:
                generation = caption_options(part.settings, spec).generation
                captions, most = generation.num_return_sequences, generation.max_new_tokens
                self._listener.note(describe_requests(spec, asked, captions, most))

    def _engines(self, pending: list[ImageItem], sink: Sink) -> list[tuple[EngineConfig, dict[ImageItem, Job]]]:
        """The images that a model has to see with their jobs, those together that the same loaded model serves."""
        engines: list[tuple[EngineConfig, dict[ImageItem, Job]]] = []
        # Those of the sink have the prompt.
        waiting = {item: item for item in pending}
        for part in self._parts:
            items = [waiting[item] for item in part.items if item in waiting]
            if not items:
                continue
            asked = sink.unanswered(items, part.job) if isinstance(sink, SidecarSink) and part.combination else [items]
            for member, some in zip(part.members, asked, strict=True):
                if some:
                    self._download(part, member)
            for place, (member, some) in enumerate(zip(part.members, asked, strict=True)):
                if some:
                    job = replace(part.job, answering=place) if part.combination else part.job
                    self._add_engine(engines, engine_config(member.spec, member.found, part.settings), some, job)
        return engines

    def _download(self, part: Part[S], member: Member) -> None:
        """Get the files of a model of a part if they are not on this machine."""
        check_installed(member.spec, quantize_for(part.settings, member.spec))
        if member.files is None:
            member.files = self._files[_files_key(member.spec)] = ensure_downloaded(member.spec, self._listener)
            member.job = member.annotator.job(member.files)
            part.combine()

    def _add_engine(
        self,
        engines: list[tuple[EngineConfig, dict[ImageItem, Job]]],
        config: EngineConfig,
        items: list[ImageItem],
        job: Job,
    ) -> None:
        """Let images be shown to a model, with those of other parts if they need the same."""
        jobs = next((jobs for known, jobs in engines if known == config), None)
        if jobs is None:
            engines.append((config, jobs := {}))
        jobs.update(dict.fromkeys(items, job))
        for item in items:
            self._open[item] += 1

    def _predict(self, config: EngineConfig, jobs: dict[ImageItem, Job], sink: Sink) -> None:
        """Load a model, show it images, and give the outcomes to the sink."""
        # One that has failed with a model is not shown to the next.
        if not (jobs := {item: job for item, job in jobs.items() if item in self._open}):
            return
        report = self.report
        failures = NonfiniteCheck(max(NONFINITE_LIMIT, 2 * self._settings.run.batch_size))
        self._listener.stage(f"loading {config.spec.name}")
        with open_engine(config, self._listener.note) as engine:
            self._listener.stage(DOING[report.command], len(jobs))
            self._providers[engine.provider] = None
            report.provider = ", ".join(self._providers)
            with self._interruptible(sink):
                for outcome in engine.run(list(jobs), self._stop):
                    with self._measured("write", isinstance(outcome, Result)):
                        self._take(outcome, jobs[outcome.item], sink)
                    failures.check(outcome)
                    self._listener.advance()
        add_stages(self._timings, engine.timings if self._settings.run.timings else {})

    def _take(self, outcome: Result | Failure, job: Job, sink: Sink) -> None:
        """Give an outcome to the sink; an image has one when all its models have answered, or one has failed."""
        item = outcome.item
        self._open[item] -= 1
        if isinstance(outcome, Result) and self._open[item] and isinstance(sink, SidecarSink):
            sink.keep(outcome, job)
            return
        del self._open[item]
        self.report.predicted += 1
        sink.write(outcome, job)

    @contextmanager
    def _interruptible(self, sink: Sink) -> Iterator[None]:
        """Inside, cancellation is checked; at the end, however it comes, the sink commits."""
        self._stop.interruptible = True
        try:
            yield
        finally:
            with self._measured("write"):
                sink.commit()
            self._stop.interruptible = False

    def _measured(self, name: str, images: int = 0) -> AbstractContextManager[None]:
        """Add the time spent inside to a stage, if timings are asked for."""
        if not self._settings.run.timings:
            return nullcontext()
        stage = self._timings.setdefault(name, StageTime())
        stage.images += images
        return stage.measured()

    def _close_report(self) -> None:
        report = self.report
        members = [member for part in self._parts for member in part.members]
        revisions = (each.files.revision if each.files else each.spec.source.revision for each in members)
        report.revision = ", ".join(dict.fromkeys(each for each in revisions if each)) or None
        report.stopped = self._stop.exit_code
        report.seconds = time.monotonic() - self._began
        if self._settings.run.timings:
            stages = {name: self._timings[name] for name in STAGES if name in self._timings}
            report.timings = {
                name: {key: round(value, 6) for key, value in asdict(stage).items()} for name, stage in stages.items()
            }
        report.check()


def _files_key(spec: ModelSpec) -> tuple[Any, ...]:
    """What tells the files of models apart."""
    return spec.source, tuple(spec.files), None if spec.server is None else spec.server.model


class NonfiniteCheck:
    """Tells a model that only answers with NaN or infinity from images that make it do so."""

    def __init__(self, limit: int) -> None:
        self._limit, self._results, self._nonfinite = limit, 0, 0

    def check(self, outcome: Result | Failure) -> None:
        """Raise ModelError once too many images have failed so, and none has a result."""
        if isinstance(outcome, Result):
            self._results += 1
            return
        self._nonfinite += outcome.code is FailureCode.NONFINITE
        if not self._results and self._nonfinite >= self._limit:
            raise ModelError(
                f"the model answered with NaN or infinity for each of its first {self._nonfinite} images. "
                "Check its files, or take another --device, precision or --model; --device cpu is the surest"
            )
