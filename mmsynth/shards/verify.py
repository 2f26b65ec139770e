"""Verifies a run: compares its files with the digests in the stats, and its tars with its parquet files.

Knows the format of the output folder. The engine repairs shards.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mmsynth.blocks import ON_DISK, ShardStats
from mmsynth.errors import OutputError, SampleError
from mmsynth.io import tar
from mmsynth.io.files import digest_of
from mmsynth.io.parquet import columns_of
from mmsynth.io.storage import Storage, text_of
from mmsynth.layout import INDEX, stats_name, table_name, tar_name
from mmsynth.shards.folder import RunFolder
from mmsynth.sources.members import Group, grouped, sample_of

_CHANGED = "has changed since it was written"
#: stands for the shard of files that belong to no shard
_NO_SHARD = -1
_COLUMNS = ["key", "status", "caption", "sha256", "tar_start", "tar_stop"]


@dataclass(frozen=True, slots=True)
class Damage:
    """A damaged file of a shard."""

    shard: int
    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.file} {self.what}"


def damages(folder: RunFolder) -> Iterator[Damage]:
    """The damage, shard by shard, at most one per file. Shards that the run has yet to write are not damage."""
    listed, wrong_indexes = _indexes(folder)
    ours = folder.fingerprint()
    for index in sorted({*folder.committed, *folder.damaged, *listed}):
        stats = folder.committed.get(index)
        if stats is None:
            is_there = index in folder.damaged
            yield Damage(index, stats_name(index), _CHANGED if is_there else "is not there")
            continue
        if ours and stats.run not in {"", ours}:
            yield Damage(index, stats_name(index), "is of another recipe's run")
            continue
        found = list(_wrong_bytes(folder.storage, index, stats))
        yield from found or _wrong_rows(folder.storage, index, stats)
    for name in wrong_indexes:
        yield Damage(_NO_SHARD, name, _CHANGED)


def _indexes(folder: RunFolder) -> tuple[list[int], list[str]]:
    """The numbers of the shards that a finished run should have, and the index files that contradict the stats."""
    if not folder.is_finished:
        return [], []
    there = {name: _json_in(folder, name) for name in folder.indexes()}
    try:
        listed = [int(shard["url"].partition(".")[0]) for shard in there[INDEX]["shardlist"]]
    except (ValueError, KeyError, TypeError, AttributeError):
        listed = []
    # shards are numbered without gaps; shards that kept nothing are not in the index
    listed = [*range(max([*listed, *folder.committed], default=-1) + 1)]
    if folder.damaged or not set(listed) <= set(folder.committed):
        return listed, []  # indexes cannot match lost or damaged stats, so report only the stats
    return listed, [name for name, expected in folder.indexes().items() if there[name] != expected]


def _json_in(folder: RunFolder, name: str) -> Any:
    try:
        return json.loads(text_of(folder.storage, name))
    except (FileNotFoundError, ValueError):
        return None
    except OSError as error:
        raise OutputError(f"{name} of {folder.shown} cannot be read: {error}") from error


def _wrong_bytes(storage: Storage, index: int, stats: ShardStats) -> Iterator[Damage]:
    for name, digest in stats.sha256.items():
        try:
            with storage.open(name) as file:
                if digest_of(file) != digest:
                    yield Damage(index, name, _CHANGED)
        except FileNotFoundError:
            yield Damage(index, name, "is not there")
        except OSError as error:
            yield Damage(index, name, f"cannot be read: {error.strerror or error}")


def _wrong_rows(storage: Storage, index: int, stats: ShardStats) -> Iterator[Damage]:
    """The first row whose members, image or caption do not match the tar, or a wrong number of rows."""
    table, shard = table_name(index), tar_name(index)
    try:
        with storage.open(table) as file:
            rows = columns_of(file, _COLUMNS).to_pylist()
    except (OSError, pa.ArrowException) as error:
        yield Damage(index, table, f"cannot be read: {str(error).partition(chr(10))[0]}")
        return
    kept = [row for row in rows if row["status"] == ON_DISK["kept"]]
    if (len(rows), len(kept)) != (stats.count, stats.kept):
        yield Damage(index, table, f"has other rows than {stats_name(index)} counts")
        return
    if not kept:
        return
    try:
        with storage.open(shard) as file:
            for row in kept:
                file.seek(row["tar_start"])
                groups = list(grouped(tar.read(file, row["tar_start"], row["tar_stop"]), shard))
                if len(groups) != 1 or not _is_of(groups[0], row, shard):
                    yield Damage(index, shard, f"does not hold {row['key']} as {table} says")
                    return
    except (OSError, SampleError) as error:
        yield Damage(index, shard, f"cannot be read: {error}")


def _is_of(group: Group, row: dict[str, Any], shard: str) -> bool:
    image = getattr(sample_of(group, row["key"], shard), "image", None)
    digest = hashlib.sha256(image.data).hexdigest() if image is not None else None
    caption = group.members["txt"].decode("utf-8", "replace") if "txt" in group.members else None
    return (group.name, digest, caption) == (row["key"], row["sha256"], row["caption"])
