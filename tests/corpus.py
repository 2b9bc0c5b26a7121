"""One image file for every trap that is known, made by code, each with what must become of it.

`make` writes all of them into a folder. A trap that is no trouble says what it must look like; the images differ, so
that a text which strays to another image is noticed.
"""

from __future__ import annotations

import base64
import os
import random
import struct
import sys
import unicodedata
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from scripts.demo_training.draw import draw
from scripts.demo_training.figures import random_figure
from tests.images.files import chunk, encoded, exif, raw_png

LINUX = sys.platform.startswith("linux")
SIDE = 64
PLAIN = (40, 90, 200)
# An image of 32x24 in PLAIN, as pillow-heif 1.8.1 and pillow-jxl-plugin 1.3.8 write it: both are not everywhere.
HEIC = base64.b85decode(
    "0000SW^{RQXk}?*00000ZE0pPXk}?*ZE0a<0004eZDn*}000000000XXk=`10000000000aA{+700000000000000000000B57=IV*mgE07O6l0RRC"
    "200001pa1~?00000001%o001LtX>Mi!000000RR916=`l}WdZ;I000310BCk&F#rGn01j|zbZr0t000010002|X>f9I0002oX>en20001WXm(>m0Rw"
    "OV0058x000009`FGC{rLC*01pFT0096PKmiN^|NjGU00093kN^M!000939=ZZRVE_RDDMA4O18@KU0|1Z!00RI30{|YNAb|yz>aLpR;31&EfB*mtfB"
    "*mk0EA)y0RRR>0l{;@i2wiq6Ju{|a&BX6cmM$a4FCp!0000KX>)L8000000000$0000$0000eV{Bn?0000W000010000O00001|NsBs00002|NsBk0"
    "00020000GaA|mH000000|*ER0000OX>e^}0000000001009Mo0s{qv0000wZDe6|0000kC;_h%A!1`d^(P|#|3hjZ_F_@~dD&rSa=O7=^7_E`WShYA"
    "s*#?6hiRuU6?g"
)
JXL = base64.b85decode("{|dzh027D;0Q>;8pCAAL6)K~Q8@!zB`SL@D#k7s<3~jY-VF_ciy)Z~fI6~$&yC<som=6H%v=qyL#}NXMVQn^1YiVgwNdf")
# The first bytes of a stream of JPEG XL that is 2^30 pixels high and as wide.
JXL_BOMB = b"\xff\x0a" + (0b110 | (2**30 - 1) << 3 | 1 << 33).to_bytes(10, "little") + bytes(20)


@dataclass(frozen=True)
class Trap:
    """A file and what must become of it.

    `tag` is the outcome code of `sdprep tag`, or "ok"; `caption` and `merge` are other ones where they differ. `looks`
    is what a model must see, for those that are "ok".
    """

    name: str | bytes
    data: bytes
    tag: str = "ok"
    caption: str = ""
    merge: str = ""
    looks: Image.Image | None = None

    @property
    def rel(self) -> str:
        """The name as Python has it."""
        return os.fsdecode(self.name)

    def outcome(self, command: str) -> str:
        """What must become of it in a run of a command."""
        return {"caption": self.caption, "merge": self.merge}.get(command) or self.tag


def art(seed: int) -> Image.Image:
    """A small drawing; no two seeds give the same."""
    rng = random.Random(seed)
    return draw(random_figure(rng), rng, (SIDE, SIDE))


def on_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, (255, 255, 255, 255)), rgba).convert("RGB")


def cut_out(image: Image.Image, least: int = 0) -> Image.Image:
    """The same image of which the upper half is transparent down to `least`, with colours hidden beneath."""
    alpha = np.full((SIDE, SIDE), 255, dtype=np.uint8)
    alpha[: SIDE // 2] = least
    image = image.copy()
    image.putalpha(Image.fromarray(alpha))
    return image


def wide(image: Image.Image) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """The samples of an image in sixteen bits."""
    return np.asarray(image).astype(np.uint16) * 257


def png_16(samples: np.ndarray[Any, np.dtype[np.uint16]], color: int, extra: bytes = b"") -> bytes:
    """A PNG of sixteen bits a sample, which Pillow cannot write in colour."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], 16, color, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + body


def with_chunk(data: bytes, kind: bytes, content: bytes) -> bytes:
    """A PNG with one more chunk behind its header."""
    return data[:33] + chunk(kind, content) + data[33:]


def without_segment(data: bytes, marker: int) -> bytes:
    """A JPEG without its segment of a kind."""
    place = data.index(bytes([0xFF, marker]))
    return data[:place] + data[place + 2 + int.from_bytes(data[place + 2 : place + 4], "big") :]


def with_size(data: bytes, width: int, height: int) -> bytes:
    """A JPEG or GIF that claims to be of another size."""
    if data.startswith(b"GIF"):
        return data[:6] + struct.pack("<HH", width, height) + data[10:]
    place = data.index(b"\xff\xc0")
    return data[: place + 5] + struct.pack(">HH", height, width) + data[place + 9 :]


def interlaced() -> bytes:
    """A PNG of one pixel in the order of Adam7, of which there is the first pass alone."""
    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 1)
    body = chunk(b"IDAT", zlib.compress(b"\0" + bytes(PLAIN))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body


def fits() -> bytes:
    cards = [f"{name:8}= {value:>20}" for name, value in (("SIMPLE", "T"), ("BITPIX", "8"), ("NAXIS", "0"))] + ["END"]
    return "".join(card.ljust(80) for card in cards).ljust(2880).encode()


def inks(image: Image.Image) -> Image.Image:
    """An image of which each ink is what its colour lacks, so that any reader gets the same colours back."""
    samples = 255 - np.asarray(image)
    return Image.fromarray(np.dstack([samples, np.zeros(samples.shape[:2], dtype=np.uint8)]), "CMYK")


def moving(kind: str, image: Image.Image, **options: Any) -> bytes:
    """An animation that begins with an image and goes on in black."""
    return encoded(image, kind, save_all=True, append_images=[Image.new("RGB", image.size)], **options)


Make = Callable[[Image.Image], bytes]
See = Callable[[Image.Image], Image.Image]


def plainly(kind: str, **options: Any) -> Make:
    """An image written by Pillow."""
    return lambda image: encoded(image, kind, **options)


def as_it_is(image: Image.Image) -> Image.Image:
    return image


def grey(image: Image.Image) -> Image.Image:
    return image.convert("L").convert("RGB")


def half_white(image: Image.Image) -> Image.Image:
    return on_white(cut_out(image))


def misty(image: Image.Image) -> Image.Image:
    return on_white(cut_out(image, 128))


def sixteen_colours(image: Image.Image) -> Image.Image:
    return image.quantize(16, dither=Image.Dither.NONE).convert("RGB")


def black_and_white(image: Image.Image) -> Image.Image:
    return image.convert("1", dither=Image.Dither.NONE).convert("RGB")


def with_alpha_16(image: Image.Image) -> bytes:
    return png_16(wide(cut_out(image)), 6)


def grey_alpha_16(image: Image.Image) -> bytes:
    return png_16(wide(cut_out(image.convert("L"))), 4)


def one_colour_away(image: Image.Image) -> bytes:
    """A palette of which the entry of the first pixel is transparent."""
    paletted = image.quantize(16, dither=Image.Dither.NONE)
    return encoded(paletted, "PNG", transparency=paletted.getpixel((0, 0)))


def one_colour_white(image: Image.Image) -> Image.Image:
    paletted = image.quantize(16, dither=Image.Dither.NONE)
    away = np.asarray(paletted) == paletted.getpixel((0, 0))
    return Image.fromarray(np.where(away[..., None], 255, np.asarray(paletted.convert("RGB"))).astype(np.uint8))


def gif_with_a_hole(image: Image.Image) -> bytes:
    paletted = image.quantize(16, dither=Image.Dither.NONE)
    return encoded(paletted, "GIF", transparency=paletted.getpixel((0, 0)))


def turned(orientation: int) -> Make:
    """An image lying on its side, with a note of it."""
    method = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}[orientation]
    return lambda image: encoded(image.transpose(method), "JPEG", quality=95, exif=exif(orientation))


def scaled_to(width: int, height: int) -> See:
    return lambda image: image.resize((width, height), Image.Resampling.BOX)


FINE: dict[str, Any] = {"quality": 95}
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LOSSLESS: dict[str, Any] = {"lossless": True, "exact": True}
SOUND: dict[str | bytes, tuple[Make, See]] = {
    "jpeg.jpg": (plainly("JPEG", **FINE), as_it_is),
    "jpeg-progressive.jpeg": (plainly("JPEG", progressive=True, **FINE), as_it_is),
    "jpeg-without-subsampling.jpg": (plainly("JPEG", subsampling=0, **FINE), as_it_is),
    "jpeg-grey.jpg": (lambda image: encoded(image.convert("L"), "JPEG", **FINE), grey),
    "jpeg-cmyk-adobe-inverted.jpg": (lambda image: encoded(inks(image), "JPEG", **FINE), as_it_is),
    "jpeg-cmyk-without-adobe.jpg": (
        lambda image: without_segment(encoded(inks(image), "JPEG", **FINE), 0xEE),
        as_it_is,
    ),
    "jpeg-rgb-inside.jpg": (plainly("JPEG", keep_rgb=True, **FINE), as_it_is),
    "jpeg-stereo-mpo.jpg": (lambda image: moving("MPO", image), as_it_is),
    "jpeg-trailing-bytes.jpg": (lambda image: encoded(image, "JPEG", **FINE) + b"\0" * 99, as_it_is),
    "jpeg-on-its-side.jpg": (turned(6), as_it_is),
    "jpeg-on-its-other-side.jpg": (turned(8), as_it_is),
    "jpeg-exif-is-garbage.jpg": (plainly("JPEG", exif=b"Exif\0\0garbage", **FINE), as_it_is),
    "jpeg-exif-ends-early.jpg": (plainly("JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0", **FINE), as_it_is),
    "jpeg-exif-of-no-direction.jpg": (plainly("JPEG", exif=exif(77), **FINE), as_it_is),
    "jpeg-icc-is-garbage.jpg": (plainly("JPEG", icc_profile=b"garbage" * 9, **FINE), as_it_is),
    "jpeg-icc-srgb.jpg": (plainly("JPEG", icc_profile=SRGB, **FINE), as_it_is),
    "JPEG-IN-CAPITALS.JPG": (plainly("JPEG", **FINE), as_it_is),
    "png.png": (plainly("PNG"), as_it_is),
    "png-black-and-white.png": (lambda image: encoded(image.convert("1", dither=Image.Dither.NONE)), black_and_white),
    "png-palette.png": (lambda image: encoded(image.quantize(16, dither=Image.Dither.NONE)), sixteen_colours),
    "png-palette-one-transparent.png": (one_colour_away, one_colour_white),
    "png-alpha-hides-colours.png": (lambda image: encoded(cut_out(image)), half_white),
    "png-half-transparent.png": (lambda image: encoded(cut_out(image, 128)), misty),
    "png-grey-alpha.png": (
        lambda image: encoded(cut_out(image.convert("L"))),
        lambda image: on_white(cut_out(image.convert("L"))),
    ),
    "png-16-bit-grey.png": (lambda image: png_16(wide(image.convert("L")), 0), grey),
    "png-16-bit-rgb.png": (lambda image: png_16(wide(image), 2), as_it_is),
    "png-16-bit-alpha.png": (with_alpha_16, half_white),
    "png-16-bit-grey-alpha.png": (grey_alpha_16, lambda image: on_white(cut_out(image.convert("L")))),
    "png-animated.png": (lambda image: moving("PNG", image), as_it_is),
    "png-interlaced-one-pixel.png": (lambda _: interlaced(), lambda _: Image.new("RGB", (1, 1), PLAIN)),
    "png-trailing-bytes.png": (lambda image: encoded(image) + b"<html>", as_it_is),
    "png-icc-is-garbage.png": (plainly("PNG", icc_profile=b"garbage"), as_it_is),
    "png-with-a-gamma.png": (lambda image: with_chunk(encoded(image), b"gAMA", struct.pack(">I", 100_000)), as_it_is),
    "strip-wide.png": (lambda image: encoded(scaled_to(3000, 1)(image)), scaled_to(3000, 1)),
    "strip-tall.png": (lambda image: encoded(scaled_to(1, 3000)(image)), scaled_to(1, 3000)),
    "gif.gif": (lambda image: encoded(image.quantize(16, dither=Image.Dither.NONE), "GIF"), sixteen_colours),
    "gif-animated.gif": (lambda image: moving("GIF", image.quantize(16, dither=Image.Dither.NONE)), sixteen_colours),
    "gif-one-transparent.gif": (gif_with_a_hole, one_colour_white),
    "webp.webp": (plainly("WEBP", **LOSSLESS), as_it_is),
    "webp-lossy.webp": (plainly("WEBP", **FINE), as_it_is),
    "webp-alpha-hides-colours.webp": (lambda image: encoded(cut_out(image), "WEBP", **LOSSLESS), half_white),
    "webp-animated.webp": (lambda image: moving("WEBP", image, lossless=True), as_it_is),
    "avif.avif": (plainly("AVIF", **FINE), as_it_is),
    "avif-alpha-hides-colours.avif": (lambda image: encoded(cut_out(image), "AVIF", **FINE), half_white),
    "avif-animated.avif": (lambda image: moving("AVIF", image, **FINE), as_it_is),
    "bmp.bmp": (plainly("BMP"), as_it_is),
    "bmp-palette.bmp": (lambda image: encoded(image.quantize(16, dither=Image.Dither.NONE), "BMP"), sixteen_colours),
    "misnamed-png.jpg": (plainly("PNG"), as_it_is),
    "misnamed-jpeg.png": (plainly("JPEG", **FINE), as_it_is),
    "misnamed-webp.jpg": (plainly("WEBP", **LOSSLESS), as_it_is),
    "name with spaces .png": (plainly("PNG"), as_it_is),
    "名前-😀.png": (plainly("PNG"), as_it_is),
}
# Names that Linux has and other systems refuse.
if LINUX:
    # Two files here, and one on macOS; each has a sidecar of its own name.
    SOUND[unicodedata.normalize("NFC", "naïve.png")] = (plainly("PNG"), as_it_is)
    SOUND[unicodedata.normalize("NFD", "naïve.png")] = (plainly("PNG"), as_it_is)
    SOUND["name-with\na-line-break.png"] = (plainly("PNG"), as_it_is)
    SOUND["name-with-\x1b[31mcolour.png"] = (plainly("PNG"), as_it_is)


def _broken() -> Iterator[Trap]:
    """Files without an image that could be had."""
    picture = art(-1)
    whole = {kind: encoded(picture, kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF")}
    damaged = bytearray(whole["PNG"])
    damaged[len(damaged) // 2] ^= 0xFF
    yield Trap("empty.jpg", b"", "empty_file")
    for name, data in {
        "html.jpg": b"<!DOCTYPE html><html><body>403 Forbidden</body></html>",
        "html-with-a-mark.png": b"\xef\xbb\xbf\n<HTML>gone</HTML>",
        "json.webp": b'{"error": "not found"}',
        "text.png": b"not an image\n",
        "svg.png": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "git-lfs.jpg": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        "pdf.jpg": encoded(picture, "PDF"),
        "eps.png": encoded(picture, "EPS"),
        "tiff.png": encoded(picture, "TIFF"),
        "fits.png": fits(),
        "msp.png": encoded(picture.convert("1"), "MSP"),
        "icon.png": encoded(picture, "ICO"),
        "jpeg-2000.jpg": encoded(picture, "JPEG2000"),
        "ppm.png": encoded(picture, "PPM"),
        "video.jpg": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(99),
        "zip.png": b"PK\3\4" + bytes(99),
        "zeros.jpg": bytes(64),
    }.items():
        yield Trap(name, data, "not_an_image")
    for kind, name in {"JPEG": "cut.jpg", "PNG": "cut.png", "BMP": "cut.bmp", "GIF": "cut.gif"}.items():
        yield Trap(f"{kind.lower()}-{name}", whole[kind][: len(whole[kind]) * 9 // 10], "truncated", merge="ok")
    for name, length in {"jpeg.jpg": 100, "png.png": 20, "webp.webp": 400, "avif.avif": 500}.items():
        kind = name.partition(".")[0]
        yield Trap(name.replace(".", "-cut-early."), whole[kind.upper()][:length], "truncated")
    yield Trap("png-damaged.png", bytes(damaged), "corrupt", merge="ok")
    yield Trap("png-wrong-checksum.png", whole["PNG"][:29] + bytes(4) + whole["PNG"][33:], "not_an_image")
    yield Trap("png-without-width.png", raw_png((0, 4), 8, 2, b""), "not_an_image")
    text = b"k\0\0" + zlib.compress(bytes(10**8), 9)
    yield Trap("png-text-bomb.png", with_chunk(whole["PNG"], b"zTXt", text), "ok")
    yield Trap(
        "jpeg-without-scan.jpg", whole["JPEG"][: whole["JPEG"].index(b"\xff\xda")] + b"\xff\xd9", "corrupt", merge="ok"
    )
    yield Trap("webp-damaged.webp", whole["WEBP"][:23] + bytes(len(whole["WEBP"]) - 23), "corrupt")
    yield Trap("avif-damaged.avif", whole["AVIF"][:40] + bytes(len(whole["AVIF"]) - 40), "corrupt")


def _enormous() -> Iterator[Trap]:
    """Small files that would become large: each says so in its header, and trainers may have its size."""
    small = art(-2)
    for name, data in {
        "bomb-100-megapixels.png": raw_png((10_001, 10_000), 8, 2, b""),
        "bomb-900-megapixels.png": raw_png((30_000, 30_000), 8, 2, b""),
        "bomb-3600-megapixels.png": raw_png((60_000, 60_000), 8, 2, b""),
        "bomb-jpeg.jpg": with_size(encoded(small, "JPEG"), 65_500, 65_500),
        "bomb-gif.gif": with_size(encoded(small, "GIF"), 65_535, 65_535),
    }.items():
        yield Trap(name, data, "too_large", merge="ok")


def _clashing() -> Iterator[Trap]:
    """Images that would share a sidecar, here or where the folder is copied to."""
    pairs: list[tuple[str, ...]] = [("pair.jpg", "pair.png")]
    if LINUX:
        pairs += [("Case.png", "case.jpg")]
        pairs += [(unicodedata.normalize("NFC", "café.png"), unicodedata.normalize("NFD", "café.jpg"))]
    for number, pair in enumerate(pairs):
        for name in pair:
            yield Trap(name, encoded(art(1000 + number)), "stem_collision")


def _odd() -> Iterator[Trap]:
    """What depends on the system, and on what is installed."""
    for name, module, data in (
        ("heic.heic", "pillow_heif", HEIC),
        ("misnamed-heic.jpg", "pillow_heif", HEIC),
        ("jpeg-xl.jxl", "pillow_jxl", JXL),
    ):
        outcome = "ok" if find_spec(module) else "missing_decoder"
        yield Trap(name, data, outcome, looks=Image.new("RGB", (32, 24), PLAIN))
    outcome = "too_large" if find_spec("pillow_jxl") else "missing_decoder"
    yield Trap("bomb-jpeg-xl.jxl", JXL_BOMB, outcome, merge="ok" if find_spec("pillow_jxl") else "")
    if LINUX:
        yield Trap("long-" + "n" * 245 + ".png", encoded(art(2000)), caption="unwritable", looks=art(2000))
        # The JSON of `merge` is text, so it has no place for such a name.
        yield Trap(b"name-\xff.png", encoded(art(2001)), merge="unreadable", looks=art(2001))
    if LINUX and os.geteuid() != 0:
        yield Trap("locked.png", encoded(art(2002)), "unreadable")


@cache
def traps() -> list[Trap]:
    """All of them, made once."""
    sound = [
        Trap(name, make(art(seed)), looks=see(art(seed))) for seed, (name, (make, see)) in enumerate(SOUND.items())
    ]
    return [*sound, *_broken(), *_enormous(), *_clashing(), *_odd()]


def write(traps: list[Trap], folder: Path) -> None:
    """Put the files of traps into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for trap in traps:
        path = folder / trap.rel
        path.write_bytes(trap.data)
        if trap.tag == "unreadable":
            path.chmod(0)
