"""The words of the scene world, and how each looks: colours, backgrounds, sizes.

Knows names and numbers only. The kinds of object are in `shapes`, beside the outlines that draw them.
"""

from typing import NamedTuple

Rgb = tuple[int, int, int]

#: twelve colours that are easy to tell apart, at 9 pixels or at 900
COLOURS: dict[str, Rgb] = {
    "red": (222, 28, 36),
    "orange": (255, 136, 0),
    "yellow": (255, 218, 0),
    "green": (22, 146, 48),
    "turquoise": (0, 200, 196),
    "blue": (28, 76, 226),
    "purple": (132, 38, 178),
    "pink": (255, 122, 190),
    "brown": (128, 74, 28),
    "black": (16, 16, 16),
    "grey": (128, 128, 128),
    "white": (255, 255, 255),
}


class Background(NamedTuple):
    """One or two tones, and the colours that would not stand out on them."""

    tones: tuple[Rgb, ...]
    pattern: str
    hides: frozenset[str]


#: said as "on a … background"
BACKGROUNDS: dict[str, Background] = {
    "white": Background(((255, 255, 255),), "plain", frozenset({"white"})),
    "black": Background(((16, 16, 16),), "plain", frozenset({"black", "brown"})),
    "beige": Background(((240, 224, 190),), "plain", frozenset({"white", "yellow"})),
    "pale blue": Background(((196, 224, 252),), "plain", frozenset({"white"})),
    "pale green": Background(((204, 240, 200),), "plain", frozenset({"white"})),
    "navy": Background(((18, 26, 84),), "plain", frozenset({"black", "blue", "purple", "brown"})),
    "striped grey": Background(((236, 236, 236), (204, 204, 204)), "stripes", frozenset({"white", "grey"})),
    "checked pink": Background(((255, 236, 242), (252, 212, 224)), "checks", frozenset({"white", "pink"})),
}

#: the unit of places and sizes: 64ths of the image's side, at any number of pixels
UNITS = 64
#: size → least and greatest side of an object, in units; "" is an unstated size
SIZES: dict[str, tuple[int, int]] = {"small": (9, 10), "": (11, 13), "large": (14, 23)}

MAX_COUNT = 5
MAX_GROUPS = 3

OPPOSITES = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}

#: plurals that need more than an s, or none
PLURALS = {"cactus": "cactuses", "cross": "crosses", "hourglass": "hourglasses", "fish": "fish"}
NUMBERS = ("no", "one", "two", "three", "four", "five")


def plural(kind: str) -> str:
    """The plural of a kind of object: star → stars."""
    return PLURALS.get(kind, f"{kind}s")


def visible_colours(background: str) -> tuple[str, ...]:
    """The colours that stand out on a background."""
    hidden = BACKGROUNDS[background].hides
    return tuple(colour for colour in COLOURS if colour not in hidden)
