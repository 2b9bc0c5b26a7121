"""The colours of the drawings, by the names that captions and tags use."""

import random
from collections.abc import Mapping, Sequence

Colour = tuple[int, int, int]

INK: Colour = (52, 40, 50)
WHITE: Colour = (252, 252, 252)
HAIR: Mapping[str, Colour] = {
    "red": (205, 38, 44),
    "blonde": (246, 210, 96),
    "brown": (126, 78, 44),
    "green": (66, 168, 84),
    "blue": (52, 108, 214),
    "purple": (134, 70, 180),
    "pink": (250, 150, 190),
    "black": (50, 46, 56),
    "grey": (150, 150, 156),
    "white": (244, 244, 248),
}
EYES: Mapping[str, Colour] = {
    "blue": (40, 120, 235),
    "green": (36, 170, 70),
    "red": (220, 36, 40),
    "yellow": (245, 196, 30),
    "purple": (150, 60, 205),
    "black": (44, 40, 46),
}
BACKDROP: Mapping[str, Colour] = {
    "white": (250, 250, 250),
    "grey": (138, 140, 144),
    "black": (26, 26, 30),
    "blue": (120, 180, 240),
    "green": (136, 208, 130),
    "yellow": (250, 228, 110),
    "pink": (250, 182, 204),
    "purple": (176, 140, 220),
}
SKINS: Sequence[Colour] = ((255, 226, 202), (250, 212, 184), (240, 196, 160), (222, 172, 132))
DRESSES: Sequence[Colour] = (
    (236, 110, 140),
    (120, 190, 200),
    (240, 160, 90),
    (170, 130, 210),
    (240, 220, 140),
)
JACKETS: Sequence[Colour] = ((50, 70, 120), (70, 90, 80), (100, 60, 60), (80, 80, 90), (40, 100, 120))
CLOTHS: Sequence[Colour] = ((214, 70, 60), (60, 120, 190), (90, 150, 80), (240, 180, 60), (130, 90, 160))
EMBLEM_CLOTH: Colour = (48, 44, 66)
"""The named characters' cloth, on which their emblems stand out."""


def shade(colour: Colour, factor: float) -> Colour:
    """Return the colour with its channels multiplied, cut at 0 and 255."""
    red, green, blue = (max(0, min(255, round(channel * factor))) for channel in colour)
    return red, green, blue


def jitter(rng: random.Random, colour: Colour) -> Colour:
    """Return a colour nearby: up to 9 of 255 away in each channel."""
    red, green, blue = (max(0, min(255, channel + rng.randint(-9, 9))) for channel in colour)
    return red, green, blue
