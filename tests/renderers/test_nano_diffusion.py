"""nano-diffusion through `diffusion`, as anyone runs it offline: it draws what its prompts say."""

import logging

import pytest

import mmsynth as mm
from mmsynth.sample import Sample
from mmsynth_renderers.diffusion import DiffusionRenderer
from mmsynth_renderers.scenes import judge, pixels

PROMPTS = 32


@pytest.fixture(scope="module")
def drawn() -> list[Sample]:
    results = mm.scenes(PROMPTS, seed=31, world="nano").render("diffusion", batch_size=16).filter("clip").take(PROMPTS)
    return [result for result in results if isinstance(result, Sample)]


def test_pictures_are_64_pixels_and_nano_clip_knows_their_own_prompts(drawn: list[Sample]) -> None:
    assert len(drawn) == PROMPTS
    assert {(s.image.width, s.image.height) for s in drawn if s.image is not None} == {(64, 64)}
    scores = sorted(sample.record["scores"]["clip"] for sample in drawn)
    assert scores[PROMPTS // 2] > 0.35


def test_what_is_drawn_is_mostly_what_was_asked_for(drawn: list[Sample]) -> None:
    found = [
        (sort, true)
        for sample in drawn
        if sample.image is not None
        for sort, true in judge.statements(judge.read(sample.caption or ""), pixels.facts_of(sample.image.pixels()))
    ]
    assert len(found) > 3 * PROMPTS
    assert sum(true for _, true in found) >= 0.5 * len(found)
    objects = [true for sort, true in found if sort in {"object", "colour"}]
    assert sum(objects) >= 0.65 * len(objects)


def test_the_default_says_what_it_is(caplog: pytest.LogCaptureFixture) -> None:
    stage = DiffusionRenderer()
    stage.check()
    with caplog.at_level(logging.INFO, logger="mmsynth.models"):
        stage.setup("cpu")
    assert "runs on 'nano', the small offline default" in caplog.text
    assert stage.models[0].id == "nano"
