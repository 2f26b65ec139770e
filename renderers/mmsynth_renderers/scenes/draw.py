"""From facts to pixels: draws exactly the given facts, or says why it cannot.

Knows how facts become a picture with boxes. Knows nothing of samples or prompts.
"""

import random
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import PIL.Image
import PIL.ImageDraw

from mmsynth.errors import SampleError
from mmsynth.facts import Facts, ObjectFacts
from mmsynth_renderers.scenes import layout
from mmsynth_renderers.scenes.shapes import KINDS, mask
from mmsynth_renderers.scenes.vocabulary import BACKGROUNDS, COLOURS, MAX_COUNT, MAX_GROUPS, OPPOSITES, SIZES, UNITS

Box = tuple[float, float, float, float]


class Scene(NamedTuple):
    """Facts with a place for every object: ready to draw at any size."""

    facts: Facts
    places: list[list[layout.Place]]


def lay_out(facts: Facts, seed: int, gap: int = layout.GAP) -> Scene:
    """Check the facts and place their objects, `gap` units apart. Raises SampleError(`scene_not_drawable`)."""
    check_drawable(facts)
    needs = [(group.count, group.size) for group in facts.objects]
    rng = random.Random(seed)  # noqa: S311 - reproducible on purpose
    try:
        return Scene(facts, layout.place(needs, facts.relations, rng, gap))
    except layout.NoLayout as error:
        raise _not_drawable(str(error)) from error


def draw(scene: Scene, size: int) -> tuple[PIL.Image.Image, Facts]:
    """The picture, `size` pixels square, and the facts with the boxes of what was drawn."""
    picture = background_picture(scene.facts.background, size).copy()
    groups, scale = [], size / UNITS
    for group, places in zip(scene.facts.objects, scene.places, strict=True):
        colour = COLOURS[group.colour]
        boxes = []
        for x, y, side in places:
            # all three are rounded down, so two objects never come closer than a pixel
            shape = mask(group.kind, side * size // UNITS)
            left, top = int(x * scale) + shape.left, int(y * scale) + shape.top
            picture.paste(colour, (left, top), shape.alpha)
            boxes.append(_box(left, top, shape.alpha.size, size))
        groups.append(group.model_copy(update={"boxes": tuple(boxes)}))
    return picture, scene.facts.model_copy(update={"objects": tuple(groups)})


def _box(left: int, top: int, extent: tuple[int, int], size: int) -> Box:
    fraction = _fractions(size)
    return fraction[left], fraction[top], fraction[left + extent[0]], fraction[top + extent[1]]


@lru_cache(maxsize=8)
def _fractions(size: int) -> list[float]:
    """Every edge between pixels as a fraction of the image, rounded for the JSON."""
    return [round(edge / size, 4) for edge in range(size + 1)]


@lru_cache(maxsize=64)
def background_picture(name: str, size: int) -> PIL.Image.Image:
    """The background alone, without objects."""
    background = BACKGROUNDS[name]
    picture = PIL.Image.new("RGB", (size, size), background.tones[0])
    if background.pattern == "plain":
        return picture
    pen = PIL.ImageDraw.Draw(picture)
    edges = [round(i * size / 8) for i in range(9)]
    for column in range(8):
        for row in range(8):
            if (column + row * (background.pattern == "checks")) % 2:
                square = (edges[column], edges[row], edges[column + 1] - 1, edges[row + 1] - 1)
                pen.rectangle(square, fill=background.tones[1])
    return picture


# -- what cannot be drawn --------------------------------------------------------------------------------------------


def check_drawable(facts: Facts) -> None:
    """Raise SampleError(`scene_not_drawable`) for words that this world does not have. Does not try the layout."""
    if facts.background not in BACKGROUNDS:
        raise _unknown("background", facts.background, BACKGROUNDS)
    if len(facts.objects) > MAX_GROUPS:
        raise _not_drawable(f"{len(facts.objects)} groups of objects, and the most is {MAX_GROUPS}")
    for group in facts.objects:
        _check_group(group, facts.background)
    if len({(group.kind, group.colour) for group in facts.objects}) < len(facts.objects):
        raise _not_drawable("two groups of the same kind and colour: nobody could tell where one ends")
    for relation in facts.relations:
        if relation.relation not in OPPOSITES:
            raise _unknown("relation", relation.relation, OPPOSITES)
        ends = {relation.subject, relation.object}
        if len(ends) < 2 or not ends <= set(range(len(facts.objects))):
            raise _not_drawable(f"a relation between {relation.subject} and {relation.object}: no such two groups")
    for absent in facts.absent:
        if any(group.kind == absent.kind and absent.colour in {"", group.colour} for group in facts.objects):
            raise _not_drawable(f"{absent.colour} {absent.kind}: both in the scene and absent from it".lstrip())


def _check_group(group: ObjectFacts, background: str) -> None:
    for what, word, known in (
        ("kind", group.kind, KINDS),
        ("colour", group.colour, tuple(COLOURS)),
        ("size", group.size, tuple(SIZES)),
    ):
        if word not in known:
            raise _unknown(what, word, known)
    if group.count > MAX_COUNT:
        raise _not_drawable(f"{group.count} objects in a group, and the most is {MAX_COUNT}")
    if group.colour in BACKGROUNDS[background].hides:
        raise _not_drawable(f"{group.colour} would not be seen on a {background} background")


def _unknown(what: str, word: str, known: Iterable[str]) -> SampleError:
    return _not_drawable(f"no {what} '{word}'; there are {', '.join(w for w in known if w)}")


def _not_drawable(detail: str) -> SampleError:
    return SampleError("scene_not_drawable", detail)
