"""Faces finds the face of the astronaut, and none in a cat, a cup and a temple."""

from typing import Any

import numpy as np
import PIL.Image
import pytest
from pydantic import ValidationError

from mmsynth.errors import SampleError
from mmsynth.image import Image
from mmsynth.sample import Dropped, Result, Sample
from mmsynth.testing import check_stage
from mmsynth_filters.faces import Faces
from tests.filters.photographs import photograph

#: where the face is, measured by eye: left, top, right, bottom
FACE = (170, 60, 275, 180)


def ready(**parameters: Any) -> Faces:
    stage = Faces(**parameters)
    stage.check()
    stage.setup("cpu")
    return stage


def two_astronauts() -> Sample:
    one = photograph("astronaut").image
    assert one is not None
    pair = PIL.Image.new("RGB", (1024, 512))
    pair.paste(one.pixels(), (0, 0))
    pair.paste(one.pixels(), (512, 0))
    return Sample("pair", Image.from_pixels(pair).encoded("png"))


def found(result: Result) -> tuple[int, float]:
    assert isinstance(result, Sample)
    assert result.record["scores"]["faces"] == len(result.record["faces"])
    return result.record["scores"]["faces"], result.record["scores"]["face_area"]


def test_a_face_is_found_where_it_is() -> None:
    (result,) = ready().process([photograph("astronaut")])
    count, area = found(result)
    assert count == 1
    assert 0.02 < area < 0.06
    assert isinstance(result, Sample)
    ((x, y, width, height),) = result.record["faces"]
    assert FACE[0] < x + width / 2 < FACE[2]
    assert FACE[1] < y + height / 2 < FACE[3]
    assert result.image is photograph("astronaut").image, "without blur the picture stays as it came"


@pytest.mark.parametrize("name", ["coffee", "chelsea", "rocket", "china", "flower"])
def test_no_face_is_found_where_there_is_none(name: str) -> None:
    assert found(ready().process([photograph(name)])[0]) == (0, 0.0)


def test_bounds_count_faces_and_what_they_cover() -> None:
    batch = [photograph("coffee"), photograph("astronaut"), two_astronauts()]

    def reasons(**bounds: Any) -> list[str | None]:
        return [getattr(result, "reason", None) for result in ready(**bounds).process(batch)]

    assert reasons(max_faces=0) == [None, "faces_above_max", "faces_above_max"]
    assert reasons(min_faces=1, max_faces=1) == ["faces_below_min", None, "faces_above_max"]
    assert reasons(max_area=0.02) == [None, "face_area_above_max", "face_area_above_max"]
    (result,) = ready(max_faces=1).process(batch[2:])
    assert isinstance(result, Dropped)
    assert result.sample is not None
    assert result.sample.record["scores"]["faces"] == 2


def test_blur_smears_the_face_and_nothing_else() -> None:
    sample = photograph("astronaut")
    stage = ready(blur=True)
    (result,) = stage.process([sample])
    assert isinstance(result, Sample)
    assert sample.image is not None
    assert result.image is not None
    assert result.record["faces_blurred"] == 1
    before, after = (np.asarray(image.pixels(), dtype=float) for image in (sample.image, result.image))
    ((x, y, width, height),) = result.record["faces"]
    inside = np.s_[y + height // 4 : y + 3 * height // 4, x + width // 4 : x + 3 * width // 4]
    edges = [np.abs(np.diff(pixels[inside], axis=1)).mean() for pixels in (before, after)]
    assert edges[1] < edges[0] / 3
    assert (before[:, 320:] == after[:, 320:]).all()
    assert (before[250:] == after[250:]).all()
    assert stage.find(result.image.pixels()) == [], "no face is left to be found"
    (untouched,) = stage.process([photograph("coffee")])
    assert isinstance(untouched, Sample)
    assert untouched.image is photograph("coffee").image


def test_large_pictures_are_searched_smaller_and_boxes_fit_the_large_one() -> None:
    (result,) = ready().process([photograph("astronaut", (2048, 2048))])
    assert isinstance(result, Sample)
    ((x, _, width, _),) = result.record["faces"]
    assert 4 * FACE[0] < x + width / 2 < 4 * FACE[2]


def test_a_sample_without_an_image_fails() -> None:
    with pytest.raises(SampleError, match="no_image"):
        ready().prepare(Sample("k", caption="a face"))


def test_keeps_the_stage_contract() -> None:
    small = [photograph("coffee", (150, 100)), photograph("astronaut", (256, 256)), photograph("china", (160, 120))]
    check_stage(Faces(max_faces=3, blur=True), small)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"min_faces": 2, "max_faces": 1}, "max_faces must be at least min_faces, got min_faces=2 and max_faces=1"),
        ({"max_area": 2}, "less than or equal to 1"),
        ({"min_side": 0}, "greater than 0"),
        ({"min_confidence": float("nan")}, "greater than or equal to 0|finite"),
        ({"min_confidence": float("inf")}, "finite"),
        ({"blur": True, "max_faces": 0}, "blur would never blur"),
        ({"blur": True, "max_area": 0}, "blur would never blur"),
    ],
)
def test_bounds_that_cannot_be_right_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Faces(**parameters)
