"""Pictures read back by their pixels: what was drawn is found, as it was drawn, and nothing else is."""

import random

import numpy as np
import PIL.Image
import pytest

from mmsynth.facts import Facts
from mmsynth.image import Image
from mmsynth.registry import load
from mmsynth.sample import Dropped, Sample
from mmsynth_captioners.facts import write_caption
from mmsynth_renderers.scenes import BACKGROUNDS, SceneTruth, hard_negatives
from mmsynth_renderers.scenes.draw import background_picture, draw, lay_out
from mmsynth_renderers.scenes.grammar import WORLDS, random_facts
from mmsynth_renderers.scenes.pixels import facts_of, see

Looks = set[tuple[str, str, int]]


def drawn(number: int, world: str = "whole") -> tuple[PIL.Image.Image, Facts]:
    return draw(lay_out(random_facts(random.Random(number), WORLDS[world]), number), 64)


def looks(facts: Facts) -> Looks:
    return {(group.kind, group.colour, group.count) for group in facts.objects}


@pytest.mark.parametrize("world", ["whole", "nano"])
def test_drawn_scenes_are_read_back(world: str) -> None:
    scenes = [drawn(number, world) for number in range(100)]
    read = [(facts, facts_of(picture)) for picture, facts in scenes]
    assert all(found.background == facts.background for facts, found in read)
    assert sum(looks(found) == looks(facts) for facts, found in read) >= 98


def test_boxes_are_where_objects_were_drawn() -> None:
    picture, facts = drawn(7)
    found = {(group.kind, group.colour): sorted(group.boxes) for group in facts_of(picture).objects}
    for group in facts.objects:
        for box, other in zip(sorted(group.boxes), found[group.kind, group.colour], strict=True):
            assert box == pytest.approx(other, abs=1.1 / 64)


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_an_empty_background_holds_nothing(name: str) -> None:
    assert see(background_picture(name, 64)) == (name, [])


def test_a_blot_is_no_object() -> None:
    pixels = np.array(background_picture("white", 64))
    rng = np.random.default_rng(0)
    rows, columns = np.nonzero(np.pad(rng.random((20, 20)) < 0.62, 22))
    pixels[rows, columns] = (222, 28, 36)
    assert see(PIL.Image.fromarray(pixels)) == ("white", [])


def test_jpeg_and_a_larger_picture_are_read_alike() -> None:
    facts = random_facts(random.Random(3), WORLDS["nano"])
    for size in (64, 192):
        picture, _ = draw(lay_out(facts, 3), size)
        assert looks(facts_of(Image.from_pixels(picture).encoded("jpg").pixels())) == looks(facts)


def truth_of(picture: PIL.Image.Image, caption: str) -> float:
    sample = Sample("a", Image.from_pixels(picture), caption)
    judged = SceneTruth().process([sample])[0]
    assert isinstance(judged, Sample)
    return judged.record["scores"]["truth"]


def test_a_true_caption_scores_one_and_an_almost_true_one_less() -> None:
    for number in range(40):
        picture, facts = drawn(number, "nano")
        assert truth_of(picture, write_caption(facts, random.Random(number), "full")) == 1
        for changed in hard_negatives(facts, number).values():
            assert truth_of(picture, write_caption(changed, random.Random(number), "full")) < 1


def test_a_caption_that_states_nothing_scores_zero_and_is_dropped_by_min() -> None:
    picture, _ = drawn(0)
    assert truth_of(picture, "Lovely!") == 0
    stage = load("filter", "scene_truth")(min=0.5)
    [result] = stage.process([Sample("a", Image.from_pixels(picture), "Lovely!")])
    assert isinstance(result, Dropped)
    assert result.reason == "truth_below_min"


def test_nano_world_scenes_stay_in_it() -> None:
    world = WORLDS["nano"]
    for number in range(200):
        facts = random_facts(random.Random(number), world)
        assert len(facts.objects) <= world.max_groups
        assert all(group.kind in world.kinds and group.count <= world.max_count for group in facts.objects)
