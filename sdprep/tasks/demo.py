"""`sdprep demo`: caption, tag and merge on bundled images with bundled models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sdprep.config import CaptionSettings, MergeSettings, TagSettings
from sdprep.demo import IMAGES
from sdprep.errors import UsageError
from sdprep.files import replace_file
from sdprep.images.source import is_image
from sdprep.models.backends import check_installed
from sdprep.models.base import Task
from sdprep.models.registry.registry import resolve
from sdprep.report import CancelToken, Listener, RunReport
from sdprep.tasks.annotation.model_notes import holds
from sdprep.tasks.caption import caption
from sdprep.tasks.merge import merge
from sdprep.tasks.tag import tag

MODELS: tuple[tuple[str, Task], ...] = (("demo-caption", "caption"), ("demo-tag", "tag"))


@dataclass(frozen=True, slots=True)
class Demonstration:
    """The reports of the three commands."""

    caption: RunReport
    tag: RunReport
    merge: RunReport


def demo(directory: Path, *, listener: Listener | None = None, stop: CancelToken | None = None) -> Demonstration:
    """Copy the bundled images to a folder and run the three commands on them with the demo models.

    Raises UsageError if the folder has other images.
    """
    for model, task in MODELS:
        check_installed(resolve(model, task))
    copy_images(directory)
    return Demonstration(
        caption(directory, CaptionSettings(model="demo-caption"), listener=listener, stop=stop),
        tag(directory, TagSettings(model="demo-tag"), listener=listener, stop=stop),
        merge(directory, MergeSettings(), listener=listener, stop=stop),
    )


def copy_images(directory: Path) -> None:
    """Copy the bundled images, except those that are already there.

    Raises UsageError, before anything is copied, if the folder has any other image: it would get toy captions.
    """
    images = {path.relative_to(IMAGES): path.read_bytes() for path in IMAGES.rglob("*") if path.is_file()}
    for path in directory.rglob("*"):
        if path.is_file() and is_image(path.name) and not holds(path, images.get(path.relative_to(directory))):
            raise UsageError(f"{path} is not an image of the demo; give a folder without images of your own")
    for name, data in images.items():
        if not (directory / name).exists():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            replace_file(directory / name, [data])
