"""What the campaign's runs are made of: a small pipeline that does a bit of everything, and stages that misbehave."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import mmsynth as mm
from mmsynth.pipeline import Pipeline
from mmsynth.sample import Result, Sample
from mmsynth.sources.base import Slice, Unreadable
from mmsynth.stage import Captioner, Filter
from mmsynth.testing import ColourRenderer, EchoCaptioner
from tests.engine.gradients import Gradients

INPUTS, PER_SHARD = 30, 3
#: where a run can be made to wait for a signal, in the order in which a run comes there
PLACES = ("load", "plan", "read", "prepare", "process", "write", "finish")
_MOST_WAIT_S = float(os.environ.get("FAULT_WAIT_S", "2"))


def waits_at(place: str) -> None:
    """Wait here once, if the campaign asked for it, and say so: it sends its signal then."""
    mark = Path(os.environ.get("FAULT_MARK", "/nowhere"))
    if os.environ.get("FAULT_WAIT_AT") != place or mark.exists() or not mark.parent.is_dir():
        return
    mark.touch()
    ends = time.monotonic() + _MOST_WAIT_S
    while time.monotonic() < ends:
        time.sleep(0.02)


class Inputs(Gradients):
    """Gradients, two of which are broken, that can wait while they are planned, read and told of."""

    n: int = INPUTS
    broken: tuple[int, ...] = (4,)
    truncated: tuple[int, ...] = (17,)

    def slices(self, samples_per_slice: int) -> Iterator[Slice]:
        waits_at("plan")
        yield from super().slices(samples_per_slice)

    def read(self, payload: Any) -> Iterator[Sample | Unreadable]:
        waits_at("read")
        yield from super().read(payload)

    def describe_in(self, folder: Path) -> None:
        waits_at("finish")


class Marks(Filter):
    """Gives each sample a score and an array, so that a run has every kind of file; can wait anywhere."""

    speed_only: ClassVar[frozenset[str]] = frozenset({"batch_size", "seconds"})
    seconds: float = 0.03

    def setup(self, device: str) -> None:
        waits_at("load")

    def prepare(self, sample: Sample) -> np.ndarray[Any, Any]:
        waits_at("prepare")
        assert sample.image is not None
        return np.asarray(sample.image.pixels()).mean(axis=(0, 1)).astype(np.float32)

    def process_prepared(self, batch: Sequence[Sample], prepared: Sequence[Any]) -> list[Result]:
        waits_at("process")
        time.sleep(self.seconds * len(batch))
        return [
            s.with_array("mean", mean).with_scores(mean=float(mean.mean())) if i % 7 else mm.Dropped("a_seventh")
            for s, mean, i in zip(batch, prepared, map(_number, batch), strict=True)
        ]

    def score_names(self) -> tuple[str, ...]:
        return ("mean",)

    def array_names(self) -> tuple[str, ...]:
        return ("mean",)


def _number(sample: Sample) -> int:
    return int(sample.key.rpartition("-")[2])


class Raises(Captioner):
    """Raises on two samples."""

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        if any(_number(sample) in {3, 20} for sample in batch):
            raise RuntimeError("as it was told")
        return [sample.with_caption("well") for sample in batch]


class LosesOne(Captioner):
    """Gives one result too few."""

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        return list(batch[1:])


class AddsOne(Captioner):
    """Gives one result too many."""

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        return [*batch, batch[0]]


class GivesNothing(Captioner):
    """Gives None for the whole of a batch, as a forgotten return does."""

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        return None  # type: ignore[return-value]


class Hangs(Captioner):
    """Never comes back from two samples."""

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        while any(_number(sample) in {3, 20} for sample in batch):
            time.sleep(60)
        return [sample.with_caption("well") for sample in batch]


class HangsPreparing(Captioner):
    """Never comes back from preparing three samples: more than it has threads."""

    def prepare(self, sample: Sample) -> None:
        while _number(sample) in {3, 9, 20}:
            time.sleep(60)

    def process_prepared(self, batch: Sequence[Sample], prepared: Sequence[Any]) -> list[Result]:
        return [sample.with_caption("well") for sample in batch]


_leaked: list[bytes] = []


class Leaks(Captioner):
    """Keeps a megabyte of every sample; the system kills the process, as it does, when there are twenty."""

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        _leaked.extend(bytes(2**20) for _ in batch)
        time.sleep(0.1 * len(batch))
        if len(_leaked) > 20:
            os.kill(os.getpid(), signal.SIGKILL)
        return [sample.with_caption("well") for sample in batch]


class Kills(Captioner):
    """The system kills the process whenever it comes to one sample."""

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        time.sleep(0.05 * len(batch))
        if any(_number(sample) == 20 for sample in batch):
            os.kill(os.getpid(), signal.SIGKILL)
        return [sample.with_caption("well") for sample in batch]


class NoMemory(Captioner):
    """Runs out of the device's memory on more than two samples, and on one whatever it does."""

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        if len(batch) > 2 or any(_number(sample) == 20 for sample in batch):
            raise MemoryError("no room on the device")
        return [sample.with_caption("well") for sample in batch]


def plain() -> Pipeline:
    """Every kind of thing that a run does: a drawing, a caption, a score, an array, drops, failures."""
    return mm.source(Inputs()).filter(Marks(batch_size=2)).caption(EchoCaptioner()).seeded(3)


def drawn() -> Pipeline:
    return mm.source(Inputs()).render(ColourRenderer()).filter(Marks(batch_size=2)).seeded(3)


def with_stage(stage: Captioner) -> Pipeline:
    return mm.source(Inputs(broken=(), truncated=())).caption(stage)


PIPELINES: dict[str, Callable[[], Pipeline]] = {
    "plain": plain,
    "drawn": drawn,
    "raises": lambda: with_stage(Raises()),
    "loses one": lambda: with_stage(LosesOne()),
    "adds one": lambda: with_stage(AddsOne()),
    "gives nothing": lambda: with_stage(GivesNothing()),
    "kills": lambda: with_stage(Kills(batch_size=2)),
    "hangs": lambda: with_stage(Hangs(batch_size=4)),
    "hangs preparing": lambda: with_stage(HangsPreparing(batch_size=4)),
    "leaks": lambda: with_stage(Leaks(batch_size=2)),
    "no memory": lambda: with_stage(NoMemory(batch_size=8)),
}
