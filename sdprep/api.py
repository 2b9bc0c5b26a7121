"""The functions of the public API: one per command, with the options of the command line as keywords."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_origin, get_type_hints

from sdprep.config import CaptionSettings, MergeSettings, TagSettings, option_names
from sdprep.errors import UsageError
from sdprep.report import CancelToken, Listener, RunReport

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

    settings = _settings(CaptionSettings, options)
    return task(Path(directory), settings, explicit=frozenset(options), listener=listener, stop=cancel)


def tag(
    directory: str | os.PathLike[str],
    *,
    listener: Listener | None = None,
    cancel: CancelToken | None = None,
    **options: Any,
) -> RunReport:
    """Write a tag file for every image in a folder, as `sdprep tag` does with these options. Raises as `caption`."""
    from sdprep.tasks.tag import tag as task

    settings = _settings(TagSettings, options)
    return task(Path(directory), settings, explicit=frozenset(options), listener=listener, stop=cancel)


def merge(
    directory: str | os.PathLike[str],
    *,
    listener: Listener | None = None,
    cancel: CancelToken | None = None,
    **options: Any,
) -> RunReport:
    """Merge captions and tags into a metadata JSON, as `sdprep merge` does with these options. Raises SdprepError."""
    from sdprep.tasks.merge import merge as task

    return task(Path(directory), _settings(MergeSettings, options), listener=listener, stop=cancel)


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


def _settings(kind: type[T], options: Mapping[str, Any]) -> T:
    """Make settings from options. Raises UsageError naming an option that is unknown or has a value of a wrong type."""
    import msgspec

    known = option_names(kind)
    for name in options.keys() - known:
        close = get_close_matches(name, known, 1)
        raise UsageError(f"unknown option {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""))
    try:
        return msgspec.convert(_nested(kind, options), kind, dec_hook=_as_path)
    except msgspec.ValidationError as error:
        raise UsageError(f"wrong value: {error}") from error


def _nested(kind: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as the settings hold them: those of rules, paths and run in dictionaries of their own."""
    values: dict[str, Any] = {}
    for name, hint in get_type_hints(kind).items():
        if is_dataclass(hint):
            values[name] = _nested(hint, options)  # type: ignore[arg-type]
        elif name in options:
            values[name] = _as_list(options[name]) if get_origin(hint) is tuple else options[name]
    return values


def _as_list(value: Any) -> Any:
    """One string as a list of it, and a dictionary as pairs; anything else as it is."""
    if isinstance(value, str):
        return [value]
    return list(value.items()) if isinstance(value, Mapping) else value


def _as_path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, (str, os.PathLike)):
        return Path(value)
    raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")
