import random
from typing import get_args

import pytest
import torch
import transformers as tf
from pydantic import ValidationError

from mmsynth.image import Image
from mmsynth.sample import Dropped, Failed, Sample
from mmsynth.testing import check_stage, run_stage
from mmsynth_captioners.ask import VisualQuestions
from mmsynth_captioners.questions import KINDS, Kind, draw
from mmsynth_captioners.vlm import VisionLanguageCaptioner

COLOUR, COUNT = "what colour is this image ?", "how many ?"


def asker(folder, **parameters):
    parameters = {"model": folder, "dtype": "float32", "max_new_tokens": 8, **parameters}
    stage = VisualQuestions(**parameters).bound("caption:ask", run_seed=7)
    stage.check()
    stage.setup("cpu")
    return stage


def results_of(stage, samples):
    """One result for each sample, as the engine gets it."""
    return [result for (result,) in run_stage(stage, samples)]


def answers(stage, samples):
    return [[pair["answer"] for pair in result.record["qa"]] for result in results_of(stage, samples)]


@pytest.mark.parametrize("name", ["idefics3", "llava", "blip"])
def test_each_answer_is_the_one_the_model_gives_to_that_question_about_that_image(name, checkpoint, pictures):
    written = answers(asker(checkpoint(name), questions=[COLOUR, COUNT]), pictures)
    assert len({tuple(pair) for pair in written}) > 8, "answers must differ, or a mix-up would not show"
    for number, question in enumerate((COLOUR, COUNT)):
        told = VisionLanguageCaptioner(model=checkpoint(name), dtype="float32", max_new_tokens=8, prompt=question)
        told.setup("cpu")
        assert [own[number] for own in written] == [results_of(told, [s])[0].caption for s in pictures]


def test_blips_answering_model_is_loaded_as_what_it_is(checkpoint, pictures):
    folder = checkpoint("blip_vqa")
    processor, model = tf.AutoProcessor.from_pretrained(folder), tf.BlipForQuestionAnswering.from_pretrained(folder)
    expected = []
    for question in (COLOUR, COUNT):
        inputs = processor(images=pictures[3].image.pixels(), text=question, return_tensors="pt")
        output = model.generate(**inputs, do_sample=False, max_new_tokens=8)
        expected.append(processor.decode(output[0], skip_special_tokens=True).strip())
    assert answers(asker(folder, questions=[COLOUR, COUNT]), pictures)[3] == expected


@pytest.mark.parametrize("name", ["qwen2_vl", "blip_vqa", "paligemma"])
def test_the_contract_of_stages(name, checkpoint, pictures):
    results = check_stage(VisualQuestions(model=checkpoint(name), dtype="float32", max_new_tokens=5), pictures[:4])
    assert all(len(result.record["qa"]) == 3 for result in results)


def test_a_pair_says_how_it_came_about(checkpoint, pictures):
    folder = checkpoint("qwen2_vl")
    (result,) = results_of(asker(folder, kinds=["yes_no"], per_image=1), pictures[:1])
    (pair,) = result.record["qa"]
    assert pair["question"] in KINDS["yes_no"][1]
    assert pair == {
        "question": pair["question"],
        "answer": pair["answer"],
        "kind": "yes_no",
        "model": folder,
        "prompt": f"{pair['question']} Answer yes or no.",
        "stage": "caption:ask",
        "truncated": True,
    }
    (result,) = results_of(asker(folder, questions=[COUNT]), pictures[:1])
    assert (result.record["qa"][0]["kind"], result.record["qa"][0]["prompt"]) == ("given", COUNT)


def test_paligemma_is_asked_in_its_own_form(checkpoint, pictures):
    (result,) = results_of(asker(checkpoint("paligemma"), questions=[COLOUR]), pictures[:1])
    assert result.record["qa"][0]["prompt"] == f"answer en {COLOUR}"


def test_earlier_pairs_and_the_caption_stay(checkpoint, pictures):
    before = Sample("seen", image=pictures[0].image, caption="a cat").with_qa([{"question": "?", "answer": "!"}])
    (result,) = results_of(asker(checkpoint("blip_vqa"), questions=[COLOUR]), [before])
    assert result.caption == "a cat"
    assert [pair["question"] for pair in result.record["qa"]] == ["?", COLOUR]


def test_sampled_answers_depend_on_sample_and_question_and_not_on_the_batch(checkpoint, pictures):
    stage = asker(checkpoint("llava"), questions=[COLOUR, COLOUR, COUNT], temperature=2.0)
    together = answers(stage, pictures)
    assert [answers(stage, [s])[0] for s in pictures[:4]] == together[:4]
    assert any(own[0] != own[1] for own in together), "one question asked twice has two draws"
    pair = results_of(stage, pictures[:1])[0].record["qa"][0]
    assert isinstance(pair["seed"], int)
    torch.manual_seed(3)
    assert answers(stage, pictures[:1]) == together[:1]


def test_built_in_questions_are_drawn_from_each_samples_own_seed(checkpoint, pictures):
    stage = asker(checkpoint("blip_vqa"), per_image=4)
    asked = [[p["question"] for p in r.record["qa"]] for r in results_of(stage, pictures)]
    assert len({tuple(own) for own in asked}) > 8
    assert all(len(set(own)) == 4 for own in asked), "four different questions each"
    assert [[p["question"] for p in results_of(stage, [s])[0].record["qa"]] for s in pictures[:3]] == asked[:3]


def test_per_image_draws_that_many_of_the_given_questions(checkpoint, pictures):
    results = results_of(asker(checkpoint("blip_vqa"), questions=[COLOUR, COUNT], per_image=1), pictures)
    assert {p["question"] for r in results for p in r.record["qa"]} == {COLOUR, COUNT}
    assert all(len(r.record["qa"]) == 1 for r in results)


def test_draws_spread_over_the_kinds_and_never_repeat():
    kinds = list(get_args(Kind))
    drawn = draw(kinds, 7, random.Random(1))
    assert {question.kind for question in drawn} == set(kinds)
    everything = draw(kinds, 1000, random.Random(1))
    assert len({question.text for question in everything}) == sum(len(wordings) for _, wordings in KINDS.values())
    assert {question.kind for question in draw(["why", "why"], 3, random.Random(1))} == {"why"}


def test_every_kind_has_several_wordings():
    assert set(KINDS) == set(get_args(Kind))
    assert all(len(wordings) >= 3 for _, wordings in KINDS.values())


def test_a_sample_without_an_answer_is_dropped(checkpoint, pictures):
    stage = asker(checkpoint("blip_vqa"), questions=[COLOUR])
    decoder = stage.chat_model.model.text_decoder.cls.predictions
    for bias in {decoder.bias, decoder.decoder.bias}:
        bias.data[2] = 1e4  # the stop token wins at once
    results = results_of(stage, pictures[:2])
    assert all(isinstance(result, Dropped) and result.reason == "no_answer" for result in results)


def test_a_broken_picture_fails_its_own_sample_alone_whatever_is_asked_of_it(checkpoint, pictures):
    stage = asker(checkpoint("llava"), questions=[COLOUR, COUNT])
    broken = Sample("broken", image=Image(pictures[0].image.data[:-2000]))
    first, failed, last = results_of(stage, [pictures[0], broken, pictures[1]])
    assert isinstance(failed, Failed)
    assert failed.reason == "image_truncated"
    assert [[pair["answer"] for pair in kept.record["qa"]] for kept in (first, last)] == answers(stage, pictures[:2])
    (blank,) = results_of(stage, [Sample("blank")])
    assert blank.reason == "no_image"


def test_all_questions_of_a_batch_are_asked_together(pictures):
    stage = VisualQuestions(engine="mmsynth.testing:EchoChatEngine", questions=[COLOUR, COUNT], batch_size=4)
    stage.setup("cpu")
    results_of(stage, pictures[:8])
    assert stage.chat_model.batch_sizes == [4, 4, 4, 4], "two questions of two samples make a batch of four"


def test_parameters_that_cannot_be_right_are_refused():
    for wrong, message in [
        ({"questions": ["a ?"], "kinds": ["what"]}, "give questions or kinds, not both"),
        ({"questions": ["a ?"], "per_image": 2}, "there are only 1 questions"),
        ({"questions": [" "]}, "must not be blank"),
        ({"questions": []}, "at least 1"),
        ({"kinds": ["who"]}, "yes_no"),
    ]:
        with pytest.raises(ValidationError, match=message):
            VisualQuestions(**wrong)
