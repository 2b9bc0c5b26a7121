"""Image preparation as a model's own `preprocess.json` describes it.

The form is that of dghs-imgutils, under "test" in the repositories of animetimm (dbv4) and under "stages" in those of
deepghs: `{"stages": [{"type": "resize", "size": 448, ...}, ...]}`. What each stage means, and its defaults, is in
imgutils/preprocess/pillow.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from sdprep.errors import ModelError
from sdprep.models.base import LARGEST_SIDE, ImageSpec, Level, ModelFiles
from sdprep.models.parse import as_type, read_json
from sdprep.types import Fit

Filter = Literal["bicubic", "bilinear", "lanczos", "box"]
Colour = str | tuple[int, int, int]
Triple = tuple[float, float, float]
# Not `Side`: msgspec 0.22 reads out of bounds for a union of a constrained number and a tuple.
Size = int | tuple[int, int]


class PadToSize(msgspec.Struct, forbid_unknown_fields=True):
    """Resize to the long side, then centre on a square."""

    type: str
    size: Size
    background_color: Colour = "white"
    interpolation: Filter = "bilinear"


class Resize(msgspec.Struct, forbid_unknown_fields=True):
    """Resize to height and width; one number is the short side."""

    type: str
    size: Size
    interpolation: Filter = "bilinear"
    max_size: None = None
    antialias: bool = True


class CenterCrop(msgspec.Struct, forbid_unknown_fields=True):
    """Cut the middle out."""

    type: str
    size: Size


class ToTensor(msgspec.Struct, forbid_unknown_fields=True):
    """Scale the values from 0..255 to 0..1."""

    type: str


class Normalize(msgspec.Struct, forbid_unknown_fields=True):
    """Subtract the mean and divide by the standard deviation."""

    type: str
    mean: float | Triple
    std: float | Triple
    inplace: bool = False


STAGES: dict[str, type[PadToSize | Resize | CenterCrop | ToTensor | Normalize]] = {
    "pad_to_size": PadToSize,
    "resize": Resize,
    "center_crop": CenterCrop,
    "to_tensor": ToTensor,
    "maybe_to_tensor": ToTensor,
    "normalize": Normalize,
}


def prepared(image: ImageSpec, files: ModelFiles) -> tuple[ImageSpec, Fit | None]:
    """`image` with the values of its recipe, and how images are fitted, if the recipe says so.

    Raises ModelError naming the file and the stage that is not supported.
    """
    if image.recipe is None:
        return image, None
    path = files.folder / image.recipe
    image = msgspec.structs.replace(image, scale="0..255")
    fit, in_numbers, done = None, False, False
    for where, stage in _stages(path):
        if done or in_numbers == isinstance(stage, PadToSize | Resize | CenterCrop | ToTensor):
            raise ModelError(f"{where}: sdprep supports sizes first, then to_tensor, then at most one normalize")
        if isinstance(stage, ToTensor):
            in_numbers, image = True, msgspec.structs.replace(image, scale="0..1")
        elif isinstance(stage, Normalize):
            done, image = True, msgspec.structs.replace(image, mean=_triple(stage.mean), std=_deviation(stage, where))
        else:
            fit = _fitted(stage, fit, where)
    if fit is None or not in_numbers:
        raise ModelError(f"{path}: its stages do not end in a square of numbers; sdprep needs a size and to_tensor")
    image = msgspec.structs.replace(image, size=fit.size)
    if (fault := image.fault_of_numbers()) is not None:
        raise ModelError(f"{path}: {fault}")
    return image, fit


def _stages(path: Path) -> Iterator[tuple[str, PadToSize | Resize | CenterCrop | ToTensor | Normalize]]:
    recipe = read_json(path, dict[str, Any])
    stages = as_type(recipe.get("stages") or recipe.get("test") or [], list[dict[str, Any]], path)
    if not stages:
        raise ModelError(f'{path} has no stages, neither under "stages" nor under "test"')
    for number, stage in enumerate(stages, start=1):
        kind = stage.get("type")
        where = f"{path}, stage {number} ({kind!s:.40})"
        if not isinstance(kind, str) or kind not in STAGES:
            raise ModelError(f"{where}: sdprep does not support this stage; it supports {', '.join(STAGES)}")
        yield where, as_type(stage, STAGES[kind], where)


def _fitted(stage: PadToSize | Resize | CenterCrop, before: Fit | None, where: str) -> Fit:
    sides = set(stage.size) if isinstance(stage.size, tuple) else {stage.size}
    if len(sides) > 1:
        raise ModelError(f"{where}: size is {stage.size}, but sdprep supports squares only")
    (size,) = sides
    if not 1 <= size <= LARGEST_SIDE:
        raise ModelError(f"{where}: size is {size}, but must be between 1 and {LARGEST_SIDE}")
    if isinstance(stage, PadToSize):
        return Fit(size, "letterbox", _colour(stage.background_color, where), _sampling(stage), before)
    if isinstance(stage, CenterCrop):
        if before is None or before.size < size:
            raise ModelError(f"{where}: it needs a larger square before it")
        return before if before.size == size else Fit(size, "crop", first=before)
    if before is None and not isinstance(stage.size, tuple):
        raise ModelError(f"{where}: one number keeps the shape of the image, so it needs a square before it")
    if not stage.antialias:
        raise ModelError(f"{where}: sdprep resizes with antialiasing only")
    return Fit(size, "squash", resampling=_sampling(stage), first=before)


def _sampling(stage: PadToSize | Resize) -> str:
    return "area" if stage.interpolation == "box" else stage.interpolation


def _colour(value: Colour, where: str) -> tuple[int, int, int]:
    from PIL import ImageColor

    try:
        found = ImageColor.getcolor(value, "RGB") if isinstance(value, str) else value
    except ValueError as error:
        raise ModelError(f"{where}: {error}") from error
    return as_type(found, tuple[Level, Level, Level], f"{where}: background_color")


def _deviation(stage: Normalize, where: str) -> Triple:
    std = _triple(stage.std)
    if not all(value > 0 for value in std):
        raise ModelError(f"{where}: std must be above 0, not {std}")
    return std


def _triple(value: float | Triple) -> Triple:
    return value if isinstance(value, tuple) else (value, value, value)
