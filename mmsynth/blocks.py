"""Blocks and items: what moves through a run. A slice of the source becomes one shard; an item is a sample on its way,
or what became of it.
"""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Literal

from mmsynth.errors import SampleError
from mmsynth.sample import Sample
from mmsynth.sources.base import Unreadable

Status = Literal["kept", "dropped", "failed"]
#: what is counted by its end: an input, or a candidate that stages made of one (a row; the input itself where none do)
Counted = Literal["input", "candidate"]
#: a status on disk, where img2dataset's word for kept is success
ON_DISK: dict[Status, str] = {"kept": "success", "dropped": "dropped", "failed": "failed"}


@dataclass(frozen=True, slots=True)
class Block:
    """One slice of the source and the number of the shard that it becomes."""

    index: int
    payload: Any
    size: int | None
    #: read only so many samples of the slice (the last block of a run with a limit)
    limit: int | None = None
    #: digest of payload and limit: tells a committed block from another one with the same number
    identity: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """An input, or a candidate made of one, on its way: `status` is "kept" for as long as the sample goes on."""

    key: str
    sample: Sample | None
    source: str = ""
    status: Status = "kept"
    reason: str = ""
    detail: str = ""
    #: names of its pictures that stages have made; the main one's is ""
    drawn: frozenset[str] = frozenset()
    #: keys of the samples that it was made of by stages whose groups are still open, outermost first
    groups: tuple[str, ...] = ()
    #: the input's key, where this is a candidate made of it
    parent: str | None = None
    #: of its input, counted from the start of the block
    number: int = 0

    @property
    def is_live(self) -> bool:
        return self.status == "kept"

    def gone_through(self, sample: Sample, drawn: frozenset[str]) -> "Item":
        """With what a stage gave for it."""
        return Item(
            *(self.key, sample, self.source, self.status, self.reason, self.detail, drawn),
            *(self.groups, self.parent, self.number),
        )

    def ended(self, status: Status, reason: str, detail: str = "", sample: Sample | None = None) -> "Item":
        return replace(self, status=status, reason=reason, detail=detail, sample=sample or self.sample)

    def failed(self, error: Exception) -> "Item":
        if isinstance(error, SampleError):
            return self.ended("failed", error.reason, error.detail)
        return self.ended("failed", type(error).__name__, str(error))


class InputCounts:
    """What became of inputs whose candidates come in a row: kept if one of them was, else dropped, else failed."""

    def __init__(self) -> None:
        self.counts: Counter[Status] = Counter()
        self._current: int | None = None
        self._best: Status = "failed"

    def add(self, item: Item) -> Status | None:
        """Count another row; gives the end of the input before it, once that is known."""
        if item.number == self._current:
            if _RANK[item.status] < _RANK[self._best]:
                self._best = item.status
            return None
        ended = self.end()
        self._current, self._best = item.number, item.status
        return ended

    def end(self) -> Status | None:
        """Count the last input; gives its end."""
        if self._current is None:
            return None
        self._current = None
        self.counts[self._best] += 1
        return self._best


_RANK: dict[Status, int] = {"kept": 0, "dropped": 1, "failed": 2}


@dataclass(frozen=True, slots=True)
class Edge:
    """Goes before a block's first item and after its last: batches never span it, and the writer commits at the end."""

    block: Block
    is_end: bool


Flow = Item | Edge


def item_from(read: Sample | Unreadable, number: int = 0) -> Item:
    """The item of what a source gave as the block's input `number`."""
    if isinstance(read, Unreadable):
        return Item(read.key, None, read.source, "failed", read.reason, read.detail, number=number)
    origin = read.record.get("source", {})
    source = str(origin.get("path") or origin.get("kind") or "") if isinstance(origin, dict) else str(origin)
    repaired = origin.get("repaired") if isinstance(origin, dict) else None
    return Item(read.key, read, source, reason=",".join(repaired or ()), number=number)
