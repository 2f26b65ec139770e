"""Source: gives samples in blocks. Each block is the input of one output shard.

A source is a frozen pydantic model, like a stage. It cuts itself into slices without reading images. It can read any
slice on its own, in any process, because a slice holds all that `read` needs.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict

from mmsynth.sample import Sample

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Slice:
    """One block's worth of a source. `payload` holds JSON values that the source's own `read` understands."""

    payload: Any
    #: number of samples, or None if only reading can tell (a remote tar)
    size: int | None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An input that could not become a sample. It gets a `failed` row with this reason."""

    key: str
    reason: str
    detail: str = ""
    source: str = ""


class Source(BaseModel):
    """Where samples come from. Subclasses write `slices` and `read`."""

    #: the parameter that `mm.NAME(value)` gives
    main: ClassVar[str] = "path"

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), validate_default=True)

    def check(self) -> None:
        """Raise SourceError, before any work is done, if the input does not exist."""

    def count(self) -> int | None:
        """The number of samples for the progress bar, or None if it is expensive to find out."""
        return None

    def score_names(self) -> tuple[str, ...]:
        """Scores that the samples already have. They become parquet columns `score_<name>`, like those of stages."""
        return ()

    def array_names(self) -> tuple[str, ...]:
        """Arrays that the samples already have. They go into files `00000_<name>.npy`, like those of stages."""
        return ()

    def describe_in(self, folder: Path) -> None:
        """Write files that describe this source, to lie beside run.json. Most sources write none."""

    def slices(self, samples_per_slice: int) -> Iterator[Slice]:
        """Cut the source into slices, lazily and always in the same way. Reads no images."""
        raise NotImplementedError(f"{type(self).__name__} must define slices()")

    def read(self, payload: Any) -> Iterator[Sample | Unreadable]:
        """The samples of one slice, in order; `record["source"]` says where each came from.

        A bad sample is yielded as Unreadable and never ends the slice. Images from files should be
        `Image.from_file(path)`, so that they are read in parallel.
        """
        raise NotImplementedError(f"{type(self).__name__} must define read()")

    def keys(self, one: Slice) -> Iterator[str]:
        """The keys that `read` gives for a slice, in order. Override it if keys are cheaper to get than samples."""
        return (read.key for read in self.read(one.payload))


def in_groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one shorter."""
    group: list[T] = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
