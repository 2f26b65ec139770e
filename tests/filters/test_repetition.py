"""Repetition tells captions that go round in circles from captions that say a thing twice."""

from typing import Any

import pytest
from pydantic import ValidationError

from mmsynth.sample import Dropped, Sample
from mmsynth.testing import check_stage
from mmsynth_filters.repetition import Repetition, longest_run, repeated_share, tail_repeats

#: what the docstring proposes
BOUNDS = {"max_ngrams": 0.4, "max_tail": 2, "max_run": 4}

GOOD = [
    "a red dog",
    "a man in a blue shirt and a man in a red shirt stand in a field",
    "A street sign. The street sign is green. The street sign says Main St.",
    "A very, very big dog... and a 10000000 won note",
    "The left plate holds a slice of bread. The right plate holds a slice of cake. Between them stands a cup of tea.",
    "一只红色的狗坐在草地上,旁边有一只猫",
    "สุนัขสีแดงนั่งอยู่บนหญ้า",
    "New York, New York",
    "wow!!!!!!",
    "haha, a banana... and a couscous",
]
DEGENERATE = {
    "a dog " * 10: "repeated_ngrams_above_max",
    "A cat on a mat. " * 5 + "A cat on": "repeated_ngrams_above_max",
    "the the the": "tail_repeats_above_max",
    "a dog on the lawn in front of a house with a large porch and a cat and a cat and a cat": "tail_repeats_above_max",
    "red red red red red dog on a green lawn": "longest_run_above_max",
    "a dog!!!!!!!!!!": "longest_run_above_max",
    "nooooooooooo": "longest_run_above_max",
    "hahahahahahaha": "longest_run_above_max",
    "a man says lalalalalala and Blablablablabla": "longest_run_above_max",
    "狗狗狗狗狗狗狗": "repeated_ngrams_above_max",
}


def reason(stage: Repetition, caption: str | None) -> str | None:
    return getattr(stage.process([Sample("k", caption=caption)])[0], "reason", None)


@pytest.mark.parametrize("caption", GOOD)
def test_what_people_write_passes(caption: str) -> None:
    assert reason(Repetition(**BOUNDS), caption) is None


@pytest.mark.parametrize(("caption", "expected"), DEGENERATE.items())
def test_what_models_degenerate_into_is_dropped(caption: str, expected: str) -> None:
    assert reason(Repetition(**BOUNDS), caption) == expected


def test_the_share_counts_what_was_there_before() -> None:
    assert repeated_share(["a", "b", "c", "d", "a", "b", "c"], 3) == pytest.approx(3 / 7)
    assert repeated_share(["a", "b", "c", "d", "a", "b", "c"], 4) == 0
    assert repeated_share([], 3) == repeated_share(["a"], 3) == 0


@pytest.mark.parametrize(
    ("text", "times"),
    [("", 0), ("a", 1), ("a b", 1), ("a a", 2), ("x a b a b a b", 3), ("a b a b a", 2), ("a b a b c", 1)],
)
def test_the_last_phrase_is_counted_in_whole_copies(text: str, times: int) -> None:
    assert tail_repeats(text.split()) == times


def test_the_longest_run_stands_anywhere() -> None:
    assert longest_run(["a", "b", "b", "b", "c"]) == 3
    assert longest_run([]) == 0


def test_without_a_bound_it_only_scores_and_the_dropped_keep_their_scores() -> None:
    (result,) = Repetition().process([Sample("k", caption="a dog " * 10)])
    assert isinstance(result, Sample)
    assert result.record["scores"] == {"repeated_ngrams": 0.9, "tail_repeats": 10, "longest_run": 1}
    assert tuple(result.record["scores"]) == Repetition().score_names()
    (dropped,) = Repetition(max_tail=2).process([Sample("k", caption="a dog " * 10)])
    assert isinstance(dropped, Dropped)
    assert dropped.sample is not None
    assert dropped.sample.record["scores"] == result.record["scores"]


def test_no_caption_never_passes_a_bound() -> None:
    assert reason(Repetition(max_run=4), None) == reason(Repetition(max_ngrams=1), " ") == "no_caption"
    assert reason(Repetition(), None) is None


def test_long_captions_take_no_long_time() -> None:
    for text in ("a " * 3_000, "狗" * 3_000, "x" * 10_000, "\0" * 10_000):
        assert reason(Repetition(**BOUNDS), text) is not None


def test_keeps_the_stage_contract() -> None:
    captions = [*GOOD, *DEGENERATE, None]
    check_stage(Repetition(**BOUNDS), [Sample(f"k{i}", caption=c) for i, c in enumerate(captions)])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [({"max_ngrams": 2}, "less than or equal to 1"), ({"max_run": 0}, "greater than"), ({"ngram": 0}, "greater than")],
)
def test_bounds_that_cannot_be_right_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Repetition(**parameters)
