"""The scene world's stages: what they give, what they refuse, and that both can be repeated."""

import itertools
from typing import Any

import pytest
from pydantic import ValidationError

from mmsynth.errors import SampleError
from mmsynth.facts import Facts, ObjectFacts, Relation
from mmsynth.sample import Sample
from mmsynth.testing import check_stage
from mmsynth_renderers.scenes import BACKGROUNDS, COLOURS, KINDS, SceneRenderer, SceneSource, draw, lay_out
from mmsynth_renderers.scenes.vocabulary import NUMBERS, plural

STAR = ObjectFacts(kind="star", colour="red", size="large", count=3)
RING = ObjectFacts(kind="ring", colour="blue", size="small", count=1)
CUP = ObjectFacts(kind="cup", colour="green", size="small", count=2)
LEFT = Relation(subject=0, relation="left of", object=1)
SCENE = Facts(background="white", objects=(STAR, RING), relations=(LEFT,))


def scenes(n: int, **parameters: Any) -> list[Sample]:
    source = SceneSource(n=n, **parameters)
    return list(source.read({"start": 0, "stop": n}))


def as_sample(facts: object) -> Sample:
    dumped = facts.model_dump(mode="json") if isinstance(facts, Facts) else facts
    return Sample("scene", record={"facts": dumped})


def test_renderer_keeps_the_contract() -> None:
    results = check_stage(SceneRenderer(), scenes(12))
    assert all(isinstance(r, Sample) and r.image is not None and r.image.width == 64 for r in results)


@pytest.mark.parametrize("size", [32, 64, 97, 224, 512])
def test_any_pixel_size_is_drawn(size: int) -> None:
    for result in SceneRenderer(size=size).process(scenes(5)):
        assert isinstance(result, Sample)
        assert result.image is not None
        assert result.image.pixels().size == (size, size)


def test_an_image_too_small_to_tell_objects_apart_is_refused() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 32"):
        SceneRenderer(size=16)


def test_the_same_facts_and_seed_give_the_same_bytes() -> None:
    first, again = (draw(lay_out(SCENE, seed=5), 64)[0].tobytes() for _ in range(2))
    assert first == again
    assert draw(lay_out(SCENE, seed=6), 64)[0].tobytes() != first


def test_the_renderer_writes_a_box_for_every_object_and_changes_no_other_fact() -> None:
    for before, after in zip(scenes(100), SceneRenderer().process(scenes(100)), strict=True):
        assert isinstance(after, Sample)
        drawn = Facts.model_validate(after.record["facts"])
        for group in drawn.objects:
            assert len(group.boxes) == group.count
            assert all(0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1 for x0, y0, x1, y1 in group.boxes)
        bare = tuple(group.model_copy(update={"boxes": ()}) for group in drawn.objects)
        assert drawn.model_copy(update={"objects": bare}) == Facts.model_validate(before.record["facts"])


def changed(**fields: Any) -> Facts:
    return SCENE.model_copy(update=fields)


def with_star(**fields: Any) -> Facts:
    return changed(objects=(STAR.model_copy(update=fields), RING))


UNDRAWABLE = {
    "no kind 'dragon'": with_star(kind="dragon"),
    "no colour 'mauve'": with_star(colour="mauve"),
    "no size 'huge'": with_star(size="huge"),
    "9 objects in a group": with_star(count=9),
    "no background 'tartan'": changed(background="tartan"),
    "white would not be seen on a white background": with_star(colour="white"),
    "no relation 'inside'": changed(relations=(Relation(subject=0, relation="inside", object=1),)),
    "contradict": changed(relations=(LEFT, Relation(subject=1, relation="left of", object=0))),
    "no such two groups": changed(relations=(Relation(subject=0, relation="above", object=7),)),
    "same kind and colour": changed(objects=(STAR, STAR)),
    "4 groups": changed(objects=(STAR, RING, CUP, CUP.model_copy(update={"kind": "key"}))),
    "both in the scene and absent": Facts.model_validate(
        SCENE.model_dump() | {"absent": [{"kind": "star", "colour": "red"}]}
    ),
    "do not fit": changed(
        objects=tuple(STAR.model_copy(update={"count": 5, "kind": kind}) for kind in ("star", "key", "cup"))
    ),
    "not facts": {"background": "white"},
}


@pytest.mark.parametrize("detail", UNDRAWABLE)
def test_facts_that_cannot_be_drawn_are_refused_with_the_reason(detail: str) -> None:
    with pytest.raises(SampleError, match=detail) as caught:
        SceneRenderer().prepare(as_sample(UNDRAWABLE[detail]))
    assert caught.value.reason == "scene_not_drawable"


def test_a_sample_without_facts_is_refused() -> None:
    with pytest.raises(SampleError) as caught:
        SceneRenderer().prepare(Sample("bare", caption="a red star"))
    assert caught.value.reason == "no_facts"


def test_every_word_of_the_world_can_be_drawn() -> None:
    for background, about in BACKGROUNDS.items():
        for kind in KINDS:
            for colour in set(COLOURS) - about.hides:
                group = ObjectFacts(kind=kind, colour=colour, size="small", count=1)
                lay_out(Facts(background=background, objects=(group,)), seed=0)


def test_an_empty_scene_is_its_background() -> None:
    picture, _ = draw(lay_out(Facts(background="navy", objects=()), seed=0), 64)
    assert picture.getcolors() == [(64 * 64, BACKGROUNDS["navy"].tones[0])]


def test_there_are_some_twenty_kinds_and_twelve_colours() -> None:
    assert 20 <= len(KINDS) <= 30
    assert len(COLOURS) == 12


# -- the source ------------------------------------------------------------------------------------------------------


def test_a_scene_depends_on_seed_and_index_alone() -> None:
    source = SceneSource(n=50, seed=3)
    whole = list(source.read({"start": 0, "stop": 50}))
    pieces = [sample for piece in source.slices(7) for sample in source.read(piece.payload)]
    assert pieces == whole
    assert list(SceneSource(n=9, seed=3).read({"start": 0, "stop": 9})) == whole[:9]
    assert scenes(50, seed=4)[0].record["facts"] != whole[0].record["facts"]


def test_the_source_says_where_each_scene_came_from() -> None:
    sample = scenes(3, seed=8)[2]
    assert sample.key == "000000002"
    assert sample.image is None
    assert sample.record["source"] == {"kind": "scenes", "seed": 8, "index": 2}
    assert sample.record["captions"] == [{"text": sample.caption, "origin": "prompt"}]


def test_slices_cover_the_source_once() -> None:
    sizes = [piece.size for piece in SceneSource(n=25).slices(10)]
    assert sizes == [10, 10, 5]
    assert SceneSource(n=25).count() == 25


def test_a_source_of_a_billion_scenes_is_cut_lazily() -> None:
    source = SceneSource(n=10**9)
    assert next(source.slices(1000)).payload == {"start": 0, "stop": 1000}
    assert next(source.read({"start": 999_999_999, "stop": 10**9})).key == "999999999"


@pytest.mark.parametrize("parameters", [{"n": 0}, {"n": 1, "max_groups": 4}, {"n": 1, "colour": "red"}])
def test_a_source_that_cannot_be_is_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SceneSource(**parameters)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_scenes_have_at_most_max_groups(most: int) -> None:
    groups = {len(sample.record["facts"]["objects"]) for sample in scenes(200, max_groups=most)}
    assert groups == set(range(1, most + 1))


def test_every_word_count_and_relation_comes_up() -> None:
    many = [Facts.model_validate(sample.record["facts"]) for sample in scenes(800)]
    groups = [group for facts in many for group in facts.objects]
    assert {group.kind for group in groups} == set(KINDS)
    assert {group.colour for group in groups} == set(COLOURS)
    assert {facts.background for facts in many} == set(BACKGROUNDS)
    assert {(g.size, g.count) for g in groups} == set(itertools.product(("small", "large"), range(1, 6)))
    assert {r.relation for facts in many for r in facts.relations} == {"left of", "right of", "above", "below"}


def test_the_prompt_states_every_fact() -> None:
    for sample in scenes(300):
        facts, text = Facts.model_validate(sample.record["facts"]), sample.caption or ""
        assert facts.background in text
        for group in facts.objects:
            thing = plural(group.kind) if group.count > 1 else group.kind
            number = NUMBERS[group.count] if group.count > 1 else r"a"
            assert f"{number} {group.size} {group.colour} {thing}" in text
        stated = sum(text.count(word) for word in (" left of ", " right of ", " above ", " below "))
        assert stated == len(facts.relations) == len(facts.objects) - 1


def test_what_is_absent_is_absent_and_half_of_it_a_near_miss() -> None:
    for sample in scenes(300):
        facts = Facts.model_validate(sample.record["facts"])
        kinds = {group.kind for group in facts.objects}
        looks = {(group.kind, group.colour) for group in facts.objects}
        near = [gone for gone in facts.absent if gone.colour]
        assert len(facts.absent) == 4
        assert len(near) == 2
        assert all(gone.kind in kinds and (gone.kind, gone.colour) not in looks for gone in near)
        assert all(gone.kind not in kinds for gone in facts.absent if not gone.colour)
