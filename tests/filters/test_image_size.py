"""ImageSize judges by the header."""

from typing import Any

import PIL.Image
import pytest
from pydantic import ValidationError

from mmsynth.errors import ImageError, SampleError
from mmsynth.image import Image
from mmsynth.sample import Dropped, Sample
from mmsynth.testing import check_stage
from mmsynth_filters.image_size import ImageSize


def sized(width: int, height: int, format: str = "jpg") -> Sample:
    return Sample(f"{width}x{height}", Image.from_pixels(PIL.Image.new("RGB", (width, height))).encoded(format))


def reasons(stage: ImageSize, *sizes: tuple[int, int]) -> list[str | None]:
    return [getattr(r, "reason", None) for r in stage.process([sized(*size) for size in sizes])]


def test_bounds_are_inclusive() -> None:
    stage = ImageSize(min_side=20, max_side=60, max_aspect=3)
    sizes = [(20, 60), (60, 20), (19, 30), (61, 61), (20, 20), (60, 21)]
    assert reasons(stage, *sizes) == [None, None, "short_side_below_min", "long_side_above_max", None, None]
    assert reasons(ImageSize(max_aspect=2), (20, 40), (20, 41), (41, 20)) == [
        None,
        "aspect_above_max",
        "aspect_above_max",
    ]


def test_without_a_bound_it_only_scores() -> None:
    (result,) = ImageSize().process([sized(64, 48)])
    assert isinstance(result, Sample)
    assert result.record["scores"] == {"short_side": 48, "long_side": 64, "aspect": 1.3333}
    assert set(ImageSize().score_names()) == result.record["scores"].keys()


def test_the_dropped_keep_their_scores() -> None:
    (result,) = ImageSize(min_side=50).process([sized(64, 48)])
    assert isinstance(result, Dropped)
    assert result.sample is not None
    assert result.sample.record["scores"]["short_side"] == 48


def test_a_truncated_image_still_has_a_size() -> None:
    whole = sized(200, 100)
    assert whole.image is not None
    cut = Sample("cut", Image(whole.image.data[:700]))
    assert ImageSize(min_side=100).prepare(cut) == (200, 100)


def test_what_is_no_image_fails_alone() -> None:
    with pytest.raises(SampleError, match="no_image"):
        ImageSize().prepare(Sample("k", caption="text only"))
    with pytest.raises(ImageError, match="image_unreadable"):
        ImageSize().prepare(Sample("k", Image(b"not an image")))


def test_keeps_the_stage_contract() -> None:
    check_stage(ImageSize(min_side=30, max_aspect=2), [sized(64, 48), sized(20, 20), sized(90, 40)])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"min_side": 0}, "greater than or equal to 1"),
        ({"min_side": 9, "max_side": 8}, "max_side must be at least min_side, got min_side=9 and max_side=8"),
        ({"max_aspect": 0.5}, "greater than or equal to 1"),
    ],
)
def test_bounds_that_cannot_be_right_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ImageSize(**parameters)
