"""Boilerplate finds what a caption should not say, and leaves alone what a picture can show."""

from typing import Any

import pytest
from pydantic import ValidationError

from mmsynth.sample import Dropped, Sample
from mmsynth.testing import check_stage
from mmsynth_filters.boilerplate import Boilerplate

GOOD = [
    "A Nikon camera on a tripod",
    "A cat sits on a sofa, looking at the window.",
    "A sign says no parking",
    "A woman describes a painting to a child",
    "An image of a man who can see the sea",
    "A man is unable to open the door",
    "A sure-footed goat on a cliff",
    "A stock of wood beside a house",
    "Two people click glasses of wine",
    "Water runs from a tap to fill the bucket",
    "A user manual lies on a desk",
    "Cannon fired at the castle",
    "A 35 mm film roll and 1/2 cup of flour",
    "an iso 9001 certificate on a wall, ISO 14001 and ISO 216",
    "OK, a girl waves",
    "A copyright symbol on a page",
    "A sorry looking dog, and I am sorry on a card",
    "A boy shares photos on a phone",
    "Students write a description of a town",
    "A plane lands on runway P12",
    "A man signs up the road",
    "Sure, the cat sleeps",
    "A sign up on the wall of a shop",
    "一只红色的狗坐在草地上",
]
BAD = {
    "As an AI language model, I cannot see images.": ["assistant", "refusal"],
    "I'm sorry, but I can’t help with that.": ["refusal"],
    "No image was provided. Please upload an image.": ["refusal"],
    "I'm unable to view the picture": ["refusal"],
    "Sorry, I can't do that": ["refusal"],
    "There is no image attached": ["refusal"],
    "Is there anything else I can help with?": ["preamble"],
    "Title: a cat on a mat": ["preamble"],
    "### Response: a cat": ["prompt"],
    "Write a short caption for this picture.": ["prompt"],
    "Free download cat wallpaper": ["web"],
    "Sign up for our newsletter": ["web"],
    "A dog. Follow us on Instagram": ["web"],
    "Share on Facebook": ["web"],
    "Copyright 2019 John Smith": ["web"],
    "Photo credit: John Smith": ["web"],
    "John Smith/Reuters": ["web"],
    "P1010001": ["file_name"],
    "Sure, here is a caption: a dog": ["preamble"],
    "OK, I will describe it: a dog": ["preamble"],
    "Certainly! A dog": ["preamble"],
    "a night sky, iso 3200 and ISO-125": ["camera_data"],
    "Here's a detailed description of the image: a dog": ["preamble"],
    "**Caption:** a dog": ["preamble"],
    "Describe this image in one sentence. A dog": ["prompt"],
    "ASSISTANT: a dog": ["prompt"],
    "a dog<|im_end|>": ["markup"],
    "a dog &amp; a cat": ["markup"],
    "a dog<br/>": ["markup"],
    "Dog on grass stock photo": ["stock"],
    "Dog, royalty-free, Getty Images": ["stock"],
    "Click to enlarge": ["web"],
    "Image not available": ["web"],
    "© 2019 All rights reserved": ["web"],
    "see https://example.org/a": ["url"],
    "IMG_1234": ["file_name"],
    "dog-final-2.JPG": ["file_name"],
    "NIKON D750, f/2.8, ISO 400": ["camera_data"],
    "Photograph by Canon EOS 5D Mark II": ["camera_data"],
}


def found(caption: str, **parameters: Any) -> list[str]:
    (result,) = Boilerplate(**parameters).process([Sample("k", caption=caption)])
    assert isinstance(result, Sample)
    kinds: list[str] = result.record.get("boilerplate", [])
    assert result.record["scores"] == {"boilerplate": len(kinds)}
    return kinds


@pytest.mark.parametrize("caption", GOOD)
def test_what_a_picture_can_show_passes(caption: str) -> None:
    assert found(caption) == []


@pytest.mark.parametrize(("caption", "kinds"), BAD.items())
def test_what_no_caption_should_say_is_found_by_kind(caption: str, kinds: list[str]) -> None:
    assert found(caption) == kinds


def test_kinds_and_patterns_are_the_users_choice() -> None:
    caption = "Stock photo of a dog, IMG_1234"
    assert found(caption, kinds=["file_name"]) == ["file_name"]
    assert found(caption, kinds=[], patterns=[r"\bDOG\b"]) == ["pattern"]


def test_a_bound_drops_and_keeps_what_was_found() -> None:
    batch = [Sample("a", caption="a dog"), Sample("b", caption="a dog stock photo"), Sample("c")]
    results = Boilerplate(max=0).process(batch)
    assert [getattr(result, "reason", None) for result in results] == [None, "boilerplate_above_max", "no_caption"]
    assert isinstance(results[1], Dropped)
    assert results[1].sample is not None
    assert results[1].sample.record["boilerplate"] == ["stock"]
    assert isinstance(Boilerplate().process([Sample("c")])[0], Sample)
    assert isinstance(Boilerplate(max=1).process(batch[1:2])[0], Sample)


def test_long_captions_take_no_long_time() -> None:
    for text in ("x" * 10_000, "1" * 10_000, "<" * 5_000, "a-" * 5_000, "here is " * 1_000):
        found(text)


def test_keeps_the_stage_contract() -> None:
    captions = [*GOOD, *BAD, None]
    check_stage(Boilerplate(max=0), [Sample(f"k{i}", caption=c) for i, c in enumerate(captions)])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"patterns": ["(dog"]}, "is not a regular expression"),
        ({"patterns": ["x*"]}, "matches nothing at all"),
        ({"kinds": []}, "nothing would be found"),
        ({"kinds": ["spam"]}, "'assistant', 'refusal'"),
        ({"max": -1}, "greater than or equal to 0"),
    ],
)
def test_parameters_that_cannot_be_right_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Boilerplate(**parameters)
