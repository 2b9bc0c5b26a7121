"""The steps by which a model's own `preprocess.json` prepares a picture.

The form is that of dghs-imgutils, under "test" in the repositories of animetimm (dbv4) and under "stages" in those of
deepghs: `{"stages": [{"type": "resize", "size": 448, ...}, ...]}`. What each stage means, and its defaults, is in
imgutils/preprocess/pillow.py.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from sdprep.errors import ModelError
from sdprep.models.base import ImageSpec, ModelFiles, Side
from sdprep.models.parse import read_json
from sdprep.types import Fit

Filter = Literal["bicubic", "bilinear", "lanczos", "box"]
Colour = str | tuple[int, int, int]
Triple = tuple[float, float, float]


class PadToSize(msgspec.Struct, tag_field="type", tag="pad_to_size", forbid_unknown_fields=True):
    """Resize to the long side, then centre on a square."""

    size: Side | tuple[Side, Side]
    background_color: Colour = "white"
    interpolation: Filter = "bilinear"


class Resize(msgspec.Struct, tag_field="type", tag="resize", forbid_unknown_fields=True):
    """Resize to height and width; one number is the short side."""

    size: Side | tuple[Side, Side]
    interpolation: Filter = "bilinear"
    max_size: None = None
    antialias: bool = True


class CenterCrop(msgspec.Struct, tag_field="type", tag="center_crop", forbid_unknown_fields=True):
    """Cut the middle out."""

    size: Side | tuple[Side, Side]


class ToTensor(msgspec.Struct, tag_field="type", tag="to_tensor", forbid_unknown_fields=True):
    """Bring the values from 0..255 to 0..1."""


class MaybeToTensor(msgspec.Struct, tag_field="type", tag="maybe_to_tensor", forbid_unknown_fields=True):
    """The same, for what is a picture still."""


class Normalize(msgspec.Struct, tag_field="type", tag="normalize", forbid_unknown_fields=True):
    """Take the mean off and divide by the deviation."""

    mean: float | Triple
    std: float | Triple
    inplace: bool = False


class Recipe(msgspec.Struct):
    """The stages, under the one name or the other."""

    stages: list[PadToSize | Resize | CenterCrop | ToTensor | MaybeToTensor | Normalize] | None = None
    test: list[PadToSize | Resize | CenterCrop | ToTensor | MaybeToTensor | Normalize] | None = None


def prepared(image: ImageSpec, files: ModelFiles) -> tuple[ImageSpec, Fit | None]:
    """What `image` says of the pictures, its recipe read; and how they are fitted, if the recipe says that.

    Raises ModelError naming the file and the stage that cannot be followed.
    """
    if image.recipe is None:
        return image, None
    path = files.folder / image.recipe
    recipe = read_json(path, Recipe)
    stages = recipe.stages or recipe.test
    if not stages:
        raise ModelError(f'{path} has no stages, neither under "stages" nor under "test"')
    fit, image, seen = None, msgspec.structs.replace(image, scale="0..255"), False
    for number, stage in enumerate(stages, start=1):
        where = f"{path}, stage {number} ({stage.__struct_config__.tag})"
        if isinstance(stage, ToTensor | MaybeToTensor):
            seen = True
            image = msgspec.structs.replace(image, scale="0..1")
        elif isinstance(stage, Normalize):
            if not seen or number < len(stages):
                raise ModelError(f"{where}: sdprep follows it only as the last one, after to_tensor")
            mean, std = _triple(stage.mean), _triple(stage.std)
            if not all(value > 0 for value in std):
                raise ModelError(f"{where}: std must be above 0")
            image = msgspec.structs.replace(image, mean=mean, std=std)
        else:
            if seen:
                raise ModelError(f"{where}: sdprep follows it only before to_tensor")
            fit = _fitted(stage, fit, where)
    if fit is None or not seen:
        raise ModelError(f"{path}: its stages make no square of numbers; sdprep needs a size and to_tensor")
    return msgspec.structs.replace(image, size=fit.size), fit


def _fitted(stage: PadToSize | Resize | CenterCrop, before: Fit | None, where: str) -> Fit:
    """A stage after those `before` it, as a way to fit a picture into a square."""
    sides = set(stage.size) if isinstance(stage.size, tuple) else {stage.size}
    if len(sides) > 1:
        raise ModelError(f"{where}: size is {stage.size}, but sdprep feeds squares")
    (size,) = sides
    if isinstance(stage, PadToSize):
        return Fit(size, "letterbox", _colour(stage.background_color, where), _sampling(stage), before)
    if isinstance(stage, CenterCrop):
        if before is None or before.size < size:
            raise ModelError(f"{where}: it needs a larger square before it")
        return before if before.size == size else Fit(size, "crop", first=before)
    if before is None and not isinstance(stage.size, tuple):
        raise ModelError(f"{where}: one number keeps the shape of the picture, so it needs a square before it")
    if not stage.antialias:
        raise ModelError(f"{where}: sdprep resizes with antialiasing only")
    return Fit(size, "squash", resampling=_sampling(stage), first=before)


def _sampling(stage: PadToSize | Resize) -> str:
    return "area" if stage.interpolation == "box" else stage.interpolation


def _colour(value: Colour, where: str) -> tuple[int, int, int]:
    from PIL import ImageColor

    try:
        return ImageColor.getcolor(value, "RGB") if isinstance(value, str) else value  # type: ignore[return-value]
    except ValueError as error:
        raise ModelError(f"{where}: {error}") from error


def _triple(value: float | Triple) -> Triple:
    return value if isinstance(value, tuple) else (value, value, value)
