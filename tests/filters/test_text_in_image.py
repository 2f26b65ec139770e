"""TextInImage reads drawn and printed text, and finds none in photographs."""

from functools import cache
from typing import Any

import PIL.Image
import pytest
from PIL import ImageDraw, ImageFont
from pydantic import ValidationError

from mmsynth.errors import SampleError
from mmsynth.image import Image
from mmsynth.sample import Dropped, Result, Sample
from mmsynth.testing import check_stage
from mmsynth_filters.text_in_image import TextInImage, covered_share
from tests.filters.photographs import photograph


@cache
def ready() -> TextInImage:
    stage = TextInImage(threads=1)
    stage.check()
    stage.setup("cpu")
    return stage


def written(*lines: str, size: tuple[int, int] = (320, 160)) -> Sample:
    picture = PIL.Image.new("RGB", size, (250, 240, 220))
    for i, line in enumerate(lines):
        position = (20, 15 + 50 * i)
        ImageDraw.Draw(picture).text(position, line, fill=(20, 30, 90), font=ImageFont.load_default(32))
    return Sample(f"written-{len(lines)}", Image.from_pixels(picture).encoded("png"))


def read(result: Result) -> list[str]:
    assert isinstance(result, Sample)
    lines = result.record.get("text_in_image", [])
    assert result.record["scores"]["text_lines"] == len(lines)
    return [line["text"] for line in lines]


def test_drawn_text_is_read_and_its_area_measured() -> None:
    (result,) = ready().process([written("GRAND SALE", "only today")])
    assert [text.replace(" ", "").lower() for text in read(result)] == ["grandsale", "onlytoday"]
    assert isinstance(result, Sample)
    assert 0.15 < result.record["scores"]["text_area"] < 0.5


def test_a_printed_page_is_mostly_text() -> None:
    (result,) = ready().process([photograph("page")])
    assert "Region-based segmentation" in read(result)
    assert isinstance(result, Sample)
    assert result.record["scores"]["text_area"] > 0.4


@pytest.mark.parametrize("size", [(3000, 8), (8, 3000), (1, 1)])
def test_the_thinnest_pictures_are_searched_too(size: tuple[int, int]) -> None:
    picture = PIL.Image.new("RGB", size, "red")
    (result,) = ready().process([Sample("thin", Image.from_pixels(picture).encoded("png"))])
    assert read(result) == []


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "china"])
def test_photographs_without_text_have_none(name: str) -> None:
    (result,) = ready().process([photograph(name, (300, 200))])
    assert read(result) == []
    assert isinstance(result, Sample)
    assert result.record["scores"] == {"text_area": 0.0, "text_lines": 0}


def test_bounds_drop_and_keep_what_was_read() -> None:
    stage = ready().model_copy(update={"max": 0.1})
    results = stage.process([written("GRAND SALE", "only today"), photograph("coffee", (300, 200))])
    assert [getattr(result, "reason", None) for result in results] == ["text_area_above_max", None]
    assert isinstance(results[0], Dropped)
    assert results[0].sample is not None
    assert len(results[0].sample.record["text_in_image"]) == 2
    stage = ready().model_copy(update={"min": 0.1})
    (result,) = stage.process([photograph("coffee", (300, 200))])
    assert getattr(result, "reason", None) == "text_area_below_min"


def test_boxes_that_overlap_count_once() -> None:
    left = [(0, 0), (50, 0), (50, 100), (0, 100)]
    wide = [(0, 0), (75, 0), (75, 100), (0, 100)]
    assert covered_share([left, wide], (100, 100)) == pytest.approx(0.75, abs=0.02)
    assert covered_share([], (100, 100)) == 0


def test_a_sample_without_an_image_fails() -> None:
    with pytest.raises(SampleError, match="no_image"):
        ready().prepare(Sample("k", caption="text"))


def test_keeps_the_stage_contract() -> None:
    batch = [written("GRAND SALE"), written("hello", size=(200, 80)), photograph("coffee", (200, 120))]
    check_stage(TextInImage(max=0.3, threads=1), batch)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"min": 0.5, "max": 0.1}, "max must be at least min, got min=0.5 and max=0.1"),
        ({"max": 2}, "less than or equal to 1"),
        ({"max_side": 8}, "greater than or equal to 32"),
    ],
)
def test_bounds_that_cannot_be_right_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TextInImage(**parameters)
