"""Source: gives samples in blocks. Each block is the input of one output shard.

A source is a frozen pydantic model, like a stage. It cuts itself into slices without reading images. It can read any
slice on its own, in any process, because a slice holds all that `read` needs.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict

from mmsynth.io.files import write_json
from mmsynth.layout import NOT_READ
from mmsynth.sample import Sample
from mmsynth.sources.files import InputFile

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Slice:
    """One block's worth of a source. `payload` holds JSON values that the source's own `read` understands."""

    payload: Any
    #: number of samples, or None if only reading can tell (a remote tar)
    size: int | None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An input that could not become a sample: it gets a `failed` row with this reason.

    What only lies among the inputs, such as a file that is no image in a folder of images, is no input: its row is a
    `dropped` one, and nothing has failed.
    """

    key: str
    reason: str
    detail: str = ""
    source: str = ""
    is_input: bool = True


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

    def made_by(self) -> Mapping[str, tuple[str, ...]]:
        """Of the scores and arrays that the samples bring with them, the models that gave them: see ShardStats."""
        return {}

    def not_read(self) -> Mapping[str, int]:
        """What lies where this source reads and is no input of it: kind → how many files, for the report."""
        return {}

    def describe_in(self, folder: Path) -> None:
        """Write what there is to tell about this source into files that lie beside run.json: what it did not read."""
        if others := self.not_read():
            write_json(folder / NOT_READ, dict(others))

    def slices(self, samples_per_slice: int) -> Iterator[Slice]:
        """Cut the source into slices, lazily and always in the same way. Reads no images."""
        raise NotImplementedError(f"{type(self).__name__} must define slices()")

    def read(self, payload: Any) -> Iterator[Sample | Unreadable]:
        """The samples of one slice, in order; `record["source"]` says where each came from.

        A bad sample is yielded as Unreadable and never ends the slice. Images from files should be
        `Image.from_file(path)`, so that they are read in parallel.
        """
        raise NotImplementedError(f"{type(self).__name__} must define read()")

    def files(self, payload: Any) -> Iterable[InputFile]:
        """The files that `read` reads for a slice, as they are now: by them a run sees that its input has changed.

        Looks at sizes and times, and reads no images. None where the source reads no files.
        """
        return ()

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
