"""Is a run still what was written? Its files against the digests in the stats, its tars against its parquet files.

Knows the format of the output folder. Making a shard again is the engine's business.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmsynth.errors import SampleError
from mmsynth.shards.files import digest_of
from mmsynth.shards.folder import RunFolder
from mmsynth.sources import tar
from mmsynth.sources.members import grouped, sample_of

_COLUMNS = ["key", "status", "sha256", "tar_start", "tar_stop"]


@dataclass(frozen=True, slots=True)
class Damage:
    """Something wrong with a shard."""

    shard: int
    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.file} {self.what}"


def damages(folder: RunFolder) -> Iterator[Damage]:
    """What is wrong, shard by shard, at most one a file; a run that has more shards to write is not damaged by that."""
    for index in sorted({*folder.committed, *_shards_in_index(folder)}):
        stats = folder.committed.get(index)
        if stats is None:
            yield Damage(index, f"{index:05d}_stats.json", "is not there")
            continue
        found = list(_wrong_bytes(folder.path, index, stats))
        yield from found or _wrong_rows(folder.path, index)


def _shards_in_index(folder: RunFolder) -> list[int]:
    """Numbers of the shards that a finished run should have."""
    if not folder.is_finished:
        return []
    index = json.loads((folder.path / "index.json").read_text(encoding="utf-8"))
    return [int(Path(shard["url"]).stem) for shard in index["shardlist"]]


def _wrong_bytes(folder: Path, index: int, stats: dict[str, Any]) -> Iterator[Damage]:
    for name, digest in stats.get("sha256", {}).items():
        try:
            if digest_of(folder / name) != digest:
                yield Damage(index, name, "has changed since it was written")
        except FileNotFoundError:
            yield Damage(index, name, "is not there")
        except OSError as error:
            yield Damage(index, name, f"cannot be read: {error.strerror or error}")


def _wrong_rows(folder: Path, index: int) -> Iterator[Damage]:
    """The first row whose members are not where it says, or whose image has other bytes."""
    table, shard = folder / f"{index:05d}.parquet", folder / f"{index:05d}.tar"
    try:
        rows = pq.read_table(table, columns=_COLUMNS).to_pylist()
    except (OSError, pa.ArrowException) as error:
        yield Damage(index, table.name, f"cannot be read: {str(error).partition(chr(10))[0]}")
        return
    kept = [row for row in rows if row["status"] == "success"]
    if not kept:
        return
    try:
        with shard.open("rb") as file:
            for row in kept:
                file.seek(row["tar_start"])
                groups = list(grouped(tar.read(file, row["tar_start"], row["tar_stop"]), shard.name))
                sample = sample_of(groups[0], row["key"], shard.name) if len(groups) == 1 else None
                image = getattr(sample, "image", None)
                digest = hashlib.sha256(image.data).hexdigest() if image is not None else None
                if len(groups) != 1 or groups[0].name != row["key"] or digest != row["sha256"]:
                    yield Damage(index, shard.name, f"does not hold {row['key']} as {table.name} says")
                    return
    except (OSError, SampleError) as error:
        yield Damage(index, shard.name, f"cannot be read: {error}")
