"""The functions of the public API: one per command, with the options of the command line as keywords."""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sdprep.config import CaptionSettings, MergeSettings, TagSettings, option_names, remembered_options, with_options
from sdprep.errors import UsageError
from sdprep.report import CancelToken, Listener, RunReport

if TYPE_CHECKING:
    from sdprep.tasks.settings import Layers

T = TypeVar("T")


def caption(
    directory: str | os.PathLike[str],
    *,
    listener: Listener | None = None,
    cancel: CancelToken | None = None,
    **options: Any,
) -> RunReport:
    """Write a caption file for every image in a folder, as `sdprep caption` does with these options.

    Raises UsageError for an unknown option or a wrong value, and SdprepError if the run cannot go on. An image that
    fails is counted in the report.
    """
    from sdprep.tasks.caption import caption as task

    settings, layers = _layers(CaptionSettings, options)
    return task(Path(directory), settings, layers=layers, listener=listener, stop=cancel)


def tag(
    directory: str | os.PathLike[str],
    *,
    listener: Listener | None = None,
    cancel: CancelToken | None = None,
    **options: Any,
) -> RunReport:
    """Write a tag file for every image in a folder, as `sdprep tag` does with these options. Raises as `caption`."""
    from sdprep.tasks.tag import tag as task

    settings, layers = _layers(TagSettings, options)
    return task(Path(directory), settings, layers=layers, listener=listener, stop=cancel)


def merge(
    directory: str | os.PathLike[str],
    *,
    listener: Listener | None = None,
    cancel: CancelToken | None = None,
    **options: Any,
) -> RunReport:
    """Merge captions and tags into a metadata JSON, as `sdprep merge` does with these options. Raises SdprepError."""
    from sdprep.tasks.merge import merge as task

    settings, layers = _layers(MergeSettings, options)
    return task(Path(directory), settings, layers=layers, listener=listener, stop=cancel)


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
    from sdprep.tasks.history import undo as task

    path = None if catalog is None else Path(catalog)
    return task(Path(directory), run, force=force, dry_run=dry_run, catalog=path, listener=listener, stop=cancel)


def _layers(kind: type[T], options: Mapping[str, Any]) -> tuple[T, Layers]:
    """The settings of the whole run, and what is stated for its images. Raises UsageError as `_typed`."""
    from sdprep.tasks.settings import Layers, Statement

    remembered = bool(options.get("remembered", True))
    typed = _typed(kind, {name: value for name, value in options.items() if name != "remembered"})
    stated = {name: Statement(typed[name], "api") for name in typed.keys() & remembered_options(kind)}
    others = {name: value for name, value in typed.items() if name not in stated}
    return with_options(kind(), others), Layers(now=stated, remembered=remembered, whole_run=frozenset(others))


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
