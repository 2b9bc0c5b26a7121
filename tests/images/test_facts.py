"""What a header tells: size, EXIF orientation, transparency."""

from pathlib import Path

import pytest
from PIL import Image

from sdprep.errors import ImageError
from sdprep.images.facts import ImageFacts, read_facts
from sdprep.types import ImageItem


def facts_of(path: Path) -> ImageFacts:
    return read_facts(ImageItem.at(path))


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_an_image_that_exif_turns_has_its_stored_size_and_an_upright_one(name: str, tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / name, exif=turned())
    facts = facts_of(tmp_path / name)
    assert facts == ImageFacts((30, 20), Image.Transpose.ROTATE_270, has_alpha=False)
    assert facts.upright == (20, 30)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.bmp", "a.gif"])
def test_an_ordinary_image_is_neither_turned_nor_transparent(name: str, tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / name)
    assert facts_of(tmp_path / name) == ImageFacts((30, 20), None, has_alpha=False)


@pytest.mark.parametrize(("name", "options"), [("a.png", {}), ("a.webp", {}), ("a.webp", {"lossless": True})])
def test_an_alpha_channel_is_seen(name: str, options: dict[str, bool], tmp_path: Path) -> None:
    Image.new("RGBA", (30, 20), (9, 9, 9, 9)).save(tmp_path / name, **options)  # type: ignore[arg-type]
    assert facts_of(tmp_path / name).has_alpha


def test_a_transparent_colour_of_a_palette_counts_as_transparency(tmp_path: Path) -> None:
    Image.new("P", (30, 20)).save(tmp_path / "a.png", transparency=0)
    assert facts_of(tmp_path / "a.png").has_alpha


def test_a_broken_exif_block_turns_nothing(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "a.webp", exif=b"Exif\0\0II*\0nonsense")
    assert facts_of(tmp_path / "a.webp").turn is None


def test_a_file_that_is_no_image_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(ImageError, match="not an image"):
        facts_of(tmp_path / "a.png")
