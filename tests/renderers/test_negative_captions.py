"""The captioner `negatives` writes what is almost true of a scene, and leaves everything else as it came."""

import mmsynth as mm
from mmsynth.testing import check_stage, photo_samples
from mmsynth_renderers.scenes import NegativeCaptions, judge, pixels


def drawn(n: int) -> list[mm.Sample]:
    found = mm.scenes(n, seed=3).render("scenes", size=96).caption("facts").take(n)
    return [sample for sample in found if isinstance(sample, mm.Sample)]


def test_each_negative_is_false_of_the_picture_and_the_caption_stays() -> None:
    seen = set()
    for before, after in zip(drawn(30), check_stage(NegativeCaptions(), drawn(30)), strict=True):
        assert isinstance(after, mm.Sample)
        assert before.image is not None
        assert (after.caption, after.record["captions"]) == (before.caption, before.record["captions"])
        facts = pixels.facts_of(before.image.pixels())
        for kind, text in after.record["negatives"].items():
            verdicts = [true for _, true in judge.statements(judge.read(text), facts)]
            assert verdicts
            assert not all(verdicts), (kind, text, before.caption)
            seen.add(kind)
    assert seen == {"colour", "shape", "count", "relation"}


def test_a_sample_without_facts_of_the_scene_world_goes_on_as_it_came() -> None:
    other = photo_samples(1)[0].with_record(facts={"background": "sea", "objects": []})
    stage = NegativeCaptions()
    stage.setup("cpu")
    assert stage.process([*photo_samples(2), other]) == [*photo_samples(2), other]


def test_it_has_a_name_in_recipes() -> None:
    (sample,) = mm.scenes(1).render("scenes").caption("negatives").take(1)
    assert isinstance(sample, mm.Sample)
    assert sample.record["negatives"]["colour"] != sample.caption
