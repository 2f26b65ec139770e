"""The outlines: each kind of object as a clean silhouette in a unit square, y pointing down.

Knows geometry only. Strokes are bold, at least an eighth of the side, so that they survive at 9 pixels. Only the
silhouette tells kinds apart, since every object has a single colour.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import PIL.Image
import PIL.ImageDraw

Point = tuple[float, float]
Bounds = tuple[float, float, float, float]  # left, top, right, bottom


class Pen:
    """Draws on a square mask in unit coordinates; `ink=0` cuts holes."""

    def __init__(self, side: int) -> None:
        self.mask = PIL.Image.new("L", (side, side), 0)
        self._draw = PIL.ImageDraw.Draw(self.mask)
        self._side = side

    def _scaled(self, bounds: Bounds) -> Bounds:
        left, top, right, bottom = (edge * self._side for edge in bounds)
        # PIL includes the last pixel, so subtract one
        return left, top, right - 1, bottom - 1

    def polygon(self, points: Sequence[Point], ink: int = 255) -> None:
        self._draw.polygon([(x * self._side, y * self._side) for x, y in points], fill=ink)

    def box(self, bounds: Bounds, ink: int = 255, radius: float = 0) -> None:
        self._draw.rounded_rectangle(self._scaled(bounds), radius * self._side, fill=ink)

    def disc(self, x: float, y: float, radius: float, ink: int = 255) -> None:
        self.oval((x - radius, y - radius, x + radius, y + radius), ink)

    def oval(self, bounds: Bounds, ink: int = 255) -> None:
        self._draw.ellipse(self._scaled(bounds), fill=ink)


def _circle(pen: Pen) -> None:
    pen.disc(0.5, 0.5, 0.5)


def _square(pen: Pen) -> None:
    pen.box((0.04, 0.04, 0.96, 0.96))


def _triangle(pen: Pen) -> None:
    pen.polygon([(0.5, 0.05), (1, 0.95), (0, 0.95)])


def _star(pen: Pen) -> None:
    corners = []
    for i in range(10):
        radius = 0.53 if i % 2 == 0 else 0.22
        angle = math.pi * i / 5
        corners.append((0.5 + radius * math.sin(angle), 0.53 - radius * math.cos(angle)))
    pen.polygon(corners)


def _heart(pen: Pen) -> None:
    curve = []
    for i in range(60):
        t = math.tau * i / 60
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        curve.append((0.5 + x / 32, 0.44 - y / 31))
    pen.polygon(curve)


def _cross(pen: Pen) -> None:
    pen.box((0.34, 0.02, 0.66, 0.98))
    pen.box((0.02, 0.34, 0.98, 0.66))


def _diamond(pen: Pen) -> None:
    pen.polygon([(0.5, 0), (0.84, 0.5), (0.5, 1), (0.16, 0.5)])


def _ring(pen: Pen) -> None:
    pen.disc(0.5, 0.5, 0.5)
    pen.disc(0.5, 0.5, 0.28, ink=0)


def _moon(pen: Pen) -> None:
    pen.disc(0.56, 0.5, 0.5)
    pen.disc(0.79, 0.42, 0.41, ink=0)


def _arrow(pen: Pen) -> None:
    pen.box((0, 0.37, 0.6, 0.63))
    pen.polygon([(0.5, 0.08), (1, 0.5), (0.5, 0.92)])


def _tree(pen: Pen) -> None:
    pen.polygon([(0.5, 0), (0.8, 0.42), (0.2, 0.42)])
    pen.polygon([(0.5, 0.15), (0.94, 0.8), (0.06, 0.8)])
    pen.box((0.4, 0.75, 0.6, 1))


def _house(pen: Pen) -> None:
    pen.polygon([(0.5, 0.02), (1, 0.46), (0, 0.46)])
    pen.box((0.12, 0.45, 0.88, 0.98))
    pen.box((0.4, 0.64, 0.6, 0.98), ink=0)


def _car(pen: Pen) -> None:
    pen.box((0, 0.46, 1, 0.74), radius=0.08)
    pen.polygon([(0.14, 0.5), (0.28, 0.18), (0.7, 0.18), (0.86, 0.5)])
    pen.polygon([(0.28, 0.46), (0.35, 0.28), (0.64, 0.28), (0.72, 0.46)], ink=0)
    pen.disc(0.25, 0.75, 0.16)
    pen.disc(0.75, 0.75, 0.16)


def _fish(pen: Pen) -> None:
    pen.oval((0, 0.2, 0.76, 0.8))
    pen.polygon([(0.6, 0.5), (1, 0.14), (1, 0.86)])
    pen.disc(0.2, 0.42, 0.07, ink=0)


def _flower(pen: Pen) -> None:
    for i in range(5):
        angle = math.tau * i / 5
        pen.disc(0.5 + 0.29 * math.sin(angle), 0.52 - 0.29 * math.cos(angle), 0.22)
    pen.disc(0.5, 0.52, 0.2)
    pen.disc(0.5, 0.52, 0.13, ink=0)


def _cup(pen: Pen) -> None:
    pen.disc(0.7, 0.46, 0.29)
    pen.disc(0.7, 0.46, 0.14, ink=0)
    pen.box((0.02, 0.1, 0.68, 0.92), radius=0.1)
    pen.box((0.02, 0.1, 0.68, 0.4))


def _boat(pen: Pen) -> None:
    pen.polygon([(0, 0.7), (1, 0.7), (0.8, 1), (0.2, 1)])
    pen.box((0.42, 0, 0.54, 0.75))
    pen.polygon([(0.5, 0.02), (0.95, 0.6), (0.5, 0.6)])


def _umbrella(pen: Pen) -> None:
    pen.disc(0.5, 0.5, 0.5)
    pen.box((0, 0.5, 1, 1), ink=0)
    for x in (1 / 6, 0.5, 5 / 6):
        pen.oval((x - 1 / 6, 0.42, x + 1 / 6, 0.58), ink=0)
    pen.box((0.44, 0.3, 0.56, 0.86))
    pen.disc(0.36, 0.84, 0.2)
    pen.disc(0.36, 0.82, 0.08, ink=0)
    pen.box((0.1, 0.6, 0.44, 0.82), ink=0)


def _key(pen: Pen) -> None:
    pen.disc(0.25, 0.5, 0.25)
    pen.disc(0.25, 0.5, 0.11, ink=0)
    pen.box((0.46, 0.43, 1, 0.57))
    pen.box((0.66, 0.5, 0.78, 0.76))
    pen.box((0.88, 0.5, 1, 0.76))


def _crown(pen: Pen) -> None:
    pen.polygon([(0, 0.18), (0.26, 0.52), (0.5, 0.1), (0.74, 0.52), (1, 0.18), (0.9, 0.9), (0.1, 0.9)])


def _hourglass(pen: Pen) -> None:
    pen.polygon([(0.1, 0), (0.9, 0), (0.58, 0.5), (0.9, 1), (0.1, 1), (0.42, 0.5)])


def _cactus(pen: Pen) -> None:
    pen.box((0.38, 0, 0.62, 1), radius=0.1)
    pen.box((0.05, 0.46, 0.5, 0.63), radius=0.05)
    pen.box((0.05, 0.2, 0.22, 0.63), radius=0.08)
    pen.box((0.5, 0.58, 0.95, 0.75), radius=0.05)
    pen.box((0.78, 0.32, 0.95, 0.75), radius=0.08)


def _ladder(pen: Pen) -> None:
    pen.box((0.14, 0, 0.29, 1))
    pen.box((0.71, 0, 0.86, 1))
    for y in (0.12, 0.43, 0.74):
        pen.box((0.2, y, 0.8, y + 0.14))


def _cat(pen: Pen) -> None:
    pen.oval((0.04, 0.24, 0.96, 1))
    pen.polygon([(0.06, 0), (0.48, 0.3), (0.06, 0.62)])
    pen.polygon([(0.94, 0), (0.52, 0.3), (0.94, 0.62)])
    pen.disc(0.31, 0.58, 0.08, ink=0)
    pen.disc(0.69, 0.58, 0.08, ink=0)


_OUTLINES: dict[str, Callable[[Pen], None]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "cross": _cross,
    "diamond": _diamond,
    "ring": _ring,
    "moon": _moon,
    "arrow": _arrow,
    "tree": _tree,
    "house": _house,
    "car": _car,
    "fish": _fish,
    "flower": _flower,
    "cup": _cup,
    "boat": _boat,
    "umbrella": _umbrella,
    "key": _key,
    "crown": _crown,
    "hourglass": _hourglass,
    "cactus": _cactus,
    "ladder": _ladder,
    "cat": _cat,
}
#: the kinds of object, by their singular
KINDS = tuple(_OUTLINES)


class Mask(NamedTuple):
    """A silhouette cropped to its bounds, and their place in the object's square."""

    alpha: PIL.Image.Image
    left: int
    top: int


@lru_cache(maxsize=512)
def mask(kind: str, side: int) -> Mask:
    """The antialiased silhouette of `kind` in a square of `side` pixels: drawn larger, averaged down."""
    finer = 8 if side <= 64 else 4
    pen = Pen(side * finer)
    _OUTLINES[kind](pen)
    drawn = pen.mask.reduce(finer)
    left, top, right, bottom = drawn.getbbox() or (0, 0, side, side)
    return Mask(drawn.crop((left, top, right, bottom)), left, top)
