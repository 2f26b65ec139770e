"""Reads a picture of the scene world back into facts from its pixels: connected components and their colours.

Nothing here is learned. Each component that is not background is compared with the drawer's own silhouettes, so a blot
does not count as an object. Knows the world's colours and outlines; knows nothing of captions.
"""

from collections import defaultdict
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import PIL.Image

from mmsynth.facts import Facts, ObjectFacts
from mmsynth_renderers.scenes.draw import background_picture
from mmsynth_renderers.scenes.shapes import KINDS, mask
from mmsynth_renderers.scenes.vocabulary import BACKGROUNDS, COLOURS, SIZES, UNITS

#: pictures are scaled to this side before reading
SIDE = 64
#: a pixel at least this far from the background, in RGB, belongs to an object
_FOREGROUND = 70.0
#: a component with fewer pixels is a blot
_LEAST_PIXELS = 12
#: a component whose overlap with every silhouette (intersection over union) is lower is a blot
_LEAST_OVERLAP = 0.6
#: silhouettes and components are compared in squares of this side
_CANVAS = 32

_Array = npt.NDArray[np.float32]
_PALETTE = np.array(list(COLOURS.values()), dtype=np.float32)


class Seen(NamedTuple):
    """One object: its look, its box as fractions of the picture, and the fit of its silhouette (0 to 1)."""

    kind: str
    colour: str
    size: str
    box: tuple[float, float, float, float]
    overlap: float


def facts_of(picture: PIL.Image.Image) -> Facts:
    """Groups of like objects, each with its boxes, and the background. Relations follow from the boxes."""
    background, objects = see(picture)
    groups: dict[tuple[str, str], list[Seen]] = defaultdict(list)
    for seen in objects:
        groups[seen.kind, seen.colour].append(seen)
    return Facts(
        background=background,
        objects=tuple(
            ObjectFacts(
                kind=kind, colour=colour, size=_size(group), count=len(group), boxes=tuple(o.box for o in group)
            )
            for (kind, colour), group in groups.items()
        ),
    )


def see(picture: PIL.Image.Image) -> tuple[str, list[Seen]]:
    """The background's name, and every object from the top left."""
    if picture.size != (SIDE, SIDE):
        picture = picture.resize((SIDE, SIDE), PIL.Image.Resampling.BOX)
    rgb = np.asarray(picture.convert("RGB"), dtype=np.float32)
    background, empty = _background(rgb)
    far = np.linalg.norm(rgb - empty, axis=2)
    seen = [_seen(rgb, empty, component, background) for component in _components(far > _FOREGROUND)]
    return background, [found for found in seen if found is not None]


def _background(rgb: _Array) -> tuple[str, _Array]:
    """The name of the background closest to the picture, and that background without objects."""
    pictures = {name: _empty(name) for name in BACKGROUNDS}
    # compare the closer half of the pixels, because the others may be objects
    distance = {name: np.quantile(np.linalg.norm(rgb - empty, axis=2), 0.45) for name, empty in pictures.items()}
    best = min(distance, key=lambda name: distance[name])
    return best, pictures[best]


@lru_cache(maxsize=16)
def _empty(name: str) -> _Array:
    return np.asarray(background_picture(name, SIDE), dtype=np.float32)


def _components(there: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.bool_]]:
    """Masks of the regions connected by their sides. Pixels repeatedly take their neighbours' largest number."""
    numbers = np.where(there, np.arange(1, there.size + 1).reshape(there.shape), 0)
    while True:
        padded = np.pad(numbers, 1)
        neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
        spread = np.where(there, np.maximum.reduce([numbers, *neighbours]), 0)
        if np.array_equal(spread, numbers):
            break
        numbers = spread
    found, first, count = np.unique(numbers, return_index=True, return_counts=True)
    order = np.argsort(first)
    return [numbers == found[i] for i in order if found[i] and count[i] >= _LEAST_PIXELS]


def _seen(rgb: _Array, empty: _Array, component: npt.NDArray[np.bool_], background: str) -> Seen | None:
    rows, columns = np.flatnonzero(component.any(1)), np.flatnonzero(component.any(0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    colour = _colour(rgb[component], empty[component], background)
    if max(bottom - top, right - left) > _CANVAS - 2:
        return None
    cover = _coverage(rgb, empty, component, np.asarray(COLOURS[colour], dtype=np.float32))
    kind, overlap, side = _kind(cover, (top, left, bottom, right))
    if overlap < _LEAST_OVERLAP:
        return None
    size = "large" if side >= SIZES["large"][0] * SIDE / UNITS else "small"
    return Seen(kind, colour, size, (left / SIDE, top / SIDE, right / SIDE, bottom / SIDE), overlap)


def _colour(pixels: _Array, empty: _Array, background: str) -> str:
    """The colour of an object, from the pixels farthest from the background. The others are edges."""
    far = np.linalg.norm(pixels - empty, axis=1)
    middle = np.median(pixels[far >= np.quantile(far, 0.5)], axis=0)
    names = list(COLOURS)
    distance = np.linalg.norm(_PALETTE - middle, axis=1)
    distance[[names.index(hidden) for hidden in BACKGROUNDS[background].hides]] = np.inf
    return names[int(distance.argmin())]


def _coverage(rgb: _Array, empty: _Array, component: npt.NDArray[np.bool_], colour: _Array) -> _Array:
    """How much of each pixel the object covers, 0 to 1, in the component and the edge around it."""
    padded = np.pad(component, 1)
    near = padded[1:-1, 1:-1] | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    way = colour - empty
    cover = ((rgb - empty) * way).sum(2) / (way * way).sum(2)
    return np.asarray(np.where(near, cover.clip(0, 1), 0), dtype=np.float32)


def _kind(cover: _Array, box: tuple[int, int, int, int]) -> tuple[str, float, int]:
    """The kind whose silhouette fits best, its fit, and its side."""
    top, left, bottom, right = box
    height, width = bottom - top, right - left
    best = ("", 0.0, 0)
    for kind, side, alpha in _silhouettes():
        rows, columns = alpha.shape
        if abs(rows - height) > 2 or abs(columns - width) > 2:
            continue
        # the box may be off by the faint pixels at its edges
        for y in range(top + min(0, height - rows), top + max(0, height - rows) + 1):
            for x in range(left + min(0, width - columns), left + max(0, width - columns) + 1):
                overlap = _overlap(cover, alpha, y, x)
                if overlap > best[1]:
                    best = (kind, overlap, side)
    return best


def _overlap(cover: _Array, alpha: _Array, y: int, x: int) -> float:
    rows, columns = alpha.shape
    if y < 0 or x < 0 or y + rows > SIDE or x + columns > SIDE:
        return 0.0
    part = cover[y : y + rows, x : x + columns]
    both = np.minimum(part, alpha).sum()
    return float(both / (cover.sum() + alpha.sum() - both))


@lru_cache(maxsize=1)
def _silhouettes() -> list[tuple[str, int, _Array]]:
    """Every kind at every side that the drawer uses, and some sides beyond."""
    sides = range(SIZES["small"][0] - 1, SIZES["large"][1] + 2)
    return [
        (kind, side, np.asarray(mask(kind, side).alpha, dtype=np.float32) / np.float32(255))
        for kind in KINDS
        for side in sides
    ]


def _size(group: list[Seen]) -> str:
    """The most frequent size of the group."""
    return "large" if 2 * sum(seen.size == "large" for seen in group) > len(group) else "small"
