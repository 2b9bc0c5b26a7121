"""Images for comparisons with other programs: the bundled drawings, and photographs of scikit-image."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

import sdprep.demo

DRAWINGS = Path(sdprep.demo.__file__).parent / "images"


def sideways() -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = 6
    return tags


def save_photographs(folder: Path) -> None:
    """Photographs in the formats in which datasets come, one of them with hidden colours under its alpha."""
    astronaut, coffee = skimage.data.astronaut(), skimage.data.coffee()
    chelsea, rocket, camera = skimage.data.chelsea(), skimage.data.rocket(), skimage.data.camera()
    alpha = np.tile(np.linspace(0, 255, coffee.shape[1]).astype(np.uint8), (coffee.shape[0], 1))
    Image.fromarray(astronaut).save(folder / "astronaut.jpg", quality=92)
    Image.fromarray(rocket).save(folder / "rocket.jpg", exif=sideways())
    Image.fromarray(np.dstack([coffee, alpha])).save(folder / "coffee.png")
    Image.fromarray(chelsea).save(folder / "chelsea.webp", quality=90)
    Image.fromarray(camera.astype(np.uint16) * 257).save(folder / "camera.png")
    Image.fromarray(astronaut[:, :97]).convert("CMYK").save(folder / "tall.jpg")
    Image.fromarray(chelsea).quantize(32).save(folder / "palette.png")


@pytest.fixture(params=["drawings", "photographs"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder of images of one kind."""
    if request.param == "drawings":
        return Path(shutil.copytree(DRAWINGS, tmp_path / "drawings"))
    (tmp_path / "photographs").mkdir()
    save_photographs(tmp_path / "photographs")
    return tmp_path / "photographs"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small are slowed down by threads that wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
