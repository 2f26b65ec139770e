"""Items: what the engine carries. A sample, or what became of it, and the markers that end a block."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from mmsynth.errors import SampleError
from mmsynth.sample import Sample
from mmsynth.sources.base import Unreadable

Status = Literal["success", "dropped", "failed"]


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
    """One input on its way: `status` is "success" for as long as the sample goes on."""

    key: str
    sample: Sample | None
    source: str = ""
    status: Status = "success"
    reason: str = ""
    detail: str = ""
    #: a stage gave it another image
    drawn: bool = False
    #: keys of the inputs that it is a candidate of, outermost first; only while `best_of` has not chosen
    groups: tuple[str, ...] = ()

    @property
    def is_live(self) -> bool:
        return self.status == "success"

    def gone_through(self, sample: Sample, drawn: bool) -> "Item":
        """With what a stage gave for it."""
        return Item(self.key, sample, self.source, self.status, self.reason, self.detail, drawn, self.groups)

    def ended(self, status: Status, reason: str, detail: str = "", sample: Sample | None = None) -> "Item":
        return replace(self, status=status, reason=reason, detail=detail, sample=sample or self.sample)

    def failed(self, error: Exception) -> "Item":
        if isinstance(error, SampleError):
            return self.ended("failed", error.reason, error.detail)
        return self.ended("failed", type(error).__name__, str(error))


@dataclass(frozen=True, slots=True)
class Edge:
    """Goes before a block's first item and after its last: batches never span it, and the writer commits at the end."""

    block: Block
    is_end: bool


Flow = Item | Edge


def item_from(read: Sample | Unreadable) -> Item:
    """The item of what a source gave."""
    if isinstance(read, Unreadable):
        return Item(read.key, None, read.source, "failed", read.reason, read.detail)
    origin = read.record.get("source", {})
    source = str(origin.get("path") or origin.get("kind") or "") if isinstance(origin, dict) else str(origin)
    return Item(read.key, read, source)
