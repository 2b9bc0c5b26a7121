"""Draws the people of a `Figure` as cartoon stickers on a plain background."""

import random
from math import cos, pi, sin
from typing import TYPE_CHECKING

from scripts.demo_training.figures import CLOSED, Figure, Person
from scripts.demo_training.palette import (
    BACKDROP,
    CLOTHS,
    DRESSES,
    EMBLEM_CLOTH,
    EYES,
    HAIR,
    INK,
    JACKETS,
    SKINS,
    WHITE,
    Colour,
    jitter,
    shade,
)
from scripts.demo_training.pen import Pen, mirrored

if TYPE_CHECKING:
    from PIL.Image import Image

OVERSAMPLING = 2


def _draw_back_hair(pen: Pen, person: Person, hair: Colour) -> None:
    if person.hair_length == "long":
        half = [(0.0, -1.25), (0.95, -1.2), (1.3, -0.2), (1.28, 0.9), (1.5, 1.9), (1.1, 2.3), (0.5, 2.0)]
    else:
        half = [(0.0, -1.22), (0.9, -1.2), (1.26, -0.3), (1.2, 0.35), (1.02, 0.72), (0.6, 0.6)]
    pen.shape(mirrored(half), shade(hair, 0.82))


def _draw_body(pen: Pen, person: Person, skin: Colour, cloth: Colour, rng: random.Random) -> None:
    pen.shape([(-0.28, 0.7), (0.28, 0.7), (0.3, 1.4), (-0.3, 1.4)], shade(skin, 0.92), round_off=False)
    half = [(0.2, 1.12), (0.75, 1.2), (1.12, 1.55), (1.25, 2.4), (1.35, 5.0), (1.4, 9.0), (0.0, 9.0)]
    pen.shape(mirrored(half), cloth)
    accent = jitter(rng, rng.choice(CLOTHS))
    if person.gender == "girl":
        pen.shape(mirrored([(0.0, 1.5), (0.45, 1.52), (0.72, 1.28), (0.3, 1.02)]), WHITE)
        for side in (-1, 1):
            pen.shape([(0.0, 1.4), (side * 0.42, 1.2), (side * 0.42, 1.66)], accent, round_off=False)
        pen.oval((0.0, 1.42), (0.1, 0.1), accent)
    else:
        pen.shape([(-0.36, 1.1), (0.36, 1.1), (0.0, 2.3)], WHITE, round_off=False)
        tie = [(-0.12, 1.22), (0.12, 1.22), (0.16, 1.95), (0.0, 2.15), (-0.16, 1.95)]
        pen.shape(tie, accent, round_off=False)
        for side in (-1, 1):
            lapel = [(side * 0.3, 1.02), (side * 0.62, 1.3), (side * 0.42, 1.5), (0.0, 2.3)]
            pen.shape(lapel, shade(cloth, 1.25), round_off=False)


def _draw_emblem(pen: Pen, character: str) -> None:
    x, y = 0.68, 1.86
    if character.startswith("aka"):
        star = [(x + r * sin(turn * pi / 5), y - r * cos(turn * pi / 5)) for turn, r in enumerate((0.34, 0.15) * 5)]
        pen.shape(star, (255, 226, 60), round_off=False)
    elif character.startswith("kuro"):
        pen.oval((x, y), (0.3, 0.3), (246, 236, 170))
        pen.oval((x + 0.14, y - 0.08), (0.22, 0.22), EMBLEM_CLOTH, None)
    else:
        half = [(0.0, -0.14), (0.26, -0.36), (0.4, -0.1), (0.0, 0.4)]
        pen.shape([(x + dx, y + dy) for dx, dy in mirrored(half)], (255, 96, 140))


def _draw_scarf(pen: Pen, rng: random.Random) -> None:
    cloth = jitter(rng, rng.choice(CLOTHS))
    side = rng.choice((-1, 1))
    tail = [(side * 0.2, 1.2), (side * 0.62, 1.2), (side * 0.66, 2.1), (side * 0.22, 2.1)]
    pen.shape(tail, shade(cloth, 0.85), round_off=False)
    pen.stroke([(side * 0.22, 1.85), (side * 0.64, 1.85)], WHITE, 0.12)
    pen.shape(mirrored([(0.0, 0.98), (0.7, 0.78), (0.98, 1.05), (0.85, 1.4), (0.0, 1.52)]), cloth)
    for x in (-0.5, 0.0, 0.5):
        pen.stroke([(x * 0.95, 1.0 - abs(x) * 0.1), (x, 1.36)], WHITE, 0.1)


def _draw_eyes(pen: Pen, person: Person, gap: float, iris: Colour) -> None:
    for side in (-1, 1):
        x, y = side * gap, 0.12
        if person.eyes == CLOSED:
            arch = ((-0.24, 0.14), (-0.12, -0.06), (0.0, -0.13), (0.12, -0.06), (0.24, 0.14))
            pen.stroke([(x + dx, y + dy) for dx, dy in arch], INK, 0.1)
            continue
        pen.oval((x, y), (0.25, 0.32), WHITE, INK)
        pen.oval((x, y + 0.03), (0.21, 0.27), iris, None)
        pen.oval((x, y + 0.06), (0.08, 0.11), shade(iris, 0.35), None)
        pen.oval((x + 0.08, y - 0.1), (0.07, 0.08), WHITE, None)
        lid = ((-0.27, -0.16), (-0.1, -0.32), (0.1, -0.32), (0.27, -0.16))
        pen.stroke([(x + dx, y + dy) for dx, dy in lid], INK, 0.09)
        if person.gender == "girl":
            pen.stroke([(x + side * 0.22, y - 0.2), (x + side * 0.38, y - 0.3)], INK, 0.07)


def _draw_face(pen: Pen, person: Person, skin: Colour, iris: Colour, rng: random.Random) -> None:
    gap = rng.uniform(0.4, 0.46)
    for side in (-1, 1):
        pen.oval((side * 0.96, 0.2), (0.15, 0.2), shade(skin, 0.94))
    half = [(0.0, -1.15), (0.8, -1.1), (1.04, -0.1), (0.94, 0.65), (0.36, 1.06), (0.0, 1.02)]
    pen.shape(mirrored(half), skin)
    _draw_eyes(pen, person, gap, iris)
    for side in (-1, 1):
        if person.gender == "girl":
            pen.oval((side * 0.62, 0.52), (0.15, 0.09), (246, 150, 150), None)
        else:
            pen.stroke([(side * 0.2, -0.36), (side * 0.66, -0.42)], INK, 0.11)
    pen.stroke([(0.0, 0.42), (0.03, 0.47)], shade(skin, 0.6))
    if person.smile:
        mouth = [(0.3 * cos(turn * pi / 8), 0.62 + 0.26 * sin(turn * pi / 8)) for turn in range(9)]
        pen.shape(mouth, (190, 52, 62), round_off=False)
    else:
        pen.stroke([(-0.13, 0.72), (0.13, 0.72)], INK, 0.07)


def _draw_fringe(pen: Pen, person: Person, hair: Colour, rng: random.Random) -> None:
    lean = rng.uniform(-0.12, 0.12)
    crown = [(-1.12, -0.1), (-1.08, -0.8), (-0.55, -1.24), (0.55, -1.24), (1.08, -0.8), (1.12, -0.1)]
    locks = [(0.86, -0.1), (0.72, -0.62), (0.4 + lean, -0.26), (0.2, -0.66), (-0.1 + lean, -0.24)]
    pen.shape([*crown, *locks, (-0.34, -0.66), (-0.6 + lean, -0.28), (-0.8, -0.6), (-0.9, -0.1)], hair)
    fall = 1.5 if person.hair_length == "long" else 0.3
    for side in (-1, 1):
        lock = ((0.84, -0.5), (1.16, -0.4), (1.2, fall * 0.7), (1.02, fall), (0.9, fall * 0.5))
        pen.shape([(side * x, y) for x, y in lock], hair)
    shine = shade(hair, 1.25) if max(hair) < 190 else shade(hair, 1.12)
    pen.stroke([(-0.62, -0.86), (-0.3, -1.0), (0.05, -1.03)], shade(shine, 1.1), 0.09)


def _draw_headwear(pen: Pen, person: Person, hair: Colour, rng: random.Random) -> None:
    if person.headwear == "cat ears":
        for side in (-1, 1):
            pen.shape([(side * 0.3, -1.14), (side * 0.86, -1.62), (side * 1.04, -0.7)], hair, round_off=False)
            inner = [(side * 0.52, -1.14), (side * 0.82, -1.42), (side * 0.92, -0.92)]
            pen.shape(inner, (250, 170, 180), None, round_off=False)
    elif person.headwear == "hat":
        cloth = jitter(rng, rng.choice(CLOTHS))
        pen.shape(mirrored([(0.0, -1.62), (0.7, -1.62), (0.92, -1.15), (0.95, -0.7), (0.0, -0.62)]), cloth)
        band = mirrored([(0.0, -0.98), (0.92, -1.02), (0.96, -0.76), (0.0, -0.7)])
        pen.shape(band, shade(cloth, 0.6), None, round_off=False)
        pen.shape(mirrored([(0.0, -0.84), (1.1, -0.9), (1.55, -0.62), (1.0, -0.56), (0.0, -0.56)]), cloth)


def _draw_glasses(pen: Pen) -> None:
    for side in (-1, 1):
        ring = [(0.38 * cos(turn * pi / 12), 0.38 * sin(turn * pi / 12)) for turn in range(26)]
        pen.stroke([(side * 0.45 + dx, 0.14 + dy) for dx, dy in ring], INK, 0.1)
        pen.stroke([(side * 0.83, 0.1), (side * 1.0, 0.02)], INK, 0.1)
    pen.stroke([(-0.1, 0.1), (0.1, 0.1)], INK, 0.1)


def _draw_person(pen: Pen, person: Person, rng: random.Random) -> None:
    hair = jitter(rng, HAIR[person.hair_colour])
    skin = jitter(rng, rng.choice(SKINS))
    iris = INK if person.eyes == CLOSED else jitter(rng, EYES[person.eyes])
    cloth = jitter(rng, rng.choice(DRESSES if person.gender == "girl" else JACKETS))
    if person.character:
        # An emblem is told from the cloth only if the cloth does not change.
        cloth = EMBLEM_CLOTH
    _draw_back_hair(pen, person, hair)
    _draw_body(pen, person, skin, cloth, rng)
    if person.scarf:
        _draw_scarf(pen, rng)
    if person.character:
        _draw_emblem(pen, person.character)
    _draw_face(pen, person, skin, iris, rng)
    _draw_fringe(pen, person, hair, rng)
    if person.glasses:
        _draw_glasses(pen)
    _draw_headwear(pen, person, hair, rng)


def draw_cutout(figure: Figure, rng: random.Random, size: tuple[int, int]) -> "Image":
    """Draw the people alone: an RGBA sticker of `size` (width, height), transparent around a white rim."""
    from PIL import Image, ImageFilter

    width, height = (side * OVERSAMPLING for side in size)
    people = Image.new("RGBA", (width, height))
    cell = width / len(figure.people)
    for index, person in enumerate(figure.people):
        unit = min(cell / 3.1, height / 3.75) * rng.uniform(0.86, 1.0)
        centre = (cell * (index + 0.5 + rng.uniform(-0.03, 0.03)), height * rng.uniform(0.44, 0.48))
        _draw_person(Pen(people, centre, unit, rng.uniform(0.045, 0.065)), person, rng)
    blurred = people.getchannel("A").filter(ImageFilter.GaussianBlur(min(width, height) * 0.012))
    cutout = Image.new("RGBA", people.size, (*WHITE, 0))
    cutout.putalpha(blurred.point([0] * 12 + [255] * 244))
    return Image.alpha_composite(cutout, people).resize(size, Image.Resampling.LANCZOS)


def draw_background(colour: str, rng: random.Random, size: tuple[int, int]) -> "Image":
    """Draw a plain background with a faint pattern: an RGB image of `size` (width, height)."""
    from PIL import Image, ImageDraw

    base = jitter(rng, BACKDROP[colour])
    image = Image.new("RGB", size, base)
    brush = ImageDraw.Draw(image)
    faint = shade(base, rng.uniform(0.94, 1.05))
    step = max(8, round(min(size) * rng.uniform(0.08, 0.16)))
    pattern = rng.choice(("plain", "dots", "stripes"))
    for x in range(-size[1], size[0], step) if pattern == "stripes" else ():
        brush.line([(x, 0), (x + size[1], size[1])], fill=faint, width=step // 3)
    for x in range(0, size[0], step) if pattern == "dots" else ():
        for y in range(x // step % 2 * step // 2, size[1], step):
            brush.ellipse([x, y, x + step // 3, y + step // 3], fill=faint)
    return image


def draw(figure: Figure, rng: random.Random, size: tuple[int, int]) -> "Image":
    """Draw the image: an RGB image of `size` (width, height), the same for the same state of `rng`."""
    from PIL import Image

    image = draw_background(figure.background, rng, size).convert("RGBA")
    return Image.alpha_composite(image, draw_cutout(figure, rng, size)).convert("RGB")
