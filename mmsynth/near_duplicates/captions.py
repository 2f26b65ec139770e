"""Captions: which of many texts share most of their words in the same order.

A text is the set of its shingles (runs of three words). MinHash signatures by datasketch, cut into bands, propose
pairs (Broder 1997; Lee et al. 2022, arXiv 2107.06499). The true Jaccard similarity decides.
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mmsynth.near_duplicates.chunks import Numbers, Pairs, equal_rows, joined, paired, runs
from mmsynth.near_duplicates.needs import need
from mmsynth.near_duplicates.words import shingles_of, words_of

#: shared shingles over all shingles of both
JACCARD = 0.7
SHINGLE_WORDS = 3
_PERMUTATIONS = 128
#: skip pairs whose estimate is this far below the bound: four standard errors at 128 permutations
_DOUBT = 0.16
#: candidates whose signatures are compared at a time, 1 kB each
_CHUNK = 100_000
#: missing a pair costs more than proposing too many
_WEIGHTS = (0.1, 0.9)

_Signatures: TypeAlias = npt.NDArray[np.uint64]


def check_captions() -> None:
    """Raise PluginError if datasketch is not installed."""
    need("datasketch", "comparing captions")


def pairs_alike(texts: Sequence[str], jaccard: float = JACCARD, *, words: int = SHINGLE_WORDS) -> Pairs:
    """Pairs of rows whose shingles have a Jaccard similarity of at least `jaccard`.

    Texts that are equal up to case and punctuation are paired with the first of them. Texts without words are in no
    pair.
    """
    return joined(iter_pairs(texts, jaccard, words=words))


def iter_pairs(texts: Sequence[str], jaccard: float = JACCARD, *, words: int = SHINGLE_WORDS) -> Iterator[Pairs]:
    """Like `pairs_alike`, in chunks."""
    if not 0 < jaccard <= 1:
        raise ValueError(f"jaccard must be above 0 and at most 1, got {jaccard}")
    plain = [" ".join(words_of(text)) for text in texts]
    rows = np.array([row for row, text in enumerate(plain) if text], dtype=np.int64)
    numbers: dict[str, int] = {}
    inverse = np.array([numbers.setdefault(plain[row], len(numbers)) for row in rows], dtype=np.int64)
    if not numbers:
        return
    _, first = np.unique(inverse, return_index=True)
    yield rows[equal_rows(first, inverse)]
    shingles = [frozenset(shingles_of(text.split(), words)) for text in numbers]
    for a, b in _alike(shingles, jaccard):
        yield paired(rows[first[a]], rows[first[b]])


def _alike(shingles: Sequence[frozenset[str]], jaccard: float) -> Iterator[tuple[Numbers, Numbers]]:
    """Rows whose sets are alike, each pair once."""
    signatures = _signatures(shingles)
    bands, size = _bands(jaccard)
    for band in range(bands):
        order, starts, counts = _later_in_bucket(signatures[:, band * size : (band + 1) * size])
        for queries, begins, positions in runs(starts, counts, _CHUNK):
            a = np.repeat(order[queries], np.diff(begins, append=len(positions)))
            b = order[positions]
            equal = signatures[a] == signatures[b]
            likely = equal.mean(axis=1) >= jaccard - _DOUBT
            earlier = equal[:, : band * size].reshape(len(a), band, size)
            likely &= ~earlier.all(axis=2).any(axis=1)  # an earlier band has proposed the pair
            a, b = a[likely], b[likely]
            near = np.array(
                [_jaccard(shingles[i], shingles[j]) >= jaccard for i, j in zip(a, b, strict=True)], dtype=bool
            )
            yield a[near], b[near]


def _signatures(shingles: Sequence[frozenset[str]]) -> _Signatures:
    from datasketch import MinHash

    encoded = ([shingle.encode("utf-8", "surrogatepass") for shingle in one] for one in shingles)
    found = np.empty((len(shingles), _PERMUTATIONS), dtype=np.uint64)
    for row, minhash in enumerate(MinHash.generator(encoded, num_perm=_PERMUTATIONS, seed=1)):
        found[row] = minhash.hashvalues
    return found


def _bands(jaccard: float) -> tuple[int, int]:
    """The number of bands, and of values per band, that find pairs above `jaccard` best."""
    from datasketch import MinHashLSH

    # below 1 even for equal sets, because the texts may still differ
    lsh = MinHashLSH(threshold=min(jaccard, 0.99), num_perm=_PERMUTATIONS, weights=_WEIGHTS)
    return int(lsh.b), int(lsh.r)


def _later_in_bucket(band: npt.NDArray[Any]) -> tuple[Numbers, Numbers, Numbers]:
    """Rows sorted by bucket. For each row, the start and the number of the rows after it in its bucket."""
    values = np.ascontiguousarray(band).view(np.dtype((np.void, band.dtype.itemsize * band.shape[1]))).reshape(-1)
    _, bucket, sizes = np.unique(values, return_inverse=True, return_counts=True)
    order = np.argsort(bucket, kind="stable")
    ends = np.cumsum(sizes)[bucket[order]]
    starts = np.arange(1, len(order) + 1)
    return order, starts, ends - starts


def _jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)
