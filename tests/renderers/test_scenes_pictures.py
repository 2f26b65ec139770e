"""The pictures themselves, looked at as pixels: what is drawn is what the facts say, and hard negatives are false."""

import functools
import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
from skimage.measure import label, regionprops

from mmsynth.errors import SampleError
from mmsynth.facts import Facts, ObjectFacts, Relation
from mmsynth_renderers.scenes import BACKGROUNDS, COLOURS, KINDS, SceneSource, draw, hard_negatives, lay_out
from mmsynth_renderers.scenes.shapes import mask
from mmsynth_renderers.scenes.vocabulary import SIZES, UNITS

Box = tuple[float, float, float, float]
BY_RGB = {rgb: name for name, rgb in COLOURS.items()}


@functools.cache
def random_scenes(n: int) -> list[Facts]:
    source = SceneSource(n=n, seed=11)
    return [Facts.model_validate(sample.record["facts"]) for sample in source.read({"start": 0, "stop": n})]


def picture_of(facts: Facts, seed: int, size: int) -> tuple[np.ndarray, Facts]:
    picture, drawn = draw(lay_out(facts, seed), size)
    return np.asarray(picture, dtype=int), drawn


def patches(facts: Facts, pixels: np.ndarray) -> list[Any]:
    """The connected patches that are not background."""
    empty, _ = picture_of(Facts(background=facts.background, objects=()), 0, len(pixels))
    return regionprops(label(np.abs(pixels - empty).max(axis=-1) > 0, connectivity=2))


def objects_seen(facts: Facts, pixels: np.ndarray) -> list[tuple[str, Box]]:
    """Colour and box of every patch."""
    size = len(pixels)
    seen = []
    for patch in patches(facts, pixels):
        colours = Counter(BY_RGB.get(tuple(pixels[y, x])) for y, x in patch.coords)
        del colours[None]  # the antialiased rim
        top, left, bottom, right = patch.bbox
        box = (round(left / size, 4), round(top / size, 4), round(right / size, 4), round(bottom / size, 4))
        seen.append((colours.most_common(1)[0][0], box))
    return seen


@pytest.mark.parametrize("size", [64, 96])
def test_as_many_objects_of_each_colour_are_seen_as_the_facts_say_where_the_boxes_say(size: int) -> None:
    for i, facts in enumerate(random_scenes(300)):
        pixels, drawn = picture_of(facts, i, size)
        told = [(group.colour, box) for group in drawn.objects for box in group.boxes]
        assert sorted(objects_seen(facts, pixels)) == sorted(told), facts


def test_even_the_smallest_picture_has_every_object_apart() -> None:
    for i, facts in enumerate(random_scenes(200)):
        pixels, _ = picture_of(facts, i, 32)
        assert len(patches(facts, pixels)) == sum(group.count for group in facts.objects)


def test_a_wider_gap_keeps_all_objects_of_the_nano_world_so_far_apart() -> None:
    wider = 6
    for i, sample in enumerate(SceneSource(n=300, seed=11, world="nano").read({"start": 0, "stop": 300})):
        facts = Facts.model_validate(sample.record["facts"])
        _, drawn = draw(lay_out(facts, seed=i, gap=wider), UNITS)
        boxes = [[UNITS * edge for edge in box] for group in drawn.objects for box in group.boxes]
        for a, b in itertools.combinations(boxes, 2):
            apart = max(b[0] - a[2], a[0] - b[2], b[1] - a[3], a[1] - b[3])
            assert apart > wider - 1, facts  # places are rounded down to a pixel


def closest_kind(pixels: np.ndarray, group: ObjectFacts, box: Box, size: int) -> str:
    """The kind whose outline is most like what is in the box: told by its pixels alone."""
    left, top, right, bottom = (round(edge * size) for edge in box)
    ink = (np.abs(pixels[top:bottom, left:right] - COLOURS[group.colour]).max(axis=-1) == 0).astype(float)

    def unlike(kind: str) -> float:
        least, most = SIZES[group.size]
        distances = [1.0]
        for side in range(least * size // UNITS, most * size // UNITS + 1):
            alpha = np.asarray(mask(kind, side).alpha, dtype=float) / 255
            if alpha.shape == ink.shape:
                distances.append(float(np.abs((alpha == 1) - ink).mean()))
        return min(distances)

    return min(KINDS, key=unlike)


def test_every_object_has_the_outline_of_its_kind_and_of_no_other() -> None:
    for i, facts in enumerate(random_scenes(60)):
        pixels, drawn = picture_of(facts, i, 64)
        for group in drawn.objects:
            assert closest_kind(pixels, group, group.boxes[0], 64) == group.kind


def test_outlines_differ_strongly_even_at_nine_pixels() -> None:
    def canvas(kind: str) -> np.ndarray:
        shape = mask(kind, 9)
        whole = np.zeros((9, 9))
        width, height = shape.alpha.size
        whole[shape.top : shape.top + height, shape.left : shape.left + width] = np.asarray(shape.alpha) / 255
        return whole

    for one, other in itertools.combinations(KINDS, 2):
        overlap = np.minimum(canvas(one), canvas(other)).sum() / np.maximum(canvas(one), canvas(other)).sum()
        assert overlap < 0.85, (one, other, overlap)


def distance(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    return float(np.linalg.norm(np.subtract(one, other)))


def test_colours_are_far_from_each_other_and_from_the_backgrounds_they_are_drawn_on() -> None:
    for one, other in itertools.combinations(COLOURS.values(), 2):
        assert distance(one, other) > 70
    for background in BACKGROUNDS.values():
        for colour in set(COLOURS) - background.hides:
            assert min(distance(COLOURS[colour], tone) for tone in background.tones) > 70, (background, colour)


def test_large_objects_are_larger_than_small_ones_in_every_picture() -> None:
    sides: dict[str, set[float]] = {"small": set(), "large": set()}
    for i, facts in enumerate(random_scenes(300)):
        scene = lay_out(facts, i)
        for group, places in zip(facts.objects, scene.places, strict=True):
            sides[group.size] |= {place[2] for place in places}
    assert min(sides["large"]) >= 1.4 * max(sides["small"])


# -- relations -------------------------------------------------------------------------------------------------------


def holds(drawn: Facts, relation: Relation) -> bool:
    """By the boxes: every object of the one on that side of every object of the other."""
    return all(
        {"left of": a[2] <= b[0], "right of": a[0] >= b[2], "above": a[3] <= b[1], "below": a[1] >= b[3]}[
            relation.relation
        ]
        for a in drawn.objects[relation.subject].boxes
        for b in drawn.objects[relation.object].boxes
    )


def test_stated_relations_hold_between_all_the_objects_of_two_groups() -> None:
    for i, facts in enumerate(random_scenes(400)):
        _, drawn = picture_of(facts, i, 64)
        assert all(holds(drawn, relation) for relation in facts.relations)


def test_any_three_small_crowds_can_be_drawn_in_any_arrangement() -> None:
    crowds = tuple(ObjectFacts(kind=kind, colour="red", size="small", count=5) for kind in ("star", "key", "cup"))
    for first, second in itertools.product(("left of", "right of", "above", "below"), repeat=2):
        relations = (
            Relation(subject=0, relation=first, object=1),
            Relation(subject=1, relation=second, object=2),
        )
        facts = Facts(background="white", objects=crowds, relations=relations)
        _, drawn = picture_of(facts, 0, 64)
        assert all(holds(drawn, relation) for relation in relations)


# -- hard negatives --------------------------------------------------------------------------------------------------


def differences(one: object, other: object) -> int:
    """In how many leaves two JSON values differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        return sum(differences(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return sum(differences(a, b) for a, b in zip(one, other, strict=True))
    return int(one != other)


def true_of_picture(facts: Facts, drawn: Facts) -> bool:
    """Whether a drawn scene shows just these groups, in these relations: by colours, counts and boxes."""
    index = {(group.kind, group.colour, group.count): i for i, group in enumerate(drawn.objects)}
    meant = [index.get((group.kind, group.colour, group.count)) for group in facts.objects]
    if None in meant:
        return False
    return all(
        holds(drawn, Relation(subject=meant[r.subject] or 0, relation=r.relation, object=meant[r.object] or 0))
        for r in facts.relations
    )


def test_a_hard_negative_differs_in_one_thing_and_is_false_of_the_picture() -> None:
    for i, facts in enumerate(random_scenes(300)):
        _, drawn = picture_of(facts, i, 64)
        assert true_of_picture(facts, drawn)
        negatives = hard_negatives(drawn, seed=i)
        expected = {"colour", "shape", "count"} | ({"relation"} if facts.relations else set())
        assert set(negatives) == expected
        for name, negative in negatives.items():
            plain = [scene.model_dump(mode="json", exclude={"absent"}) for scene in (facts, negative)]
            assert differences(*plain) == 1, (name, facts, negative)
            assert not true_of_picture(negative, drawn)


def test_a_hard_negative_can_be_drawn() -> None:
    for i, facts in enumerate(random_scenes(150)):
        for negative in hard_negatives(facts, seed=i).values():
            lay_out(negative, i)


def test_hard_negatives_repeat_with_their_seed() -> None:
    facts = random_scenes(20)[7]
    assert hard_negatives(facts, seed=1) == hard_negatives(facts, seed=1)
    assert any(hard_negatives(facts, seed=1) != hard_negatives(facts, seed=s) for s in range(2, 6))


def test_facts_of_another_world_have_no_hard_negatives() -> None:
    photo = Facts(background="street", objects=(ObjectFacts(kind="dog", colour="brown", size="", count=1),))
    with pytest.raises(SampleError, match="no background 'street'"):
        hard_negatives(photo, seed=0)
