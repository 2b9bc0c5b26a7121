"""`sdprep demo`: caption, tag and merge on bundled images with bundled models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sdprep.config import CaptionSettings, MergeSettings, TagSettings
from sdprep.demo import IMAGES
from sdprep.errors import SdprepError, UsageError
from sdprep.files import real_path, replace_file
from sdprep.images.source import is_image
from sdprep.models.backends import check_installed, with_backend
from sdprep.models.base import Task
from sdprep.models.registry.registry import resolve
from sdprep.report import CancelToken, Listener, RunReport
from sdprep.sanitize import check_path
from sdprep.tasks.annotation.notes import holds
from sdprep.tasks.caption import caption
from sdprep.tasks.merge import merge
from sdprep.tasks.tag import tag

MODELS: tuple[tuple[str, Task], ...] = (("demo-caption", "caption"), ("demo-tag", "tag"), ("demo-chat", "caption"))
# Beside the captions of demo-caption.
CHAT = CaptionSettings(model="demo-chat", prompt="{preset:with-tags}", caption_extension=".chat")


@dataclass(frozen=True, slots=True)
class Demonstration:
    """The reports of the commands that could run by what they made, and why others could not by what one types."""

    reports: dict[str, RunReport]
    missing: dict[str, str]


def demo(directory: Path, *, listener: Listener | None = None, stop: CancelToken | None = None) -> Demonstration:
    """Copy the bundled images to a folder, and caption, tag and merge them with the demo models.

    The chat model gets the tags in its prompt. A command whose framework is not installed is left out; after a stop,
    there are no reports of those that follow. Raises UsageError if the folder has other images, and MissingExtra if
    nothing at all can run.
    """
    missing = _missing()
    if len(missing) == len(MODELS):
        raise missing["demo-tag"]
    copy_images(directory)
    stop = CancelToken() if stop is None else stop
    reports: dict[str, RunReport] = {}
    fields: list[Literal["caption", "tags"]] = []
    if "demo-caption" not in missing:
        reports["captions"] = caption(directory, CaptionSettings(model="demo-caption"), listener=listener, stop=stop)
        fields.append("caption")
    if "demo-tag" not in missing and not stop:
        reports["tag files"] = tag(directory, TagSettings(model="demo-tag"), listener=listener, stop=stop)
        fields.append("tags")
        if "demo-chat" not in missing and not stop:
            reports["chat captions"] = caption(directory, CHAT, listener=listener, stop=stop)
    if not stop:
        merging = MergeSettings(fields=(*fields, "image_size"))
        reports["entries"] = merge(directory, merging, listener=listener, stop=stop)
    typed = {"demo-caption": "caption", "demo-tag": "tag", "demo-chat": "caption --model demo-chat"}
    return Demonstration(reports, {typed[model]: str(error) for model, error in missing.items()})


def _missing() -> dict[str, SdprepError]:
    """The demo models whose framework is not installed, and why they cannot run."""
    missing: dict[str, SdprepError] = {}
    for model, task in MODELS:
        try:
            check_installed(with_backend(resolve(model, task), "auto"))
        except SdprepError as error:
            missing[model] = error
    return missing


def copy_images(directory: Path) -> None:
    """Copy the bundled images, except those that are already there.

    Raises UsageError, before anything is copied, if the folder has any other image, which would get toy captions, or
    has a name that the metadata JSON cannot hold.
    """
    check_path(real_path(directory), "the metadata JSON")
    images = {path.relative_to(IMAGES): path.read_bytes() for path in IMAGES.rglob("*") if path.is_file()}
    for path in directory.rglob("*"):
        if path.is_file() and is_image(path.name) and not holds(path, images.get(path.relative_to(directory))):
            raise UsageError(f"{path} is not an image of the demo; give a folder without images of your own")
    for name, data in images.items():
        if not (directory / name).exists():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            replace_file(directory / name, [data])
