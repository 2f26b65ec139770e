"""Toxicity counts words of a list, or asks a text classifier.

The words here are the mildest of the list; the classifier is a BERT with random weights, whose labels are only names.
"""

import math
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mmsynth.errors import ModelError
from mmsynth.sample import Dropped, Sample
from mmsynth.testing import check_stage
from mmsynth_filters.toxicity import Toxicity
from tests.models.classifiers import save_bert

GOOD = [
    "a great tit on a branch above a cock and a blue-footed booby",
    "a cowgirl at a strip mall with a pot of tea and a bottle of rum",
    "a gay couple, two lesbians and a seaman before a naked Venus by Botticelli",
    "Scunthorpe United, Essex and Sussex",
    "an assassin's class plays a bass guitar in 1955",
    "god, what a view",
    "Dick Van Dyke and Philip K. Dick at a party",
    "a wild ass on a meadow, and an ass before a cart",
    "an ass",
    "a dick tracy comic, and moby dick",
    "a bastard sword on a wall",
    "a pussy willow branch in a vase",
    "a Damn Yankees poster",
    "a fag end in an ashtray",
    "a Homo erectus skull beside one of homo sapiens",
    "retarded growth of a plant",
    "the anal fin of a fish",
    "a marble statue with a broken penis",
    "a spic and span kitchen",
    "Dildo, a harbour in Newfoundland; Fucking, a village in Austria",
    "a * b, f*ork and 5*5 on a blackboard",
    "a black labrador bitch nursing her puppies",
    "a dachshund bitch",
    "a hot dog with kraut, and a jar of kraut beside a bowl of cabbage",
    "一只红色的狗坐在草地上",
]
BAD = {
    "a damn dog": 1,
    "DAMN! A dog, damn it": 2,
    "d4mn, what a dog": 1,
    "a son-of-a-bitch": 1,
    "what an ass he is": 1,
    "he is such an ass": 1,
    "a woman with a big ass": 1,
    "this bitch again": 1,
    "a dirty kraut": 1,
    "Hans is a dick": 1,
    "a son of a bitch with his dog": 1,
    "a man calls another a son of a bitch": 1,
    "f*ck off, sh*t, what a b*tch": 3,
    "a bunch of assholes": 1,
    "you are a moron": 1,
    "what a piece of crap": 1,
    "white trash, go kill yourself": 2,
    "homos and retards": 2,
    "bull shit on the grass": 1,
    "a load of $hit": 1,
    "what b.i.t.c.h is this": 0,
}


def ready(**parameters: Any) -> Toxicity:
    stage = Toxicity(**parameters)
    stage.check()
    stage.setup("cpu")
    return stage


def score(stage: Toxicity, caption: str) -> float:
    (result,) = stage.process([Sample("k", caption=caption)])
    assert isinstance(result, Sample)
    return float(result.record["scores"]["toxicity"])


@pytest.fixture(scope="module")
def words() -> Toxicity:
    return ready()


@pytest.fixture(scope="module", params=["single_label_classification", "multi_label_classification"])
def classifier(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp(request.param), request.param)


@pytest.mark.parametrize("caption", GOOD)
def test_everyday_words_are_no_abuse(words: Toxicity, caption: str) -> None:
    assert score(words, caption) == 0


@pytest.mark.parametrize(("caption", "count"), BAD.items())
def test_words_of_the_list_are_counted_in_disguise_too(words: Toxicity, caption: str, count: int) -> None:
    assert score(words, caption) == count


def test_the_list_can_be_made_longer_and_shorter() -> None:
    stage = ready(words=["Pumpkin head", "gay"], allow=["damn"])
    assert score(stage, "a damn pumpkin  head") == 1
    assert score(stage, "a gay day") == 1


def test_a_word_that_the_user_adds_counts_in_any_context() -> None:
    assert score(ready(words=["ass"]), "an ass before a cart") == 1


def test_a_bound_drops_and_keeps_the_score() -> None:
    stage = ready(max=0)
    results = stage.process([Sample("a", caption="a dog"), Sample("b", caption="a damn dog"), Sample("c")])
    assert [getattr(result, "reason", None) for result in results] == [None, "toxicity_above_max", "no_caption"]
    assert isinstance(results[1], Dropped)
    assert results[1].sample is not None
    assert results[1].sample.record["scores"] == {"toxicity": 1}
    assert isinstance(ready().process([Sample("c")])[0], Sample)


def test_words_keep_the_stage_contract() -> None:
    check_stage(Toxicity(max=0), [Sample(f"k{i}", caption=c) for i, c in enumerate([*GOOD, *BAD, None])])


def test_a_classifiers_score_is_its_own_largest_probability(classifier: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    captions = ["a dog", "a red cat on the lawn", "the the the dog"]
    stage = ready(model=str(classifier), labels=["toxic", "insult"], dtype="float32")
    results = stage.process([Sample(f"k{i}", caption=c) for i, c in enumerate(captions)])
    model = AutoModelForSequenceClassification.from_pretrained(classifier, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(classifier)
    for caption, result in zip(captions, results, strict=True):
        with torch.no_grad():
            logits = model(**tokenizer(caption, return_tensors="pt")).logits[0]
        multi = model.config.problem_type.startswith("multi")
        expected = (logits.sigmoid() if multi else logits.softmax(-1))[1:].max().item()
        assert isinstance(result, Sample)
        assert result.record["scores"]["toxicity"] == pytest.approx(expected, abs=1e-5)
    assert stage.models[0].id == str(classifier)


def test_a_classifier_keeps_the_stage_contract_and_says_what_it_left_unread(classifier: Path) -> None:
    captions = ["a dog", "a red cat on the lawn", "dog " * 40, None]
    stage = Toxicity(model=str(classifier), labels=["toxic"], dtype="float32")
    results = check_stage(stage, [Sample(f"k{i}", caption=c) for i, c in enumerate(captions)])
    cut = [isinstance(result, Sample) and result.record.get("toxicity_truncated", False) for result in results]
    assert cut == [False, False, True, False]


def test_a_label_that_the_model_does_not_have_is_refused(classifier: Path) -> None:
    with pytest.raises(ModelError, match="no label 'rude'; its labels: neutral, toxic, insult"):
        Toxicity(model=str(classifier), labels=["rude"]).check()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"labels": ["toxic"]}, "go with a model"),
        ({"model": "unitary/toxic-bert"}, "labels must say"),
        ({"model": "unitary/toxic-bert", "labels": ["toxic"], "words": ["x"]}, "go with model: words"),
        ({"words": [" "]}, "blank"),
        ({"model": "unitary/toxic-bert", "labels": ["toxic"], "max": 2}, "a probability"),
        ({"max": math.nan}, "finite|greater"),
        ({"max": math.inf}, "finite"),
        ({"max": -1}, "greater than or equal to 0"),
    ],
)
def test_parameters_that_cannot_be_right_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Toxicity(**parameters)
