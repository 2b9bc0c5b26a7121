"""The documented way from a file to the image that a model is shown, written down without sdprep."""

import sqlite3
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps


def read(picture: Path | BytesIO) -> Image.Image:
    """An image upright, in eight bits a channel, on white."""
    with Image.open(picture) as file:
        image = ImageOps.exif_transpose(file)
    if image.mode.startswith("I;16"):
        image = Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    rgba = (image.convert("RGB") if image.mode == "CMYK" else image).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def stored_results(folder: Path) -> dict[Path, bytes]:
    """What the catalog of a folder holds of each of its images."""
    catalog = sqlite3.connect(folder / ".sdprep" / "catalog.sqlite")
    rows = catalog.execute("SELECT key, data FROM images JOIN results USING (digest)").fetchall()
    catalog.close()
    return {folder / key: data for key, data in rows}
