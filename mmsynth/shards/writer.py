"""The writer: takes items, and writes one tar, one parquet and one stats file per block. The stats commit the shard.

00000.tar           the kept samples: key.jpg, further pictures as key.before.jpg, key.txt, key.json, and any other
                    members they came with
00000.parquet       one row for every input, or for every candidate made of it: key, parent (the input's key), status,
                    reason, caption, width, height, source, scores, the sha256 of the main picture's bytes, and where a
                    kept sample's members start and stop in the tar
00000_<name>.npy    arrays that stages gave (embeddings, hashes): row i belongs to the i-th kept sample, zeros if it
                    has none
00000_stats.json    counts, and the sha256 of the files above; written last
"""

import hashlib
import json
import math
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mmsynth.blocks import ON_DISK, Block, InputCounts, Item, ShardStats, Status
from mmsynth.errors import ImageError
from mmsynth.io.files import digest_of, json_bytes, sealed
from mmsynth.io.storage import Storage
from mmsynth.io.tar import tar_header
from mmsynth.keys import distinct_key
from mmsynth.layout import array_name, score_column, stats_name, table_name, tar_name
from mmsynth.models.files import ModelInfo
from mmsynth.pictures import as_members
from mmsynth.sample import Sample
from mmsynth.secrets import in_words
from mmsynth.shards.lock import check_still_of

_ZEROS = bytes(tarfile.BLOCKSIZE)
#: not orjson, which writes other numbers (1e-07 as 1e-7, NaN as null) and none over 64 bits
_RECORD = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str, allow_nan=False)


def _encoded(record: dict[str, Any]) -> str:
    """As JSON, which has no NaN and no infinity: they become null."""
    try:
        return _RECORD.encode(record)
    except ValueError:
        return _RECORD.encode(_finite(record))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


class ShardWriter:
    """Writes one block. Call `add` for each item, then `commit`. Or call `abandon`, which leaves nothing behind.

    `scores` and `arrays` are those that source and stages declare. `run` is the fingerprint of the run: nothing gets
    its name in a folder that has become another's. Empty: nobody asks.
    """

    def __init__(  # noqa: PLR0913 - where, what, and all that it declares
        self,
        to: Storage,
        block: Block,
        scores: Sequence[str] = (),
        arrays: Sequence[str] = (),
        models: Sequence[ModelInfo] = (),
        run: str = "",
    ) -> None:
        self._storage, self._block = to, block
        self._scores, self._declared, self._models = tuple(scores), tuple(arrays), tuple(models)
        self._run = run
        self._rows: list[dict[str, Any]] = []
        #: name → row → array
        self._arrays: dict[str, dict[int, npt.NDArray[np.generic]]] = {}
        #: status → reason (for kept samples, the repairs made on reading) → rows
        self._counts: dict[Status, Counter[str]] = {"kept": Counter(), "dropped": Counter(), "failed": Counter()}
        self.inputs = InputCounts()
        self._keys: set[str] = set()
        #: file → sha256 of what this shard consists of, for `mmsynth verify`
        self._digests: dict[str, str] = {}
        self._open = ExitStack()
        self._tar: IO[bytes] | None = None
        self._tar_bytes = 0

    def add(self, item: Item) -> Status | None:
        """Write a kept sample's members, and the row of any item; gives the end of the input before, once known."""
        item = self._under_a_key_of_its_own(item)
        members = encode_members(item.sample, item) if item.is_live and item.sample is not None else None
        row = _row(item, self._scores)
        if members is not None:
            row["tar_start"], row["tar_stop"] = self._write_members(item.key, members)
            self._note_arrays(item)
        self._rows.append(row)
        self._counts[item.status][item.reason] += 1
        return self.inputs.add(item)

    def _under_a_key_of_its_own(self, item: Item) -> Item:
        """Another key if the shard has its key already: an input called `a_0` beside the candidates of `a`."""
        key, occurrence = item.key, 1
        while key in self._keys:
            occurrence += 1
            key = distinct_key(item.key, occurrence)
        self._keys.add(key)
        if key == item.key:
            return item
        sample = None if item.sample is None else replace(item.sample, key=key)
        return replace(item, key=key, sample=sample)

    def commit(self, content: str = "", made_by: Mapping[str, tuple[str, ...]] | None = None) -> ShardStats:
        """Put tar, arrays, parquet and stats in their places, in this order; gives the stats.

        `content` says what the files were that the block was read from, `made_by` which models gave its numbers.
        """
        tar_bytes = self._close_tar()
        self._write_arrays()
        with self._writing(table_name(self._block.index)) as file:
            pq.write_table(pa.Table.from_pylist(self._rows, schema=_schema(self._scores)), file, compression="zstd")
        self._storage.settle()
        stats = replace(self._stats(tar_bytes), content=content, made_by=made_by or {})
        with self._storage.writing(stats_name(self._block.index)) as file:
            file.write(json_bytes(sealed(stats.to_json())))
            check_still_of(self._storage, self._run)
        self._storage.settle()
        return stats

    def abandon(self) -> None:
        """Remove everything written of this block."""
        if self._tar is not None:
            reason = InterruptedError("the block is abandoned")
            self._open.__exit__(type(reason), reason, None)

    @contextmanager
    def _writing(self, name: str) -> Iterator[IO[bytes]]:
        with self._storage.writing(name) as file:
            yield file
            self._digests[name] = digest_of(file)
            check_still_of(self._storage, self._run)

    def _write_members(self, key: str, members: dict[str, bytes]) -> tuple[int, int]:
        """Append members to the tar. Returns where they start and stop in it."""
        if self._tar is None:
            self._tar = self._open.enter_context(self._writing(tar_name(self._block.index)))
        start = self._tar_bytes
        # members of one key must be adjacent, or readers split the sample
        for extension, data in sorted(members.items()):
            parts = (tar_header(f"{key}.{extension}", len(data)), data, _ZEROS[: -len(data) % tarfile.BLOCKSIZE])
            self._tar.writelines(parts)
            self._tar_bytes += sum(map(len, parts))
        return start, self._tar_bytes

    def _close_tar(self) -> int:
        """Finish the tar and return its size. An empty block gets no tar, because some readers stop at an empty one."""
        if self._tar is None:
            self._storage.remove(tar_name(self._block.index))
            return 0
        end = self._tar_bytes + 2 * tarfile.BLOCKSIZE
        size = end + -end % tarfile.RECORDSIZE
        self._tar.write(bytes(size - self._tar_bytes))
        self._open.close()
        return size

    def _note_arrays(self, item: Item) -> None:
        """Note the item's arrays. Call this before counting the item: its row is the number of samples kept so far."""
        assert item.sample is not None
        for name, values in item.sample.arrays.items():
            self._arrays.setdefault(name, {})[self._counts["kept"].total()] = values

    def _write_arrays(self) -> None:
        for name, found in self._arrays.items():
            like = next(iter(found.values()))
            whole = np.zeros((self._counts["kept"].total(), *like.shape), dtype=like.dtype)
            for row, values in found.items():
                whole[row] = values
            with self._writing(array_name(self._block.index, name)) as file:
                np.save(file, whole, allow_pickle=False)

    def _stats(self, tar_bytes: int) -> ShardStats:
        repaired = dict(self._counts["kept"])
        repaired.pop("", None)
        return ShardStats(
            count=len(self._rows),
            inputs={status: self.inputs.counts[status] for status in ON_DISK},
            kept=self._counts["kept"].total(),
            dropped=dict(self._counts["dropped"]),
            failed=dict(self._counts["failed"]),
            repaired=repaired,
            tar_bytes=tar_bytes,
            block=self._block.identity,
            run=self._run,
            models=self._models,
            scores=self._scores,
            arrays=self._declared,
            sha256=self._digests,
        )


def encode_members(sample: Sample | None, item: Item) -> dict[str, bytes]:
    """The members of a kept sample: extension → bytes."""
    assert sample is not None
    members = {name: data for name, data in as_members(sample).items() if name not in {"txt", "json"}}
    if sample.caption is not None:
        members["txt"] = sample.caption.encode("utf-8", "replace")
    record = {**sample.record, "synthetic": _synthetic(sample, item.made)}
    members["json"] = _encoded(record).encode("utf-8", "replace")
    return members


def _synthetic(sample: Sample, made: frozenset[str]) -> dict[str, Any]:
    """Which pictures were made, and whether the caption was written, by stages: of this run, or of an earlier one."""
    before = sample.record.get("synthetic", {})
    before = before if isinstance(before, dict) else {}
    about: dict[str, Any] = {"image": "" in made or bool(before.get("image")), "caption": _caption_origin(sample)}
    if sample.images:
        earlier = before.get("images", ())
        about["images"] = sorted(name for name in sample.images if name in made or name in earlier)
    return about


def _caption_origin(sample: Sample) -> bool:
    """Whether a stage wrote the caption that training reads."""
    entries = [entry for entry in sample.record.get("captions", ()) if entry.get("text") == sample.caption]
    return bool(entries) and entries[-1].get("origin") == "synthetic"


def _schema(scores: Sequence[str]) -> pa.Schema:
    columns = [("key", pa.string()), ("parent", pa.string()), ("status", pa.string()), ("reason", pa.string())]
    columns += [("caption", pa.string())]
    columns += [("width", pa.int32()), ("height", pa.int32()), ("source", pa.string()), ("detail", pa.string())]
    columns += [("sha256", pa.string()), ("tar_start", pa.int64()), ("tar_stop", pa.int64())]
    return pa.schema([*columns, *((score_column(name), pa.float64()) for name in scores)])


def _row(item: Item, scores: Sequence[str]) -> dict[str, Any]:
    sample = item.sample
    row: dict[str, Any] = {
        "key": item.key,
        "parent": item.parent,
        "status": ON_DISK[item.status],
        "reason": item.reason or None,
    }
    row |= {"source": item.source, "detail": _clean(in_words(item.detail))[:1000] if item.detail else None}
    if sample is None:
        return row
    row["caption"] = _clean(sample.caption) if sample.caption is not None else None
    if sample.image is not None:
        with suppress(ImageError):  # a dropped or failed sample's image may have no readable header
            row |= {"width": sample.image.width, "height": sample.image.height}
            if not sample.image.is_drawn:  # an image dropped before encoding has no bytes
                row["sha256"] = hashlib.sha256(sample.image.data).hexdigest()
    given = sample.record.get("scores", {})
    return row | {score_column(name): _number(given.get(name)) for name in scores if isinstance(given, dict)}


def _number(score: Any) -> float | None:
    """What a column of numbers can hold of a score."""
    return score if isinstance(score, int | float) else None


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
