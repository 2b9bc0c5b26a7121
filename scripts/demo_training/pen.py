"""A pen that draws in units of a cartoon head."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scripts.demo_training.palette import INK, Colour

if TYPE_CHECKING:
    from PIL.Image import Image

Point = tuple[float, float]


def _rounded(points: Sequence[Point], rounds: int = 3) -> list[Point]:
    """Cut the corners of a closed polygon again and again (Chaikin), which ends in a smooth curve."""
    curve = list(points)
    for _ in range(rounds):
        pairs = list(zip(curve, curve[1:] + curve[:1], strict=True))
        curve = [
            (a[0] * near + b[0] * (1 - near), a[1] * near + b[1] * (1 - near))
            for a, b in pairs
            for near in (0.75, 0.25)
        ]
    return curve


class Pen:
    """Draws in units of a head's radius around the head's centre: x to the right, y down."""

    def __init__(self, layer: "Image", centre: Point, unit: float, width: float) -> None:
        from PIL import ImageDraw

        self._draw = ImageDraw.Draw(layer)
        self._centre, self._unit = centre, unit
        self._width = width

    def _place(self, points: Sequence[Point]) -> list[Point]:
        (x0, y0), unit = self._centre, self._unit
        return [(x0 + x * unit, y0 + y * unit) for x, y in points]

    def _pixels(self, width: float | None) -> int:
        return max(1, round((self._width if width is None else width) * self._unit))

    def shape(self, points: Sequence[Point], fill: Colour, ink: Colour | None = INK, round_off: bool = True) -> None:
        """Fill a closed shape and draw its outline, with rounded or with sharp corners."""
        placed = self._place(_rounded(points) if round_off else points)
        self._draw.polygon(placed, fill=fill)
        if ink is not None:
            self._draw.line([*placed, *placed[:2]], fill=ink, width=self._pixels(None), joint="curve")

    def oval(self, centre: Point, radii: Point, fill: Colour, ink: Colour | None = INK) -> None:
        """Fill an ellipse with upright axes and draw its outline."""
        (x, y), (rx, ry) = centre, radii
        box = self._place([(x - rx, y - ry), (x + rx, y + ry)])
        self._draw.ellipse(box, fill=fill, outline=ink, width=self._pixels(None) if ink else 0)

    def stroke(self, points: Sequence[Point], colour: Colour = INK, width: float | None = None) -> None:
        """Draw an open line, as wide as an outline unless `width` says otherwise."""
        self._draw.line(self._place(points), fill=colour, width=self._pixels(width), joint="curve")


def mirrored(points: Sequence[Point]) -> list[Point]:
    """Return the outline of a symmetric shape, given its right half from top to bottom."""
    return [*points, *((-x, y) for x, y in reversed(points))]
