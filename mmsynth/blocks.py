"""Blocks, items and stats. A block is a slice of the source that becomes one shard. An item is a sample in progress, or
its outcome. Stats say what a shard holds; processes exchange them, and the writer stores them beside the shard.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Self

from mmsynth.errors import SampleError
from mmsynth.io.files import unsealed
from mmsynth.layout import array_in
from mmsynth.models.files import ModelInfo
from mmsynth.sample import Sample

Status = Literal["kept", "dropped", "failed"]
#: the outcome of an input, or of a row: a candidate that stages made of an input, or else the input itself
Counted = Literal["input", "candidate"]
#: the status as written to disk, where "kept" is img2dataset's word "success"
ON_DISK: dict[Status, str] = {"kept": "success", "dropped": "dropped", "failed": "failed"}


@dataclass(frozen=True, slots=True)
class Block:
    """One slice of the source, and the number of the shard that it becomes."""

    index: int
    payload: Any
    size: int | None
    #: read only so many samples of the slice (for the last block of a run with a limit)
    limit: int | None = None
    #: digest of payload and limit, which tells a committed block from another one with the same number
    identity: str = ""
    #: sizes and times of the files that it is read from: `engine.content` says how
    content: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """An input, or a candidate made of one, in progress. `status` is "kept" as long as the sample goes on."""

    key: str
    sample: Sample | None
    source: str = ""
    status: Status = "kept"
    #: why it ended; of a kept one the codes of what was repaired on the way in, joined with commas
    reason: str = ""
    detail: str = ""
    #: names of its pictures that stages have made; the main one's is ""
    made: frozenset[str] = frozenset()
    #: keys of the samples that it was made of by stages whose groups are still open, outermost first
    groups: tuple[str, ...] = ()
    #: the key of the input that this candidate was made of
    parent: str | None = None
    #: the number of its input in the block
    number: int = 0

    @property
    def is_live(self) -> bool:
        return self.status == "kept"

    def gone_through(self, sample: Sample, made: frozenset[str]) -> "Item":
        """With what a stage gave for it."""
        return Item(
            *(self.key, sample, self.source, self.status, self.reason, self.detail, made),
            *(self.groups, self.parent, self.number),
        )

    def ended(self, status: Status, reason: str, detail: str = "", sample: Sample | None = None) -> "Item":
        return replace(self, status=status, reason=reason, detail=detail, sample=sample or self.sample)

    def failed(self, error: Exception) -> "Item":
        if isinstance(error, SampleError):
            return self.ended("failed", error.reason, error.detail)
        return self.ended("failed", type(error).__name__, str(error))


class InputCounts:
    """Counts the outcomes of inputs, whose candidates arrive one after another.

    An input is kept if one of its candidates was kept, else dropped if one was dropped, else failed.
    """

    def __init__(self) -> None:
        self.counts: Counter[Status] = Counter()
        self._current: int | None = None
        self._best: Status = "failed"

    def add(self, item: Item) -> Status | None:
        """Count another row. Returns the outcome of the previous input, once it is known."""
        if item.number == self._current:
            if _RANK[item.status] < _RANK[self._best]:
                self._best = item.status
            return None
        ended = self.end()
        self._current, self._best = item.number, item.status
        return ended

    def end(self) -> Status | None:
        """Count the last input, and return its outcome."""
        if self._current is None:
            return None
        self._current = None
        self.counts[self._best] += 1
        return self._best


_RANK: dict[Status, int] = {"kept": 0, "dropped": 1, "failed": 2}


@dataclass(frozen=True, slots=True)
class Edge:
    """Marks the start or the end of a block among items. Batches never span it, and the writer commits at the end."""

    block: Block
    is_end: bool


Flow = Item | Edge


@dataclass(frozen=True, slots=True)
class ShardStats:
    """What a shard holds: 00000_stats.json."""

    #: rows: candidates, or the inputs themselves if no stage makes candidates
    count: int
    #: outcome → how many inputs
    inputs: Mapping[Status, int]
    kept: int
    #: reason → how many
    dropped: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, int] = field(default_factory=dict)
    #: repair made on reading → how many kept samples
    repaired: Mapping[str, int] = field(default_factory=dict)
    tar_bytes: int = 0
    #: the identity of the block
    block: str = ""
    #: fingerprint of the run that wrote it; earlier versions did not say
    run: str = ""
    #: what its files were when it was read; empty where that is not known, as in runs of 0.1
    content: str = ""
    models: tuple[ModelInfo, ...] = ()
    #: names that source and stages declare
    scores: tuple[str, ...] = ()
    arrays: tuple[str, ...] = ()
    #: column of a score, or `name.npy` of an array → the models that gave it; more than one where runs were mixed
    made_by: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: file → digest of what the shard consists of
    sha256: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The JSON to write, with img2dataset's names for the fields that it has too."""
        return {
            "count": self.count,
            "inputs": dict(self.inputs),
            "successes": self.kept,
            "status_dict": {ON_DISK["kept"]: self.kept} | _sorted(Counter(self.dropped) + Counter(self.failed)),
            "dropped": _sorted(self.dropped),
            "failed": _sorted(self.failed),
            "repaired": _sorted(self.repaired),
            "tar_bytes": self.tar_bytes,
            "block": self.block,
            "run": self.run,
            **({"content": self.content} if self.content else {}),
            "models": [asdict(model) for model in self.models],
            "scores": list(self.scores),
            "arrays": list(self.arrays),
            **({"made_by": {name: list(models) for name, models in self.made_by.items()}} if self.made_by else {}),
            "sha256": dict(self.sha256),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read the JSON of this version or of 0.1. Raises KeyError, TypeError or ValueError for anything else."""
        count, kept, failed = data["count"], data["successes"], sum(data["failed"].values())
        digests = data.get("sha256", {})
        return cls(
            count=count,
            # 0.1 counted candidates only
            inputs=data.get("inputs", {"kept": kept, "dropped": count - kept - failed, "failed": failed}),
            kept=kept,
            dropped=data["dropped"],
            failed=data["failed"],
            repaired=data["repaired"] if "repaired" in data else data.get("mended", {}),
            tar_bytes=data["tar_bytes"],
            block=data["block"],
            run=str(data.get("run", "")),
            content=data.get("content", ""),
            models=tuple(ModelInfo(**model) for model in data["models"]),
            scores=tuple(data["scores"]),
            # 0.1 did not write their names
            arrays=tuple(data["arrays"] if "arrays" in data else filter(None, map(_array_name, digests))),
            made_by={name: tuple(models) for name, models in data.get("made_by", {}).items()},
            sha256=digests,
        )

    def written_arrays(self) -> tuple[str, ...]:
        """The names of the arrays with a file. A shard without kept samples has none."""
        return tuple(filter(None, map(_array_name, self.sha256)))


def all_made_by(parts: Iterable[Mapping[str, Sequence[str]]]) -> dict[str, tuple[str, ...]]:
    """`made_by` of several shards or runs together."""
    together: dict[str, dict[str, None]] = {}
    for part in parts:
        for name, models in part.items():
            together.setdefault(name, {}).update(dict.fromkeys(models))
    return {name: tuple(models) for name, models in together.items()}


def stats_in(text: bytes) -> ShardStats | None:
    """The stats in a file, or None if it has changed since it was written."""
    try:
        data = unsealed(text)
        return ShardStats.from_json(data) if data is not None else None
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _array_name(file: str) -> str:
    found = array_in(file)
    return found[1] if found else ""


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items()))
