"""Unique keys: the first sample with a key keeps it, and later ones get a new key.

Remembers 8 bytes per key, so ten million keys take 80 MB.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mmsynth.keys import distinct_key


class UniqueKeys:
    """The keys of a run so far."""

    def __init__(self) -> None:
        self._seen: npt.NDArray[np.uint64] = np.empty(0, np.uint64)
        #: hash of a repeated key → its occurrences so far
        self._occurrences: dict[int, int] = {}

    def claim(self, keys: Sequence[str]) -> dict[int, str]:
        """Claim `keys`. Gives position → new key for those already taken in this or an earlier call."""
        hashes = np.fromiter((_hash(key) for key in keys), np.uint64, len(keys))
        repeats = self._taken(hashes)
        _, first = np.unique(hashes, return_index=True)
        again = np.ones(len(keys), dtype=bool)
        again[first] = False
        repeats |= again
        renamed: dict[int, str] = {}
        claimed = {int(value) for value in hashes} if repeats.any() else set()
        for position in np.flatnonzero(repeats).tolist():
            renamed[position] = self._another(keys[position], int(hashes[position]), claimed)
        new = np.unique(np.concatenate([hashes, np.fromiter(claimed, np.uint64, len(claimed))]))
        new = new[~self._taken(new)]
        self._seen = np.insert(self._seen, np.searchsorted(self._seen, new), new)
        return renamed

    def _another(self, key: str, key_hash: int, claimed: set[int]) -> str:
        occurrence = self._occurrences.get(key_hash, 1) + 1
        other = distinct_key(key, occurrence)
        while _hash(other) in claimed or self._taken(np.array([_hash(other)], np.uint64))[0]:
            occurrence += 1
            other = distinct_key(key, occurrence)
        self._occurrences[key_hash] = occurrence
        claimed.add(_hash(other))
        return other

    def _taken(self, hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        if not len(self._seen):
            return np.zeros(len(hashes), dtype=bool)
        places = np.minimum(np.searchsorted(self._seen, hashes), len(self._seen) - 1)
        return np.asarray(self._seen[places] == hashes)


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
