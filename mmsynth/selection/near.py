"""Finds near-duplicates among the rows left, from the arrays that filters wrote beside the shards, and from captions.

Knows rows and files of arrays. The search itself is in `mmsynth.near_duplicates`.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import chain, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmsynth.errors import RecipeError
from mmsynth.layout import array_ending, array_name
from mmsynth.near_duplicates import captions, embeddings, groups, hashes
from mmsynth.near_duplicates.chunks import Pairs
from mmsynth.selection.rows import TABLE, Rows, how_to_give_array
from mmsynth.shard_arrays import mapped

#: what tells one row from all others; keys may repeat in what streams gave
PLACE = ("run_number", "shard", "tar_start")
#: what is compared → the bound where none is given
BOUNDS: dict[str, float] = {"hash": hashes.DISTANCE, "embedding": embeddings.COSINE, "caption": captions.JACCARD}
_CHECKS: dict[str, Callable[[], None]] = {
    "hash": hashes.check_hashing,
    "embedding": embeddings.check_embeddings,
    "caption": captions.check_captions,
}
#: what is compared → the arrays it is in
_ARRAYS = {"hash": "phash", "embedding": "image"}


def near_duplicates(rows: Rows, bounds: Mapping[str, float]) -> tuple[pa.Table, int]:
    """Of `kept`: each row that goes, and the one that stays for it: their `key`, `stays` and places; and
    how many rows have no hash to compare (flat pictures), where hashes are compared.

    The table has `run_number` and `key` of each dropped row, and `stays_run` and `stays` of the row that stays for it.
    `bounds` says what to compare and how near is near; the pairs of all comparisons are joined. The row with the best
    `value` stays, on a tie the one whose key sorts first. Raises RecipeError if a run lacks the array files, and
    PluginError if the extra `duplicates` is not installed.
    """
    groups.check_grouping()
    for what in bounds:
        _CHECKS[what]()
    left = _Left(rows, with_captions="caption" in bounds)
    found = chain.from_iterable(left.pairs(what, bound) for what, bound in bounds.items())
    numbers = groups.group_numbers(len(left.keys), found)
    stays = groups.who_stays(numbers, left.values, left.keys)
    gone = np.flatnonzero(stays != np.arange(len(stays)))
    places = {
        f"{before}{name}": values[rows]
        for before, rows in (("", gone), ("stays_", stays[gone]))
        for name, values in left.places.items()
    }
    names = {"key": [left.keys[i] for i in gone], "stays": [left.keys[i] for i in stays[gone]]}
    return pa.table(places | names), left.without_hash


class _Left:
    """The rows of `kept`, ordered by run and shard."""

    def __init__(self, rows: Rows, *, with_captions: bool) -> None:
        self._rows, self._files = rows, rows.files
        texts = f"JOIN (SELECT {', '.join(PLACE)}, caption FROM {TABLE}) AS texts USING ({', '.join(PLACE)})"
        found: dict[str, Any] = rows.run(
            f"SELECT run_number, shard, tar_start, key, value{', caption' if with_captions else ''} "
            f"FROM kept {texts if with_captions else ''} ORDER BY run_number, shard, tar_start"
        ).fetchnumpy()
        self.runs: npt.NDArray[np.int64] = found["run_number"].astype(np.int64)
        self._shards = found["shard"].astype(np.int64)
        self._starts = found["tar_start"].astype(np.int64)
        self.places = {"run_number": self.runs, "shard": self._shards, "tar_start": self._starts}
        self.keys: list[str] = found["key"].tolist()
        self.values = np.ma.filled(found["value"].astype(np.float64), np.nan)
        captions_found = found["caption"].tolist() if with_captions else []
        self._captions = [text or "" for text in captions_found]
        #: number of flat pictures, which no hash can tell apart
        self.without_hash = 0

    def pairs(self, what: str, bound: float) -> Iterator[Pairs]:
        if what == "caption":
            return captions.iter_pairs(self._captions, bound)
        if what == "hash":
            return self._by_hash(int(bound))
        return embeddings.iter_pairs(self._arrays(what), bound)

    def _by_hash(self, distance: int) -> Iterator[Pairs]:
        """Pairs among the rows that have a hash."""
        found = self._arrays("hash").astype(np.uint64)
        those = np.flatnonzero(found != hashes.NO_HASH)
        self.without_hash = len(found) - len(those)
        return (those[pairs] for pairs in hashes.iter_pairs(found[those], distance))

    def _arrays(self, what: str) -> npt.NDArray[Any]:
        """[rows, …], from the files of every shard that has rows left."""
        self._rows.check_one_model(array_ending(_ARRAYS[what]), f"near_duplicates: the {what}")
        ends = (np.flatnonzero(np.diff(self._shards, append=-1) | np.diff(self.runs, append=-1)) + 1).tolist()
        parts = [self._of_shard(what, start, end) for start, end in pairwise([0, *ends])]
        if len({part.shape[1:] for part in parts}) > 1:
            raise RecipeError("near_duplicates: these runs keep embeddings of models of different widths")
        return np.concatenate(parts)

    def _of_shard(self, what: str, start: int, end: int) -> npt.NDArray[Any]:
        name = _ARRAYS[what]
        files, shard = self._files[int(self.runs[start])], int(self._shards[start])
        file = array_name(shard, name)
        try:
            return mapped(files, shard).of(name, self._starts[start:end])
        except KeyError as error:
            raise RecipeError(
                f"near_duplicates: {files.shown} has no {file}. {how_to_give_array(files.shown, name)}".strip()
            ) from error
        except (OSError, ValueError, IndexError) as error:
            raise RecipeError(f"near_duplicates: {files.shown}/{file} cannot be read: {error}") from error
