"""Pairs in chunks: arrays of row numbers [m, 2], the smaller one first, that never outgrow memory."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Pairs: TypeAlias = npt.NDArray[np.int64]
Numbers: TypeAlias = npt.NDArray[np.int64]

#: candidates compared at a time, which takes some 100 MB
CHUNK = 4_000_000


def no_pairs() -> Pairs:
    return np.empty((0, 2), dtype=np.int64)


def paired(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> Pairs:
    """Rows `a` and `b` as pairs, the smaller row first."""
    return np.stack([np.minimum(a, b), np.maximum(a, b)], axis=1).astype(np.int64, copy=False)


def joined(chunks: Iterable[Pairs]) -> Pairs:
    """All chunks as one array, sorted, each pair once."""
    # encode a pair as one number, which sorts many times as fast; there are fewer than 2**31 rows
    numbers = [(chunk[:, 0] << 32) | chunk[:, 1] for chunk in chunks if len(chunk)]
    if not numbers:
        return no_pairs()
    once = np.unique(np.concatenate(numbers))
    return np.stack([once >> 32, once & 0xFFFFFFFF], axis=1)


def equal_rows(first: Numbers, inverse: Numbers) -> Pairs:
    """Pair each row that repeats an earlier one with the first of its kind, from np.unique's `first` and `inverse`."""
    of_kind = first[inverse.reshape(-1)]
    repeats = np.flatnonzero(of_kind != np.arange(len(of_kind)))
    return paired(of_kind[repeats], repeats)


def runs(starts: Numbers, counts: Numbers, most: int = CHUNK) -> Iterator[tuple[slice, Numbers, Numbers]]:
    """Spell out ranges: for query i the positions starts[i] … starts[i] + counts[i] - 1, in chunks of about `most`.

    Gives the queries of a chunk, where each of them begins in it, and all positions.
    """
    ends = np.cumsum(counts)
    low = 0
    while low < len(counts):
        before = int(ends[low - 1]) if low else 0
        high = max(low + 1, int(np.searchsorted(ends, before + most, side="right")))
        begins = ends[low:high] - counts[low:high] - before
        positions = np.arange(int(ends[high - 1]) - before) + np.repeat(starts[low:high] - begins, counts[low:high])
        yield slice(low, high), begins, positions
        low = high
