"""The writer: items in, and for each block one tar, one parquet and one stats file, which commits the shard.

00000.tar           the kept samples: key.jpg, key.txt, key.json, and whatever else they came with
00000.parquet       one row for every input: key, status, reason, caption, width, height, source, scores, the sha256 of
                    the image's bytes, and where a kept sample's members start and stop in the tar
00000_<name>.npy    arrays that stages gave (embeddings, hashes): row i is that of the i-th kept sample, zeros where it
                    has none
00000_stats.json    counts, and the sha256 of the files above; written last
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mmsynth.engine.items import Block, Item
from mmsynth.errors import ImageError
from mmsynth.sample import Sample
from mmsynth.shards.files import digest_of, flush_folder, flush_to_disk, part_name, whole_file, write_json

if TYPE_CHECKING:
    from webdataset.writer import TarWriter

SCORE_PREFIX = "score_"


class ShardWriter:
    """Writes one block. Use `add` for each item, then `commit`; `abandon` leaves nothing behind."""

    def __init__(self, folder: Path, block: Block, scores: Sequence[str], models: Sequence[dict[str, str]]) -> None:
        self._folder, self._block, self._scores, self._models = folder, block, tuple(scores), list(models)
        self._rows: list[dict[str, Any]] = []
        #: name → row → array
        self._arrays: dict[str, dict[int, npt.NDArray[np.generic]]] = {}
        self._counts: dict[str, Counter[str]] = {"success": Counter(), "dropped": Counter(), "failed": Counter()}
        self._tar_path = folder / f"{block.index:05d}.tar"
        self._file: IO[bytes] | None = None
        self._tar: TarWriter | None = None

    def add(self, item: Item) -> None:
        """Write a kept sample's members, and the row of any item."""
        members = encode_members(item.sample, item) if item.is_live and item.sample is not None else None
        row = _row(item, self._scores)
        if members is not None:
            tar = self._open_tar()
            row["tar_start"] = tar.tarstream.offset
            tar.write({"__key__": item.key, **members})
            row["tar_stop"] = tar.tarstream.offset
            self._note_arrays(item)
        self._rows.append(row)
        self._counts[item.status][item.reason or "success"] += 1

    def commit(self) -> dict[str, Any]:
        """Put tar, arrays, parquet and stats in their places, in this order; gives the stats."""
        tar_bytes = self._close_tar()
        self._write_arrays()
        with whole_file(self._folder / f"{self._block.index:05d}.parquet") as file:
            pq.write_table(pa.Table.from_pylist(self._rows, schema=_schema(self._scores)), file, compression="zstd")
        stats = self._stats(tar_bytes) | {"sha256": self._digests()}
        flush_folder(self._folder)
        write_json(self._folder / f"{self._block.index:05d}_stats.json", stats)
        return stats

    def abandon(self) -> None:
        """Remove what has been written of this block."""
        if self._tar is not None and self._file is not None:
            self._tar.close()
            self._file.close()
            part_name(self._tar_path).unlink(missing_ok=True)

    def _open_tar(self) -> "TarWriter":
        if self._tar is None:
            from webdataset.writer import TarWriter  # imports torch, where there is one

            self._file = part_name(self._tar_path).open("wb")
            # a fixed time and GNU's format: the same bytes on every run, and names of any length
            self._tar = TarWriter(self._file, encoder=False, mtime=0.0, format="GNU_FORMAT")
        return self._tar

    def _close_tar(self) -> int:
        """The tar's size; a block of which nothing was kept has no tar, since some readers stop at an empty one."""
        if self._tar is None or self._file is None:
            self._tar_path.unlink(missing_ok=True)
            return 0
        self._tar.close()
        flush_to_disk(self._file)
        self._file.close()
        part_name(self._tar_path).replace(self._tar_path)
        return self._tar_path.stat().st_size

    def _digests(self) -> dict[str, str]:
        """File → sha256 of what this shard consists of, for `mmsynth verify`."""
        number = f"{self._block.index:05d}"
        names = [f"{number}.tar"] if self._tar is not None else []
        paths = [self._folder / name for name in (*names, f"{number}.parquet")]
        paths += [array_path(self._folder, self._block.index, name) for name in self._arrays]
        return {path.name: digest_of(path) for path in paths}

    def _note_arrays(self, item: Item) -> None:
        """To be called before the item is counted: its row is the number of those kept before it."""
        assert item.sample is not None
        for name, values in item.sample.arrays.items():
            self._arrays.setdefault(name, {})[self._counts["success"].total()] = values

    def _write_arrays(self) -> None:
        for name, found in self._arrays.items():
            like = next(iter(found.values()))
            whole = np.zeros((self._counts["success"].total(), *like.shape), dtype=like.dtype)
            for row, values in found.items():
                whole[row] = values
            with whole_file(array_path(self._folder, self._block.index, name)) as file:
                np.save(file, whole, allow_pickle=False)

    def _stats(self, tar_bytes: int) -> dict[str, Any]:
        kept = sum(self._counts["success"].values())
        mended = Counter(self._counts["success"])
        del mended["success"]
        return {
            "count": len(self._rows),
            "successes": kept,
            "status_dict": {"success": kept} | _sorted(self._counts["dropped"] + self._counts["failed"]),
            "dropped": _sorted(self._counts["dropped"]),
            "failed": _sorted(self._counts["failed"]),
            "mended": _sorted(mended),
            "tar_bytes": tar_bytes,
            "block": self._block.identity,
            "models": self._models,
        }


def array_path(folder: Path, shard: int, name: str) -> Path:
    """Where the arrays called `name` of a shard's kept samples are."""
    return folder / f"{shard:05d}_{name}.npy"


def encode_members(sample: Sample | None, item: Item) -> dict[str, bytes]:
    """The members of a kept sample: extension → bytes."""
    assert sample is not None
    members = {name: data for name, data in sample.members.items() if name not in {"txt", "json"}}
    if sample.image is not None:
        extension = sample.image.extension
        # another member may have the name that the image gets by its content: a .jpg that is a PNG, beside a .png
        if extension in members:
            members[f"other.{extension}"] = members[extension]
        members[extension] = sample.image.data
    if sample.caption is not None:
        members["txt"] = sample.caption.encode("utf-8", "replace")
    record = {**sample.record, "synthetic": {"image": _image_is_synthetic(item), "caption": _caption_origin(sample)}}
    members["json"] = json.dumps(record, ensure_ascii=False, separators=(",", ":"), default=str).encode(
        "utf-8", "replace"
    )
    return members


def _image_is_synthetic(item: Item) -> bool:
    before = item.sample.record.get("synthetic", {}) if item.sample else {}
    return item.drawn or bool(isinstance(before, dict) and before.get("image"))


def _caption_origin(sample: Sample) -> bool:
    """Whether the caption that training reads was written by a stage."""
    entries = [entry for entry in sample.record.get("captions", ()) if entry.get("text") == sample.caption]
    return bool(entries) and entries[-1].get("origin") == "synthetic"


def _schema(scores: Sequence[str]) -> pa.Schema:
    columns = [("key", pa.string()), ("status", pa.string()), ("reason", pa.string()), ("caption", pa.string())]
    columns += [("width", pa.int32()), ("height", pa.int32()), ("source", pa.string()), ("detail", pa.string())]
    columns += [("sha256", pa.string()), ("tar_start", pa.int64()), ("tar_stop", pa.int64())]
    return pa.schema([*columns, *((SCORE_PREFIX + name, pa.float64()) for name in scores)])


def _row(item: Item, scores: Sequence[str]) -> dict[str, Any]:
    sample = item.sample
    row: dict[str, Any] = {"key": item.key, "status": item.status, "reason": item.reason or None}
    row |= {"source": item.source, "detail": _clean(item.detail)[:1000] or None}
    if sample is None:
        return row
    row["caption"] = _clean(sample.caption) if sample.caption is not None else None
    if sample.image is not None:
        with suppress(ImageError):  # what was dropped or failed may have no readable header
            row |= {"width": sample.image.width, "height": sample.image.height}
            if not sample.image.is_drawn:  # what was dropped before it was encoded has no bytes
                row["sha256"] = hashlib.sha256(sample.image.data).hexdigest()
    given = sample.record.get("scores", {})
    return row | {SCORE_PREFIX + name: given.get(name) for name in scores if isinstance(given, dict)}


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))
