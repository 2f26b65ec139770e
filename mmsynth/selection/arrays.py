"""The arrays that filters keep beside a shard, and which of their rows belongs to which sample.

Row i of every array is that of the shard's i-th kept sample, in the order in which they lie in the tar.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from mmsynth.io.run_files import RunFiles
from mmsynth.shards.writer import array_name

Starts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ShardArrays:
    """The arrays of one shard by name, mapped into memory."""

    #: where its kept samples start in the tar
    starts: Starts
    arrays: dict[str, npt.NDArray[Any]]

    def rows(self, starts: npt.ArrayLike) -> Starts:
        """The rows of the samples that start there in the tar."""
        return np.searchsorted(self.starts, starts)

    def of(self, name: str, starts: npt.ArrayLike) -> npt.NDArray[Any]:
        """What the array `name` holds of them. Raises KeyError, and IndexError where it is shorter than the shard."""
        return np.asarray(self.arrays[name][self.rows(starts)])


@lru_cache(maxsize=1024)
def shard_arrays(files: RunFiles, shard: int) -> ShardArrays:
    """Raises OSError or ValueError for files that cannot be read."""
    names = _names_by_shard(files).get(shard, ())
    if not names:
        return ShardArrays(np.empty(0, dtype=np.int64), {})
    table = f"{shard:05d}.parquet"
    folder = files.here([table, *(array_name(shard, name) for name in names)])
    starts = pq.read_table(folder / table, columns=["tar_start"])["tar_start"].drop_null().to_numpy()
    arrays = {name: np.load(folder / array_name(shard, name), mmap_mode="r", allow_pickle=False) for name in names}
    return ShardArrays(starts, arrays)


def shards_with_arrays(files: RunFiles) -> list[int]:
    """Their numbers, in order."""
    return sorted(_names_by_shard(files))


@lru_cache(maxsize=16)
def _names_by_shard(files: RunFiles) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for file in sorted(files.names):
        shard, _, name = file.removesuffix(".npy").partition("_")
        if file.endswith(".npy") and shard.isdecimal() and name:
            found.setdefault(int(shard), []).append(name)
    return found
