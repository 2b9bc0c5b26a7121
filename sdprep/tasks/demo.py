"""`sdprep demo`: caption, tag and merge on bundled pictures with bundled models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import sdprep.demo
from sdprep.config import CaptionSettings, MergeSettings, TagSettings
from sdprep.errors import UsageError
from sdprep.tasks.caption import caption
from sdprep.tasks.merge import merge
from sdprep.tasks.tag import tag
from sdprep.types import Listener, RunReport, Stop

PICTURES = Path(sdprep.demo.__file__).parent / "pictures"


@dataclass(frozen=True, slots=True)
class Demonstration:
    """The reports of the three commands."""

    caption: RunReport
    tag: RunReport
    merge: RunReport


def demo(directory: Path, *, listener: Listener | None = None, stop: Stop | None = None) -> Demonstration:
    """Copy the bundled pictures to a folder and run the three commands on them with the demo models.

    Raises UsageError if another file stands where a picture goes.
    """
    copy_pictures(directory)
    return Demonstration(
        caption(directory, CaptionSettings(model="demo-caption"), listener=listener, stop=stop),
        tag(directory, TagSettings(model="demo-tag"), listener=listener, stop=stop),
        merge(directory, MergeSettings(), listener=listener, stop=stop),
    )


def copy_pictures(directory: Path) -> None:
    """Copy the bundled pictures; those that are there already are left alone."""
    for source in sorted(path for path in PICTURES.rglob("*") if path.is_file()):
        target = directory / source.relative_to(PICTURES)
        data = source.read_bytes()
        if target.exists():
            if target.read_bytes() != data:
                raise UsageError(f"{target} is there and is not the demo's picture; give another folder")
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
