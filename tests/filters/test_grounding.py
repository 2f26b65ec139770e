"""Grounding's score is the model's own probability of yes, in any batch."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from pydantic import ValidationError

import mmsynth as mm
from mmsynth.errors import ModelError
from mmsynth.sample import Dropped, Failed, Result, Sample
from mmsynth.testing import check_stage, run_stage
from mmsynth_filters.grounding import Grounding
from tests.captioners.checkpoints import teach_answers

CAPTIONS = ["ba de", "fi lo ku", "ga", "te vi zo zu be.", "mo ra"]


@pytest.fixture(scope="module")
def answering(checkpoint: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The tiny checkpoints, with yes and No in their vocabularies ("no" is one of their words already)."""

    built: dict[str, Path] = {}

    def folder(name: str) -> str:
        if name not in built:
            source, built[name] = checkpoint(name), tmp_path_factory.mktemp(f"{name}-answering")
            teach_answers(source, built[name])
        return str(built[name])

    return folder


@pytest.fixture(scope="module")
def captioned(pictures: list[Sample]) -> list[Sample]:
    return [sample.with_caption(CAPTIONS[i % len(CAPTIONS)]) for i, sample in enumerate(pictures[:7])]


def stage(folder: str, **parameters: Any) -> Grounding:
    made = Grounding(model=folder, dtype="float32", **parameters)
    made.check()
    made.setup("cpu")
    return made


def results_of(made: Grounding, batch: list[Sample]) -> list[Result]:
    """One result for each sample, as the engine gets it."""
    return [result for (result,) in run_stage(made, batch)]


def scores(made: Grounding, batch: list[Sample]) -> list[float]:
    results = results_of(made, batch)
    assert all(isinstance(result, Sample) for result in results), results
    return [result.record["scores"]["grounding"] for result in results if isinstance(result, Sample)]


def probability_by_hand(folder: str, sample: Sample) -> float:
    """One forward pass as anyone would write it: no code of ours."""
    processor = tf.AutoProcessor.from_pretrained(folder)
    model = tf.AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    assert sample.image is not None
    caption = (sample.caption or "").rstrip(".")
    text = f"Does the image show: {caption}? Answer yes or no."
    content = [{"type": "image", "image": sample.image.pixels()}, {"type": "text", "text": text}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        last = model(**inputs).logits[0, -1].double().softmax(dim=-1)
    yes, *no = processor.tokenizer.convert_tokens_to_ids(["yes", "no", "No"])
    return float(last[yes] / (last[yes] + sum(last[i] for i in no)))


def test_the_score_is_the_models_own_probability_of_yes(
    answering: Callable[[str], str], captioned: list[Sample]
) -> None:
    folder = answering("idefics3")
    found = scores(stage(folder), captioned)
    assert found == pytest.approx([probability_by_hand(folder, sample) for sample in captioned], abs=1e-4)
    assert len({round(value, 3) for value in found}) >= 5, "the checkpoint must tell pictures apart"


@pytest.mark.parametrize("name", ["idefics3", "blip2"])
def test_keeps_the_stage_contract(answering: Callable[[str], str], captioned: list[Sample], name: str) -> None:
    check_stage(Grounding(model=answering(name), dtype="float32"), [*captioned, captioned[0].with_caption(" ")])


def test_what_nano_vlm_sees_passes_and_what_it_does_not_see_is_dropped() -> None:
    """A model that has learned its world, and scenes it has not seen."""
    drawn = [s for s in mm.scenes(24, world="nano", seed=5).render("scenes").take(24) if isinstance(s, Sample)]
    kinds = [{thing["kind"] for thing in sample.record["facts"]["objects"]} for sample in drawn]
    others = [next(k for k in ("star", "ring", "tree", "fish", "moon", "heart") if k not in there) for there in kinds]
    true = [s.with_caption(f"a {min(there)}") for s, there in zip(drawn, kinds, strict=True)]
    false = [s.with_caption(f"a {other}") for s, other in zip(drawn, others, strict=True)]
    judge = Grounding(min=0.5, question="Is there {caption}?", dtype="float32")
    judge.check()
    judge.setup("cpu")
    kept = [sum(isinstance(result, Sample) for result in results_of(judge, batch)) for batch in (true, false)]
    assert kept[0] >= 22
    assert kept[1] <= 2


def test_a_bound_drops_what_is_below_and_keeps_its_score(
    answering: Callable[[str], str], captioned: list[Sample]
) -> None:
    found = scores(stage(answering("idefics3")), captioned)
    bound = sorted(found)[3]
    results = results_of(stage(answering("idefics3"), min=bound - 1e-5), captioned)
    assert [getattr(result, "reason", None) for result in results] == [
        "grounding_below_min" if value < bound else None for value in found
    ]
    dropped = [result.sample for result in results if isinstance(result, Dropped)]
    assert all(sample is not None and sample.record["scores"]["grounding"] < bound for sample in dropped)


def test_another_question_and_name(answering: Callable[[str], str], captioned: list[Sample]) -> None:
    made = stage(answering("idefics3"), question="ba {caption} de", name="yes")
    (result,) = results_of(made, captioned[:1])
    assert isinstance(result, Sample)
    assert made.score_names() == ("yes",)
    assert result.record["scores"]["yes"] != scores(stage(answering("idefics3")), captioned[:1])[0]


@pytest.mark.parametrize(("min", "reason"), [(None, None), (0.5, "no_caption")])
def test_without_a_caption_nothing_is_judged_and_without_an_image_it_fails(
    min: float | None, reason: str | None, answering: Callable[[str], str], captioned: list[Sample]
) -> None:
    made = stage(answering("idefics3"), min=min)
    results = results_of(made, [Sample("k", captioned[0].image), Sample("l", caption="a dog")])
    assert [getattr(result, "reason", None) for result in results] == [reason, "no_image"]
    assert isinstance(results[1], Failed)


def test_a_score_that_is_no_number_is_no_score(captioned: list[Sample]) -> None:
    result = Grounding().judged(captioned[0], {"grounding": math.nan})
    assert getattr(result, "reason", None) == "grounding_not_finite"


def test_a_model_without_words_for_yes_and_no_is_refused(checkpoint: Callable[[str], str]) -> None:
    with pytest.raises(ModelError, match="no tokens of their own for yes and no"):
        stage(checkpoint("idefics3"))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"min": 1.5}, "less than or equal to 1"),
        ({"question": "Is it true?"}, "one {caption}"),
        ({"name": "Yes!"}, "pattern"),
        ({"temperature": 0.5}, "Extra inputs"),
        ({"revision": "main"}, "revision goes with a hub model"),
    ],
)
def test_parameters_that_cannot_be_right_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Grounding(**parameters)
