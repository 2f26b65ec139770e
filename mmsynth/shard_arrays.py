"""The arrays beside a run's shards, and which row belongs to which sample.

Row i of every array belongs to the shard's i-th kept sample, in the order of the tar. Sources that read runs use this,
for random access (`mapped`) or shard by shard (`read`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmsynth.io.parquet import columns_of
from mmsynth.io.storage import Storage
from mmsynth.layout import array_in, array_name, table_name

Starts: TypeAlias = npt.NDArray[np.int64]
#: type and shape of one sample's row in an array
Kind: TypeAlias = tuple[str, tuple[int, ...]]


@dataclass(frozen=True)
class ShardArrays:
    """The arrays of one shard, by name."""

    #: where the shard's kept samples start in the tar
    starts: Starts
    arrays: dict[str, npt.NDArray[Any]]
    #: the kept samples' keys, if another tar may have replaced the original one
    keys: pa.ChunkedArray | None = None

    def of(self, name: str, starts: npt.ArrayLike) -> npt.NDArray[Any]:
        """The rows of the array `name` for the samples that start at `starts` in the tar.

        Raises KeyError, and IndexError if the array is shorter than the shard.
        """
        return np.asarray(self.arrays[name][np.searchsorted(self.starts, starts)])

    def at(self, start: int, key: str) -> dict[str, npt.NDArray[Any]]:
        """Each array's row for the sample that starts there in the tar. Empty if there is none, or its key differs."""
        row = int(np.searchsorted(self.starts, start))
        if row == len(self.starts) or self.starts[row] != start:
            return {}
        if self.keys is not None and self.keys[row].as_py() != key:
            return {}
        return {name: np.asarray(whole[row]) for name, whole in self.arrays.items() if row < len(whole)}

    def kinds(self) -> dict[str, Kind]:
        return {name: (whole.dtype.str, whole.shape[1:]) for name, whole in self.arrays.items()}


@lru_cache(maxsize=1024)
def mapped(storage: Storage, shard: int) -> ShardArrays:
    """All arrays of a shard, memory-mapped. Remote ones are copied here first. Raises OSError or ValueError."""
    names = _names_by_shard(storage).get(shard, ())
    if not names:
        return ShardArrays(np.empty(0, dtype=np.int64), {})
    table = table_name(shard)
    folder = storage.here([table, *(array_name(shard, name) for name in names)])
    arrays = {name: np.load(folder / array_name(shard, name), mmap_mode="r", allow_pickle=False) for name in names}
    starts = pq.read_table(folder / table, columns=["tar_start"])["tar_start"].drop_null().to_numpy()
    return ShardArrays(starts, arrays)


def read(storage: Storage, shard: int, names: Sequence[str]) -> ShardArrays:
    """The arrays `names` of a shard, read into memory. Raises OSError or ValueError."""
    arrays = {}
    for name in names:
        with storage.open(array_name(shard, name)) as file:
            arrays[name] = np.load(file, allow_pickle=False)
    with storage.open(table_name(shard)) as file:
        kept = columns_of(file, ["tar_start", "key"])
    kept = kept.filter(pc.is_valid(kept["tar_start"]))
    return ShardArrays(kept["tar_start"].to_numpy(), arrays, kept["key"])


def kind_in(storage: Storage, shard: int, name: str) -> Kind:
    """The type and shape of a row, from the header of the array's file. Raises OSError or ValueError."""
    with storage.open(array_name(shard, name)) as file:
        reads = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = reads[np.lib.format.read_magic(file)](file)
    return dtype.str, shape[1:]


def alike(kinds: Iterable[Mapping[str, Kind]]) -> tuple[str, ...]:
    """Names of the arrays that have the same kind in all shards that have them. Others cannot be combined."""
    found: dict[str, set[Kind]] = {}
    for one in kinds:
        for name, kind in one.items():
            found.setdefault(name, set()).add(kind)
    return tuple(name for name, different in found.items() if len(different) == 1)


def shards_with_arrays(storage: Storage) -> list[int]:
    """The numbers of the shards that have arrays, in order."""
    return sorted(_names_by_shard(storage))


@lru_cache(maxsize=16)
def _names_by_shard(storage: Storage) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for file in sorted(storage.names()):
        if (array := array_in(file)) is not None:
            found.setdefault(array[0], []).append(array[1])
    return found
