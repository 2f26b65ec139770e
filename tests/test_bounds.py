"""Bounds mean the same in every filter: registered ones and strangers'."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import ValidationError

import mmsynth as mm
from mmsynth import registry
from mmsynth.bounds import Bound
from mmsynth.errors import SampleError
from mmsynth.sample import Dropped, Result, Sample
from mmsynth.stage import Filter
from mmsynth.testing import photo_samples

#: filters that need other parameters to be built
NEEDED: dict[str, dict[str, Any]] = {
    "image_classifier": {"model": "owner/name", "labels": ["nsfw"]},
    "decontaminate": {"evaluation": "somewhere"},
}


class Brightness(mm.Filter):
    """Drop captions that speak of too little light."""

    min: float | None = None
    max: float | None = None

    def score_names(self) -> tuple[str, ...]:
        return ("light", "glare")

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        return [
            self.without_caption(s)
            if s.text is None
            else self.judged(s, {"light": float(s.text), "glare": 1}, {"n": 1})
            for s in batch
        ]


class Sides(mm.Filter):
    """Two bounded scores, under other names."""

    min_left: int | None = None
    max_left: int | None = None
    max_right: int | None = None

    def score_names(self) -> tuple[str, ...]:
        return ("left", "right")

    def bounds(self) -> tuple[Bound, ...]:
        return (Bound("left", min="min_left", max="max_left"), Bound("right", max="max_right"))


def reason(result: Result) -> str | None:
    return result.reason if isinstance(result, Dropped) else None


def scores(result: Result) -> dict[str, float]:
    kept = result.sample if isinstance(result, Dropped) else result
    assert isinstance(kept, Sample)
    return dict(kept.record.get("scores", {}))


def test_min_and_max_bound_the_first_score_and_are_inclusive() -> None:
    batch = [Sample(str(i), caption=text) for i, text in enumerate(["0.1", "0.2", "0.5", "0.6"])]
    results = Brightness(min=0.2, max=0.5).process(batch)
    assert [reason(result) for result in results] == ["light_below_min", None, None, "light_above_max"]
    assert [scores(result)["light"] for result in results] == [0.1, 0.2, 0.5, 0.6]
    assert isinstance(results[0], Dropped)
    assert results[0].sample is not None
    assert results[0].sample.record["n"] == 1


def test_several_scores_are_judged_in_the_order_of_the_bounds() -> None:
    stage = Sides(min_left=1, max_right=9)
    found = [stage.judged(Sample("k"), {"right": right, "left": left}) for left, right in ((0, 10), (1, 10), (1, 9))]
    assert [reason(result) for result in found] == ["left_below_min", "right_above_max", None]
    assert scores(found[0]) == {"left": 0, "right": 10}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("bounds", [{}, {"min": 0}])
def test_what_is_no_number_passes_no_filter_and_is_not_written(value: float, bounds: dict[str, float]) -> None:
    result = Brightness(**bounds).judged(Sample("k"), {"light": value, "glare": 2})
    assert reason(result) == "light_not_finite"
    assert scores(result) == {"glare": 2}


def test_a_copy_without_bounds_only_scores() -> None:
    stage = Sides(min_left=1, max_right=9, batch_size=5)
    assert stage.is_bounded
    free = stage.without_bounds()
    assert (free.min_left, free.max_right, free.batch_size) == (None, None, 5)
    assert not free.is_bounded
    assert reason(free.judged(Sample("k"), {"left": 0, "right": 10})) is None


def test_max_is_at_least_min() -> None:
    Sides(min_left=3, max_left=3, max_right=1)
    with pytest.raises(ValidationError, match="max_left must be at least min_left, got min_left=3 and max_left=2"):
        Sides(min_left=3, max_left=2)
    with pytest.raises(ValidationError, match=r"max must be at least min, got min=0\.3 and max=0\.2"):
        Brightness(min=0.3, max=0.2)


def built(name: str, **parameters: Any) -> Filter:
    stage = registry.load("filter", name)(**NEEDED.get(name, {}), **parameters)
    assert isinstance(stage, Filter)
    return stage


FILTERS = sorted(registry.entry_points("filter"))


@pytest.mark.parametrize("name", FILTERS)
def test_every_registered_filters_bounds_are_of_scores_that_it_gives(name: str) -> None:
    stage = built(name)
    for bound in stage.bounds():
        assert bound.score in stage.score_names()
    for parameter in stage.bound_parameters():
        assert getattr(stage, parameter) is None, "without a word on it, a filter only scores"
    assert not stage.is_bounded


#: filter → a bound that is set; filters that judge captions by themselves and need no model for it
CAPTIONS = {
    "caption_length": {"min_words": 1},
    "repetition": {"max_run": 4},
    "boilerplate": {"max": 0},
    "pii": {"max": 0},
    "language": {"keep": ["en"]},
    "toxicity": {"max": 0},
}


@pytest.mark.parametrize("caption", [None, "", " \n"])
@pytest.mark.parametrize("name", CAPTIONS)
def test_a_sample_without_a_caption_goes_on_unscored_or_passes_no_bound(name: str, caption: str | None) -> None:
    sample = Sample("k", caption=caption)
    for parameters, expected in (({}, sample), (CAPTIONS[name], Dropped("no_caption", sample))):
        stage = built(name, **parameters)
        stage.setup("cpu")
        assert stage.process([sample]) == [expected]
        assert stage.without_bounds().without_caption(sample) == sample


@pytest.mark.parametrize(("parameters", "expected"), [({}, None), ({"min": 0.0}, "no_caption")])
def test_so_it_is_for_filters_that_look_at_the_image_too(parameters: dict[str, float], expected: str | None) -> None:
    sample = Sample("k", photo_samples(1)[0].image)
    for name in ("clip", "scene_truth"):
        stage = built(name, **parameters)
        stage.setup("cpu")
        (result,) = stage.process([sample])
        assert reason(result) == expected
        assert scores(result) == {}


@pytest.mark.parametrize(
    "name", ["clip", "scene_truth", "image_size", "perceptual_hash", "faces", "text_in_image", "nsfw"]
)
def test_a_sample_without_an_image_fails_the_same_everywhere(name: str) -> None:
    stage = built(name)
    stage.setup("cpu")
    with pytest.raises(SampleError, match="no_image: k has no image"):
        stage.prepare(Sample("k", caption="a dog"))


def test_what_a_stage_needs_of_a_sample_is_there_or_said_to_be_missing() -> None:
    (photo,) = photo_samples(1)
    assert photo.required_image() is photo.image
    assert photo.with_image(photo.required_image(), "before").required_image("before") is photo.image
    with pytest.raises(SampleError, match="no_image: photo-000 has no image called 'before'"):
        photo.required_image("before")
    assert [Sample("k", caption=caption).text for caption in (None, "", " \n", " a dog")] == [
        None,
        None,
        None,
        " a dog",
    ]
