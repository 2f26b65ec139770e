"""The arrays that filters keep beside a shard, and which of their rows belongs to which sample.

Row i of every array is that of the shard's i-th kept sample, in the order in which they lie in the tar.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

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


@lru_cache(maxsize=256)
def shard_arrays(run: Path, shard: int) -> ShardArrays:
    """Raises OSError or ValueError for files that cannot be read."""
    prefix = f"{shard:05d}_"
    files = sorted(run.glob(f"{prefix}*.npy"))
    if not files:
        return ShardArrays(np.empty(0, dtype=np.int64), {})
    starts = pq.read_table(run / f"{shard:05d}.parquet", columns=["tar_start"])["tar_start"].drop_null().to_numpy()
    arrays = {f.stem.removeprefix(prefix): np.load(f, mmap_mode="r", allow_pickle=False) for f in files}
    return ShardArrays(starts, arrays)
