"""Pairs of captions against comparing all with all."""

import random

import pytest

from mmsynth.near_duplicates.captions import pairs_alike
from mmsynth.near_duplicates.words import shingles_of, words_of


def by_force(texts: list[str], bound: float) -> set[tuple[int, int]]:
    sets = [set(shingles_of(words_of(text), 3)) for text in texts]
    return {
        (i, j)
        for i, a in enumerate(sets)
        for j, b in enumerate(sets)
        if i < j and a | b and len(a & b) / len(a | b) >= bound
    }


def captions(seed: int) -> list[str]:
    rng = random.Random(seed)
    words = [f"word{i}" for i in range(60)]
    texts = [rng.choices(words, k=rng.randint(1, 25)) for _ in range(60)]
    texts += [[*text[:-1], "other"] for text in texts]
    return [" ".join(text) for text in texts]


@pytest.mark.parametrize("seed", range(3))
def test_nearly_all_pairs_of_brute_force_and_no_others(seed: int) -> None:
    texts = list(dict.fromkeys(captions(seed)))
    found, true = {tuple(p) for p in pairs_alike(texts, 0.7).tolist()}, by_force(texts, 0.7)
    assert found <= true
    assert len(found) >= 0.97 * len(true)


def test_case_and_punctuation_make_no_difference() -> None:
    assert pairs_alike(["A dog, running!", "a  DOG running", "ｄｏｇ"]).tolist() == [[0, 1]]


def test_equal_texts_are_joined_to_the_first_and_not_to_each_other() -> None:
    assert pairs_alike(["the same words again"] * 500).tolist() == [[0, i] for i in range(1, 500)]


@pytest.mark.parametrize("texts", [[], ["one"], ["", "…", ""]])
def test_without_two_texts_there_are_no_pairs(texts: list[str]) -> None:
    assert pairs_alike(texts).shape == (0, 2)


def test_scripts_without_spaces_are_compared_by_character() -> None:
    assert pairs_alike(
        ["一只黑色的狗在公园里奔跑着", "一只黑色的狗在公园里奔跑", "红色汽车停在路边"], 0.7
    ).tolist() == [[0, 1]]


@pytest.mark.parametrize("bound", [0, 1.1])
def test_a_bound_that_cannot_be_right_is_refused(bound: float) -> None:
    with pytest.raises(ValueError, match="jaccard must be above 0"):
        pairs_alike(["a", "b"], bound)
