"""Pairs of vectors against comparing all with all."""

import numpy as np
import pytest

from mmsynth.near_duplicates import embeddings as e
from mmsynth.near_duplicates.groups import group_numbers


def planted(n: int, size: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, size))
    vectors[n // 2 :] = vectors[: n - n // 2] + rng.normal(size=(n - n // 2, size)) * 0.1
    return vectors


def by_force(vectors: np.ndarray, cosine: float) -> set[tuple[int, int]]:
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return {tuple(pair) for pair in np.argwhere(np.triu(unit @ unit.T >= cosine, 1)).tolist()}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("seed", range(3))
def test_pairs_are_those_of_brute_force(dtype: type, seed: int) -> None:
    vectors = planted(150, 24, seed).astype(dtype)
    found = e.pairs_above(vectors, 0.8)
    assert {tuple(pair) for pair in found.tolist()} == by_force(vectors, 0.8)


def test_cells_find_what_comparing_all_finds() -> None:
    vectors = planted(1500, 32, 5).astype(np.float32)
    exact, fast = e.pairs_above(vectors, 0.9), e.pairs_above(vectors, 0.9, exact_to=100)
    assert len(fast) >= 0.99 * len(exact)
    assert {tuple(p) for p in fast.tolist()} <= {tuple(p) for p in exact.tolist()}


@pytest.mark.parametrize("exact_to", [10, 1000])
def test_more_near_duplicates_than_were_asked_for_are_one_group(exact_to: int) -> None:
    vectors = 1 + np.random.default_rng(0).normal(size=(300, 8)) * 1e-3
    pairs = e.pairs_above(vectors.astype(np.float32), 0.99, exact_to=exact_to)
    assert group_numbers(300, pairs).tolist() == [0] * 300


def test_equal_rows_are_joined_to_the_first_and_not_to_each_other() -> None:
    pairs = e.pairs_above(np.ones((5000, 8), dtype=np.float16))
    assert len(pairs) == 4999


def test_rows_of_nothing_or_no_number_are_in_no_pair() -> None:
    vectors = np.ones((6, 4), dtype=np.float32)
    vectors[1], vectors[2, 0], vectors[4, 3] = 0, np.nan, np.inf
    assert e.pairs_above(vectors).tolist() == [[0, 3], [0, 5]]
    assert e.nearest_above(vectors, vectors[2:]).tolist() == [1, -1, -1, 1, -1, 1]


@pytest.mark.parametrize("n", [0, 1])
def test_no_rows_and_one_row_have_no_pairs(n: int) -> None:
    assert e.pairs_above(np.ones((n, 4), dtype=np.float32)).shape == (0, 2)
    assert e.nearest_above(np.ones((n, 4)), np.ones((0, 4))).tolist() == [-1] * n
