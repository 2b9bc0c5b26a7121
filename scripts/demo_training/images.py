"""Draws the bundled sample images, one for every file format and every oddity a reader has to master."""

import json
import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scripts.demo_training.draw import draw, draw_cutout
from scripts.demo_training.figures import CHARACTERS, CLOSED, Figure, Person, caption_of, tags_of

AKA, KURO, SORA = CHARACTERS.values()
ORIENTATION = 0x0112

Draw = Callable[[Figure, random.Random, tuple[int, int]], Image.Image]
Write = Callable[[Image.Image, Path], None]


@dataclass(frozen=True)
class Sample:
    """One bundled image: what it shows, its size, how it is drawn and how it is written."""

    figure: Figure
    size: tuple[int, int]
    write: Write
    draw: Draw = draw


def _saved(**options: Any) -> Write:
    return lambda image, path: image.save(path, **options)


def _converted(mode: str, **options: Any) -> Write:
    return lambda image, path: image.convert(mode).save(path, **options)


def _with_black_under(image: Image.Image) -> Image.Image:
    """Blacken what full transparency hides, so that a reader that drops the alpha shows it."""
    pixels = np.array(image)
    pixels[pixels[..., -1] == 0] = 0
    return Image.fromarray(pixels)


def _write_sticker(image: Image.Image, path: Path, mode: str = "RGBA", **options: Any) -> None:
    _with_black_under(image.convert(mode)).save(path, **options)


def _write_palette(image: Image.Image, path: Path) -> None:
    image.quantize(96, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(path, optimize=True)


def _write_16_bit(image: Image.Image, path: Path) -> None:
    Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(path)


def _write_sideways(image: Image.Image, path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(path, quality=88, exif=exif)


def _write_animated(image: Image.Image, path: Path) -> None:
    second = draw(_one("boy", "green", "short", "black", background="black"), random.Random("second"), image.size)
    image.save(path, save_all=True, append_images=[second], duration=600, loop=0)


def _one(gender: str, hair: str, length: str, eyes: str, *worn: str, background: str, smile: bool = False) -> Figure:
    head = next((name for name in ("hat", "cat ears") if name in worn), "")
    return Figure((Person(gender, hair, length, eyes, head, "glasses" in worn, "scarf" in worn, smile),), background)


JPEG, PNG = _saved(quality=88), _saved(optimize=True)
LOSSY_WEBP = _saved(quality=82, method=6)
GIRL_IN_GREEN_SCARF = Person("girl", "green", "long", "blue", "", False, True, True)

SAMPLES: Mapping[str, Sample] = {
    "red-hair-hat.jpg": Sample(
        _one("girl", "red", "long", "blue", "hat", background="green", smile=True), (448, 448), JPEG
    ),
    "blue-hair-glasses.jpg": Sample(
        _one("boy", "blue", "short", "green", "glasses", background="yellow"),
        (480, 360),
        _saved(quality=85, progressive=True),
    ),
    "blonde-scarf.png": Sample(
        _one("girl", "blonde", "short", "green", "scarf", background="pink", smile=True), (320, 320), PNG
    ),
    "pink-hair-sticker.png": Sample(
        _one("girl", "pink", "long", "purple", "cat ears", background="white", smile=True),
        (320, 360),
        _write_sticker,
        draw_cutout,
    ),
    "green-hair-palette.png": Sample(
        _one("boy", "green", "short", "yellow", "hat", "glasses", background="white"),
        (300, 300),
        _write_palette,
        draw_cutout,
    ),
    "purple-hair-scarf.webp": Sample(
        _one("girl", "purple", "long", "red", "scarf", background="grey"), (400, 300), LOSSY_WEBP
    ),
    "white-hair-sticker.webp": Sample(
        _one("boy", "white", "short", "blue", "hat", "scarf", background="white", smile=True),
        *((360, 360), partial(_write_sticker, quality=85, exact=True), draw_cutout),
    ),
    "brown-hair-plain.gif": Sample(_one("boy", "brown", "short", "blue", background="blue"), (240, 240), _saved()),
    "two-frames.gif": Sample(
        _one("girl", "blonde", "long", "red", "hat", background="purple", smile=True),
        (240, 240),
        _write_animated,
    ),
    "black-hair-scarf.bmp": Sample(
        _one("boy", "black", "short", "yellow", "scarf", background="green"), (200, 200), _saved()
    ),
    "pink-hair-glasses.avif": Sample(
        _one("boy", "pink", "short", "blue", "glasses", background="blue", smile=True),
        (420, 420),
        _saved(quality=70),
    ),
    "grey-hair-16-bit.png": Sample(
        _one("girl", "grey", "long", "black", "hat", background="black", smile=True),
        (220, 220),
        _write_16_bit,
    ),
    "green-hair-cmyk.jpg": Sample(
        _one("girl", "green", "short", "purple", "cat ears", background="yellow"),
        (360, 360),
        _converted("CMYK", quality=85),
    ),
    "sideways-phone.jpg": Sample(
        _one("boy", "red", "short", "green", "hat", background="blue", smile=True),
        (320, 440),
        _write_sideways,
    ),
    "white-hair-grey-alpha.png": Sample(
        _one("girl", "white", "short", "black", "glasses", background="white", smile=True),
        *((300, 300), partial(_write_sticker, mode="LA", optimize=True), draw_cutout),
    ),
    "black-hair-greyscale.jpg": Sample(
        _one("girl", "black", "long", CLOSED, "scarf", background="grey", smile=True),
        (400, 400),
        _converted("L", quality=88),
    ),
    "happy-eyes.png": Sample(
        _one("girl", "brown", "long", CLOSED, "hat", background="yellow", smile=True), (320, 320), PNG
    ),
    "tall-poster.jpg": Sample(
        _one("girl", "purple", "short", "yellow", "glasses", "scarf", background="pink"), (400, 600), JPEG
    ),
    "wide-banner.jpg": Sample(
        _one("boy", "blonde", "long", "purple", "scarf", background="black", smile=True), (600, 400), JPEG
    ),
    "large-canvas.webp": Sample(
        _one("girl", "blue", "long", "red", "hat", "glasses", background="white", smile=True),
        (1024, 1024),
        LOSSY_WEBP,
    ),
    "two-girls.jpg": Sample(
        Figure((GIRL_IN_GREEN_SCARF, Person("girl", "black", "short", "red", "hat")), "purple"),
        (540, 400),
        JPEG,
    ),
    "girl-and-boy.png": Sample(
        Figure(
            (
                Person("girl", "blonde", "long", "green", smile=True),
                Person("boy", "brown", "short", "blue", "hat"),
            ),
            "blue",
        ),
        (400, 300),
        PNG,
    ),
    "two-boys.webp": Sample(
        Figure(
            (Person("boy", "red", "short", "black", glasses=True), Person("boy", "white", "long", "yellow")),
            "green",
        ),
        (520, 380),
        LOSSY_WEBP,
    ),
    "aka.jpg": Sample(Figure((AKA,), "white"), (440, 440), JPEG),
    "kuro.png": Sample(Figure((KURO,), "grey"), (320, 320), PNG),
    "sora.webp": Sample(Figure((SORA,), "yellow"), (400, 480), LOSSY_WEBP),
    "aka-and-kuro.jpg": Sample(Figure((AKA, KURO), "pink"), (600, 420), JPEG),
    "outdoors/green-field.jpg": Sample(
        _one("boy", "brown", "long", "green", "hat", "scarf", background="green", smile=True),
        (420, 320),
        JPEG,
    ),
    "青い髪.png": Sample(_one("girl", "blue", "short", "blue", background="purple", smile=True), (300, 300), PNG),
}


def write_images(demo: Path) -> int:
    """Write `images/` and `images.json` (caption and tags by file name); return the images' bytes."""
    shutil.rmtree(demo / "images", ignore_errors=True)
    truth = {}
    for name, sample in SAMPLES.items():
        path = demo / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        sample.write(sample.draw(sample.figure, random.Random(f"image {name}"), sample.size), path)
        truth[name] = {"caption": caption_of(sample.figure), "tags": sorted(tags_of(sample.figure))}
    text = json.dumps(truth, ensure_ascii=False, indent=2) + "\n"
    (demo / "images.json").write_text(text, encoding="utf-8")
    return sum(path.stat().st_size for path in (demo / "images").rglob("*") if path.is_file())
