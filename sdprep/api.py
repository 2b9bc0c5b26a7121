"""The functions of the public API: one per command, with the options of the command line as keywords."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from sdprep.config import CaptionSettings, MergeSettings, TagSettings, option_names, remembered_options, with_options
from sdprep.errors import UsageError
from sdprep.report import CancelToken, Listener, RunReport

if TYPE_CHECKING:
    from sdprep.tasks.exchange.check import CheckReport
    from sdprep.tasks.settings import Layers
    from sdprep.tasks.texts.plan import Plan
    from sdprep.tasks.texts.stats import Stats

T = TypeVar("T")
# A folder, an image or a pattern, or several of these.
Inputs = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


def caption(
    inputs: Inputs,
    *,
    listener: Listener | None = None,
    cancel: CancelToken | None = None,
    **options: Any,
) -> RunReport:
    """Write a caption file for every image of these inputs, as `sdprep caption` does with these options.

    An input is a folder, an image or a pattern. Raises UsageError for an unknown option, a wrong value or an input that
    is not there, and SdprepError if the run cannot go on. An image that fails is counted in the report.
    """
    from sdprep.tasks.caption import caption as task

    settings, layers = _layers(CaptionSettings, options)
    return task(_paths(inputs), settings, layers=layers, listener=listener, stop=cancel)


def tag(
    inputs: Inputs,
    *,
    listener: Listener | None = None,
    cancel: CancelToken | None = None,
    **options: Any,
) -> RunReport:
    """Write a tag file for every image of these inputs, as `sdprep tag` does with these options; see `caption`."""
    from sdprep.tasks.tag import tag as task

    settings, layers = _layers(TagSettings, options)
    return task(_paths(inputs), settings, layers=layers, listener=listener, stop=cancel)


def merge(
    inputs: Inputs,
    *,
    listener: Listener | None = None,
    cancel: CancelToken | None = None,
    **options: Any,
) -> RunReport:
    """Merge captions and tags into a metadata JSON, as `sdprep merge` does with these options. Raises SdprepError."""
    from sdprep.tasks.merge import merge as task

    settings, layers = _layers(MergeSettings, options)
    return task(_paths(inputs), settings, layers=layers, listener=listener, stop=cancel)


def edit(
    inputs: Inputs,
    *,
    captions: bool = False,
    listener: Listener | None = None,
    cancel: CancelToken | None = None,
    **options: Any,
) -> RunReport:
    """Edit the tags or captions of these inputs, as `sdprep edit` does with these options.

    Operations such as `add="my trigger@first"` are done in the order of the keywords; a list is several of one kind.
    Raises UsageError as `caption`, and for a filter or an operation that makes no sense.
    """
    made = plan_edit(inputs, captions=captions, listener=listener, **options)
    if options.get("dry_run"):
        return made.report(dry_run=True)
    return apply(made, listener=listener, cancel=cancel)


def plan_edit(
    inputs: Inputs,
    *,
    captions: bool = False,
    listener: Listener | None = None,
    **options: Any,
) -> Plan:
    """The changes that `edit` would make, without making them; `apply` makes exactly these."""
    from sdprep.rules.edits.operations import NAMES, Operation
    from sdprep.tasks.texts.edit import plan

    operations = [
        Operation(name, "" if value is True else str(value))
        for name, values in options.items()
        if name in NAMES
        for value in (values if isinstance(values, (list, tuple)) else [values])
    ]
    settings, layers = _layers(MergeSettings, {name: each for name, each in options.items() if name not in NAMES})
    field: Literal["tags", "caption"] = "caption" if captions else "tags"
    return plan(_paths(inputs), operations, settings, edited=field, layers=layers, listener=listener)


def clean(
    inputs: Inputs,
    pack: str | Iterable[str],
    *,
    output: str | os.PathLike[str] | None = None,
    only: Literal["tags", "captions"] | None = None,
    listener: Listener | None = None,
    cancel: CancelToken | None = None,
    **options: Any,
) -> RunReport:
    """Clean tags and captions by rule packs, as `sdprep clean` does with these options.

    `inputs` may also be one metadata file, and `output` is then another file for the result. Raises SdprepError.
    """
    from sdprep.tasks.texts.clean import is_metadata, plan, plan_metadata

    packs, paths = [pack] if isinstance(pack, str) else list(pack), _paths(inputs)
    kinds = {"tags": ("tags",), "captions": ("caption",), None: ("tags", "caption")}[only]
    settings, layers = _layers(MergeSettings, options)
    if is_metadata(paths):
        to, catalog = None if output is None else Path(output), settings.paths.catalog
        made = plan_metadata(paths[0], packs, kinds=kinds, output=to, catalog=catalog, listener=listener)
    elif output is not None:
        raise UsageError("output is for a metadata file; sidecars are cleaned where they are")
    else:
        made = plan(paths, packs, settings, kinds=kinds, layers=layers, listener=listener)
    return made.report(dry_run=True) if settings.dry_run else apply(made, listener=listener, cancel=cancel)


def apply(plan: Plan, *, listener: Listener | None = None, cancel: CancelToken | None = None) -> RunReport:
    """Make the changes of a plan; a file that has changed since is left as it is and named. Raises SdprepError."""
    from sdprep.tasks.texts.plan import apply as task

    return task(plan, listener=listener, stop=cancel)


def check(directory: str | os.PathLike[str], target: str, **options: Any) -> CheckReport:
    """Find out what a trainer will load from a folder, as `sdprep check` does with these options.

    `resolution` is a pair of width and height. Raises UsageError for an unknown option, and SdprepError.
    """
    from sdprep.tasks.exchange.check import CheckSettings
    from sdprep.tasks.exchange.check import check as task

    known = {each.name for each in fields(CheckSettings)}
    for name in options.keys() - known:
        raise UsageError(f"unknown option {name!r}; known are {', '.join(sorted(known))}")
    return task(Path(directory), target, CheckSettings(**options))


def stats(
    inputs: Inputs,
    *,
    resolution: tuple[int, int] = (1024, 1024),
    listener: Listener | None = None,
    **options: Any,
) -> Stats:
    """Count what the images of these inputs have, as `sdprep stats` does with these options. Raises SdprepError."""
    from sdprep.tasks.texts.stats import stats as task

    settings, layers = _layers(MergeSettings, options)
    return task(_paths(inputs), settings, resolution=resolution, layers=layers, listener=listener)


def export(
    inputs: Inputs,
    target: str,
    output: str | os.PathLike[str],
    *,
    listener: Listener | None = None,
    cancel: CancelToken | None = None,
    **options: Any,
) -> RunReport:
    """Export images, captions and tags for a trainer into a folder, as `sdprep export` does. Raises SdprepError."""
    from sdprep.tasks.exchange.export import export as task
    from sdprep.tasks.exchange.settings import ExportSettings

    settings, layers = _exchanged(ExportSettings, {"target": target, "output": output, **options})
    return task(_paths(inputs), settings, layers=layers, listener=listener, stop=cancel)


def import_(
    source: str | os.PathLike[str],
    *,
    listener: Listener | None = None,
    cancel: CancelToken | None = None,
    **options: Any,
) -> RunReport:
    """Write the texts in a file or folder of another tool into sidecars, as `sdprep import` does; see `export`."""
    from sdprep.tasks.exchange.import_ import import_ as task
    from sdprep.tasks.exchange.settings import ImportSettings

    settings, layers = _exchanged(ImportSettings, options)
    return task(Path(source), settings, layers=layers, listener=listener, stop=cancel)


def undo(
    directory: str | os.PathLike[str],
    run: str | None = None,
    *,
    force: bool = False,
    dry_run: bool = False,
    catalog: str | os.PathLike[str] | None = None,
    listener: Listener | None = None,
    cancel: CancelToken | None = None,
) -> RunReport:
    """Restore what a run (default: the last one) wrote in a folder, as `sdprep undo` does. Raises SdprepError."""
    from sdprep.tasks.history.undo import undo as task

    path = None if catalog is None else Path(catalog)
    return task(Path(directory), run, force=force, dry_run=dry_run, catalog=path, listener=listener, stop=cancel)


def _paths(inputs: Inputs) -> list[Path]:
    return [Path(inputs)] if isinstance(inputs, (str, os.PathLike)) else [Path(each) for each in inputs]


def _layers(kind: type[T], options: Mapping[str, Any]) -> tuple[T, Layers]:
    """The settings of the whole run, and what is stated for its images. Raises UsageError as `_typed`."""
    from sdprep.tasks.settings import Layers, Statement

    remembered = bool(options.get("remembered", True))
    typed = _typed(kind, {name: value for name, value in options.items() if name != "remembered"})
    stated = {name: Statement(typed[name], "api") for name in typed.keys() & remembered_options(kind)}
    others = {name: value for name, value in typed.items() if name not in stated}
    return with_options(kind(), others), Layers(now=stated, remembered=remembered, whole_run=frozenset(others))


def _exchanged(kind: type[T], options: Mapping[str, Any]) -> tuple[T, Layers]:
    """As `_layers`, for settings that only make sense as a whole."""
    from sdprep.config import from_options
    from sdprep.tasks.settings import Layers, Statement

    remembered = bool(options.get("remembered", True))
    typed = _typed(kind, {name: value for name, value in options.items() if name != "remembered"})
    now = {name: Statement(typed[name], "api") for name in typed.keys() & remembered_options(kind)}
    return from_options(kind, typed), Layers(now=now, remembered=remembered)


def _typed(kind: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with the types of their fields. Raises UsageError naming one that is unknown or has another type."""
    from sdprep.tasks.option_values import OptionValues

    known, values, typed = option_names(kind), OptionValues(kind), {}
    for name, value in options.items():
        if name not in known:
            close = get_close_matches(name, known, 1)
            raise UsageError(f"unknown option {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""))
        try:
            typed[name] = values.from_user(name, value)
        except ValueError as error:
            raise UsageError(f"wrong value of {name}: {error}") from error
    return typed
