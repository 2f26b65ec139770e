"""Groups and who stays."""

import random

import numpy as np
import pytest

from mmsynth.near_duplicates import groups as g


def by_force(n: int, pairs: list[tuple[int, int]]) -> list[int]:
    labels = list(range(n))
    for _ in range(n):
        for a, b in pairs:
            labels[a] = labels[b] = min(labels[a], labels[b])
    numbers: dict[int, int] = {}
    return [numbers.setdefault(label, len(numbers)) for label in labels]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("held", [3, 1000])
def test_groups_are_what_pairs_join_in_however_many_chunks(
    seed: int, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    pairs = [tuple(rng.sample(range(40), 2)) for _ in range(25)]
    monkeypatch.setattr(g, "_HELD", held)
    chunks = [np.array(pairs[i : i + 2], dtype=np.int64).reshape(-1, 2) for i in range(0, 25, 2)]
    assert g.group_numbers(40, chunks).tolist() == by_force(40, pairs)
    assert g.group_numbers(40, np.array(pairs)).tolist() == by_force(40, pairs)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_without_pairs_every_row_is_alone(n: int) -> None:
    assert g.group_numbers(n, []).tolist() == list(range(n))
    assert g.who_stays(np.arange(n), [0.0] * n, [str(i) for i in range(n)]).tolist() == list(range(n))


def test_the_best_score_stays_and_of_equals_the_first_key() -> None:
    groups = np.array([0, 1, 0, 1, 2, 1])
    assert g.who_stays(groups, [0.1, 0.5, 0.2, 0.5, 0, 0.4], ["a", "z", "c", "b", "e", "f"]).tolist() == [
        2,
        3,
        2,
        3,
        4,
        3,
    ]


def test_a_score_that_is_no_number_loses() -> None:
    assert g.who_stays(np.array([0, 0, 0]), [np.nan, -5.0, np.nan], ["a", "b", "c"]).tolist() == [1, 1, 1]
    assert g.who_stays(np.array([0, 0]), [np.nan, np.nan], ["b", "a"]).tolist() == [1, 1]
