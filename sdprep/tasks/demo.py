"""`sdprep demo`: caption, tag and merge on bundled images with bundled models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sdprep.config import CaptionSettings, MergeSettings, TagSettings
from sdprep.demo import IMAGES
from sdprep.errors import SdprepError, UsageError
from sdprep.files import replace_file
from sdprep.images.source import is_image
from sdprep.models.backends import check_installed, with_backend
from sdprep.models.base import Task
from sdprep.models.registry.registry import resolve
from sdprep.report import CancelToken, Listener, RunReport
from sdprep.tasks.annotation.notes import holds
from sdprep.tasks.caption import caption
from sdprep.tasks.merge import merge
from sdprep.tasks.tag import tag

MODELS: tuple[tuple[str, Task], ...] = (("demo-caption", "caption"), ("demo-tag", "tag"))


@dataclass(frozen=True, slots=True)
class Demonstration:
    """The reports of the commands that could run, and why the others could not, by their names."""

    reports: tuple[RunReport, ...]
    missing: dict[Task, str]


def demo(directory: Path, *, listener: Listener | None = None, stop: CancelToken | None = None) -> Demonstration:
    """Copy the bundled images to a folder, and caption, tag and merge them with the demo models.

    A command whose framework is not installed is left out. Raises UsageError if the folder has other images, and
    MissingExtra if nothing at all can run.
    """
    missing: dict[Task, SdprepError] = {}
    for model, task in MODELS:
        try:
            check_installed(with_backend(resolve(model, task), "auto"))
        except SdprepError as error:
            missing[task] = error
    if len(missing) == len(MODELS):
        raise missing["tag"]
    copy_images(directory)
    reports = []
    fields: list[Literal["caption", "tags"]] = []
    if "caption" not in missing:
        reports.append(caption(directory, CaptionSettings(model="demo-caption"), listener=listener, stop=stop))
        fields.append("caption")
    if "tag" not in missing:
        reports.append(tag(directory, TagSettings(model="demo-tag"), listener=listener, stop=stop))
        fields.append("tags")
    reports.append(merge(directory, MergeSettings(fields=(*fields, "image_size")), listener=listener, stop=stop))
    return Demonstration(tuple(reports), {task: str(error) for task, error in missing.items()})


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
