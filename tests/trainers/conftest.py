"""Folders of images, as trainers find them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def put_images(tmp_path: Path) -> Callable[..., Path]:
    """Makes images of these names, and returns their folder."""

    def make(*names: str) -> Path:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (64, 64)).save(path, format="PNG")
        return tmp_path

    return make
