"""A small dataset: captions and tags, several captions, tags alone, and an image without any text."""

from pathlib import Path

import pytest
from PIL import Image

TEXTS: dict[str, tuple[str | None, str | None]] = {
    "a.jpg": ("a girl", "1girl, solo"),
    "b.PNG": ("one\ntwo", "1girl"),
    "5_cat/c.webp": (None, 'cat, "quoted", back\\slash'),
    "sub/näme.jpg": ("日本語 🎨", None),
    "bare.png": (None, None),
}


def write_dataset(folder: Path, texts: dict[str, tuple[str | None, str | None]]) -> Path:
    for name, (caption, tags) in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 12)).save(path)
        for text, extension in ((caption, ".caption"), (tags, ".txt")):
            if text is not None:
                path.with_suffix(extension).write_bytes(f"{text}\n".encode())
    return folder


@pytest.fixture
def imgs(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "imgs", TEXTS)


def files_in(folder: Path) -> dict[str, bytes]:
    """The files of a folder with their bytes, without what sdprep keeps of its own."""
    paths = (path for path in folder.rglob("*") if path.is_file() and ".sdprep" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(paths)}
