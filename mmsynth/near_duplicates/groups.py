"""Turns pairs into groups, and picks the row of each group that stays.

A group is everything that pairs join, through any number of steps. So the ends of a long chain may differ more than any
one pair does.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from mmsynth.near_duplicates.chunks import Numbers, Pairs, no_pairs
from mmsynth.near_duplicates.needs import need

#: pairs held before they are merged into one label per row
_HELD = 8_000_000


def check_grouping() -> None:
    """Raise PluginError if scipy is not installed."""
    need("scipy", "grouping")


def group_numbers(n: int, pairs: Pairs | Iterable[Pairs]) -> Numbers:
    """The group of each of `n` rows, numbered by first row. A row in no pair is a group of its own.

    `pairs` is one array [m, 2] or chunks of it, which need not fit into memory together.
    """
    labels = np.arange(n)
    held: list[Pairs] = []
    for chunk in [pairs] if isinstance(pairs, np.ndarray) else pairs:
        held.append(chunk)
        if sum(map(len, held)) >= _HELD:
            labels = _components(n, labels, held)
            held = []
    return _by_first_row(_components(n, labels, held))


def who_stays(groups: Numbers, scores: npt.ArrayLike, keys: Sequence[str]) -> Numbers:
    """For each row, the row that stays for its group, which may be the row itself.

    The row with the best score stays, on a tie the one whose key sorts first. NaN loses to any number.
    """
    if not len(groups):
        return np.empty(0, dtype=np.int64)
    loss = -np.asarray(scores, dtype=np.float64)
    loss[np.isnan(loss)] = np.inf
    alone = np.bincount(groups)[groups] == 1
    rank = np.zeros(len(groups), dtype=np.int64)
    shared = sorted(np.flatnonzero(~alone).tolist(), key=keys.__getitem__)
    rank[shared] = np.arange(len(shared))
    order = np.lexsort((rank, loss, groups))
    first = np.flatnonzero(np.diff(groups[order], prepend=-1))
    best = np.empty(int(groups.max()) + 1, dtype=np.int64)
    best[groups[order][first]] = order[first]
    return best[groups]


def _components(n: int, labels: Numbers, held: Sequence[Pairs]) -> Numbers:
    """`labels`, with the groups that the pairs join merged."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = labels[np.concatenate([no_pairs(), *held])]
    edges = edges[edges[:, 0] != edges[:, 1]]
    if not len(edges):
        return labels
    graph = coo_array((np.ones(len(edges), dtype=np.int8), (edges[:, 0], edges[:, 1])), shape=(n, n))
    # labels are numbers below n, and a group of labels is a group of rows
    found = connected_components(graph.tocsr(), directed=False)[1]
    joined: Numbers = found[labels].astype(np.int64)
    return joined


def _by_first_row(labels: Numbers) -> Numbers:
    """The same groups, numbered in the order in which they first appear."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    number = np.empty(len(first), dtype=np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    return number[inverse.reshape(-1)]
