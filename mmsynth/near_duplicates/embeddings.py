"""Embeddings: which of many vectors point nearly the same way.

Up to EXACT rows, all pairs are compared. Above that, faiss compares rows in the nearest cells of an inverted file
(IVF), which finds nearly all pairs with a high cosine. Holds a second copy of the vectors, as float32.
"""

import hashlib
import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mmsynth.near_duplicates.chunks import Numbers, Pairs, equal_rows, joined, paired
from mmsynth.near_duplicates.needs import need

Vectors: TypeAlias = npt.NDArray[np.floating[Any]]
_Floats: TypeAlias = npt.NDArray[np.float32]

#: for near-duplicates by CLIP image embeddings; other models need another bound
COSINE = 0.95
#: rows up to which every pair is compared
EXACT = 50_000
#: above that, how many neighbours to ask for at first, and at most. A row with more near-duplicates is paired with its
#: nearest only. That leaves the groups unchanged, unless hundreds crowd out the one that leads to another group
FIRST_NEIGHBOURS, MOST_NEIGHBOURS = 16, 256
_GROWTH = 4
_ROWS_A_BATCH = 1024
#: cosines held at a time if all pairs are compared
_COSINES_A_BATCH = 8_000_000
_ROWS_A_CELL_TO_TRAIN = 40
_CELLS_LOOKED_INTO = 32


def check_embeddings() -> None:
    """Raise PluginError if faiss is not installed."""
    need("faiss", "searching embeddings")


def pairs_above(vectors: Vectors, cosine: float = COSINE, *, exact_to: int = EXACT) -> Pairs:
    """Pairs of rows whose cosine is at least `cosine`. Equal rows are paired with the first of them.

    `vectors` is [n, d] of any float type and length. Rows of zeros, or with NaN or infinity, are in no pair.
    """
    return joined(iter_pairs(vectors, cosine, exact_to=exact_to))


def iter_pairs(vectors: Vectors, cosine: float = COSINE, *, exact_to: int = EXACT) -> Iterator[Pairs]:
    """Like `pairs_above`, in chunks. A pair may come twice."""
    usable = np.flatnonzero(_usable(vectors))
    if not len(usable):
        return
    first, inverse = _kinds(vectors, usable)
    yield usable[equal_rows(first, inverse)]
    first = usable[first]
    unit = _unit(vectors[first])
    for a, b in _all_near(unit, cosine) if len(unit) <= exact_to else _nearest(unit, cosine):
        yield paired(first[a], first[b])


def nearest_above(vectors: Vectors, others: Vectors, cosine: float = COSINE) -> Numbers:
    """For each row, the row of `others` with the highest cosine if that is at least `cosine`, else -1."""
    found = np.full(len(vectors), -1, dtype=np.int64)
    rows, theirs = np.flatnonzero(_usable(vectors)), np.flatnonzero(_usable(others))
    if not len(rows) or not len(theirs):
        return found
    index = _index(_unit(others[theirs]))
    for start in range(0, len(rows), _ROWS_A_BATCH):
        batch = rows[start : start + _ROWS_A_BATCH]
        cosines, nearest = index.search(_unit(vectors[batch]), 1)
        found[batch] = np.where(cosines[:, 0] >= cosine, theirs[nearest[:, 0]], -1)
    return found


def _all_near(unit: _Floats, cosine: float) -> Iterator[tuple[Numbers, Numbers]]:
    """All pairs above `cosine`, each once."""
    step = max(1, _COSINES_A_BATCH // len(unit))
    for start in range(0, len(unit), step):
        near = unit[start : start + step] @ unit[start:].T >= cosine
        a, b = np.nonzero(np.triu(near, 1))  # row a is column a of its batch
        yield a + start, b + start


def _nearest(unit: _Floats, cosine: float) -> Iterator[tuple[Numbers, Numbers]]:
    """Rows and their neighbours. If all neighbours found are near enough, ask for more."""
    index, most = _index(unit, cells=int(4 * math.sqrt(len(unit)))), min(MOST_NEIGHBOURS, len(unit))
    for start in range(0, len(unit), _ROWS_A_BATCH):
        rows = np.arange(start, min(start + _ROWS_A_BATCH, len(unit)))
        k = min(FIRST_NEIGHBOURS, most)
        while len(rows):
            cosines, found = index.search(unit[rows], k)
            near = (cosines >= cosine) & (found >= 0)
            full = near[:, -1] & (k < most)
            near[full] = False
            a, b = np.nonzero(near & (found != rows[:, None]))
            yield rows[a], found[a, b]
            rows, k = rows[full], min(k * _GROWTH, most)


def _index(unit: _Floats, cells: int = 0) -> Any:
    """A faiss index of inner products over unit vectors, with an inverted file if `cells` is given."""
    import faiss

    index: Any = faiss.IndexFlatIP(unit.shape[1])
    if cells:
        index = faiss.IndexIVFFlat(index, unit.shape[1], cells, faiss.METRIC_INNER_PRODUCT)
        chosen = np.random.default_rng(0).permutation(len(unit))[: cells * _ROWS_A_CELL_TO_TRAIN]
        index.cp.min_points_per_centroid = 1  # silences a warning: a poor cell only costs time
        index.train(unit[np.sort(chosen)])
        index.nprobe = min(_CELLS_LOOKED_INTO, cells)
    index.add(unit)
    return index


def _usable(vectors: Vectors) -> npt.NDArray[np.bool_]:
    batches = (vectors[i : i + _ROWS_A_BATCH] for i in range(0, len(vectors), _ROWS_A_BATCH))
    found = [np.isfinite(batch).all(axis=1) & (batch != 0).any(axis=1) for batch in batches]
    return np.concatenate(found) if found else np.empty(0, dtype=np.bool_)


def _kinds(vectors: Vectors, rows: Numbers) -> tuple[Numbers, Numbers]:
    """np.unique's first and inverse over equal rows. Compares digests, since sorting the rows would copy them."""
    digests = b"".join(hashlib.blake2b(vectors[row].tobytes(), digest_size=8).digest() for row in rows)
    _, first, inverse = np.unique(np.frombuffer(digests, dtype=np.uint64), return_index=True, return_inverse=True)
    return first, inverse


def _unit(vectors: Vectors) -> _Floats:
    """The vectors as float32, scaled to length 1."""
    unit = np.array(vectors, dtype=np.float32, order="C")
    unit /= np.abs(unit).max(axis=1, keepdims=True)  # first, so that squares of very small numbers do not vanish
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return unit
