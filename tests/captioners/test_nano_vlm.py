"""nano-vlm through `vlm` and `ask`, as anyone runs them offline: what it says of drawn scenes is true."""

import logging
import random
from collections.abc import Sequence

import pytest

import mmsynth as mm
from mmsynth.facts import Facts
from mmsynth.sample import Sample
from mmsynth.testing import run_stage
from mmsynth_captioners.ask import VisualQuestions
from mmsynth_captioners.facts.questions import write_questions
from mmsynth_captioners.vlm import VisionLanguageCaptioner
from mmsynth_renderers.scenes import judge

SCENES = 60


@pytest.fixture(scope="module")
def scenes() -> list[Sample]:
    drawn = mm.scenes(SCENES, seed=77).render("scenes").take(SCENES)
    return [sample for sample in drawn if isinstance(sample, Sample)]


def facts_of(sample: Sample) -> Facts:
    return Facts.model_validate(sample.record["facts"])


def true_share(said: Sequence[tuple[str, Sample]]) -> float:
    verdicts = [true for text, sample in said for _, true in judge.statements(judge.read(text), facts_of(sample))]
    assert len(verdicts) > 3 * len(said)
    return sum(verdicts) / len(verdicts)


def captions(scenes: list[Sample], **parameters: object) -> list[tuple[str, Sample]]:
    stage = VisionLanguageCaptioner(**parameters)
    stage.check()
    stage.setup("cpu")
    results = [result for (result,) in run_stage(stage, scenes)]
    assert all(isinstance(result, Sample) for result in results)
    return [
        (result.caption or "", sample)
        for result, sample in zip(results, scenes, strict=True)
        if isinstance(result, Sample)
    ]


def test_captions_are_mostly_true_and_the_default_says_what_it_is(
    scenes: list[Sample], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="mmsynth.models"):
        said = captions(scenes)
    assert "runs on 'nano', the small offline default" in caplog.text
    assert "model='HuggingFaceTB/SmolVLM-256M-Instruct'" in caplog.text
    assert true_share(said) >= 0.85


def test_a_detailed_caption_states_nearly_everything_and_a_brief_one_less(scenes: list[Sample]) -> None:
    detailed = captions(scenes, prompt="Describe this image in detail.")
    brief = captions(scenes, prompt="Describe this image briefly.")
    stated = [there for text, sample in detailed for _, there in judge.stated(judge.read(text), facts_of(sample))]
    assert sum(stated) / len(stated) >= 0.8
    assert sum(len(text) for text, _ in brief) < 0.8 * sum(len(text) for text, _ in detailed)


def test_answers_are_mostly_right(scenes: list[Sample]) -> None:
    right = []
    stage = VisualQuestions(questions=["What objects are there?"])
    stage.setup("cpu")
    for number, sample in enumerate(scenes[:30]):
        facts = facts_of(sample)
        pairs = write_questions(facts, random.Random(number), 4)
        asked = stage.model_copy(update={"questions": [pair["question"] for pair in pairs]})
        [[answered]] = run_stage(asked, [sample])
        assert isinstance(answered, Sample)
        given = {pair["question"]: pair["answer"] for pair in answered.record["qa"]}
        right += [judge.is_right(p["kind"], p["question"], given[p["question"]], p["answer"], facts) for p in pairs]
    assert sum(right) / len(right) >= 0.8


def test_sampled_captions_differ_by_seed_and_repeat_themselves(scenes: list[Sample]) -> None:
    pipeline = mm.scenes(6, seed=3).render("scenes").caption("vlm", temperature=1.5)
    first, again, other = (
        [sample.caption for sample in pipe.take(6) if isinstance(sample, Sample)]
        for pipe in (pipeline, pipeline, pipeline.seeded(9))
    )
    assert first == again
    assert first != other
