"""Stages that misbehave on purpose."""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

from pydantic import PrivateAttr

from mmsynth.sample import Result, Sample
from mmsynth.stage import Captioner


class NeedsSmallBatches(Captioner):
    """Runs out of memory, as Python or (`said`) torch says it, on batches of more than `most`."""

    most: int = 2
    said: str = ""

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        if len(batch) > self.most:
            raise RuntimeError(self.said) if self.said else MemoryError("no room for so many")
        return [sample.with_caption("fits") for sample in batch]


class RaisesThis(Captioner):
    """Raises one error, whatever it gets."""

    _error: Exception = PrivateAttr(default_factory=RuntimeError)

    def of(self, error: Exception) -> Self:
        self._error = error
        return self

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        raise self._error


class Slow(Captioner):
    """Takes its time with every sample."""

    speed_only: ClassVar[frozenset[str]] = frozenset({"batch_size", "seconds"})
    seconds: float = 0.01

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        time.sleep(self.seconds * len(batch))
        return [sample.with_caption(f"seed {self.seed_of(sample)}") for sample in batch]


class DiesLoading(Captioner):
    """Kills its own process where models are loaded."""

    def setup(self, device: str) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        return list(batch)


class DiesLoadingAgain(Captioner):
    """Slow; kills its process on the sample `on` once, and so many times more where its successors load their models."""

    on: str
    times: int
    folder: str

    def setup(self, device: str) -> None:
        if (Path(self.folder) / "died").exists() and self._counted("loading") <= self.times:
            os.kill(os.getpid(), signal.SIGKILL)

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        if any(sample.key == self.on for sample in batch) and self._counted("died") == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.01 * len(batch))
        return [sample.with_caption("alive") for sample in batch]

    def _counted(self, name: str) -> int:
        with (Path(self.folder) / name).open("a") as file:
            file.write(".")
            return file.tell()


class Dies(Captioner):
    """Kills its own process on the sample `on`, for as long as there are files in a folder; takes one each time."""

    on: str
    lives: str

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        left = sorted(Path(self.lives).iterdir())
        if left and any(sample.key == self.on for sample in batch):
            left[0].unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return [sample.with_caption("alive") for sample in batch]


class TellsItsProcess(Slow):
    """Slow, and leaves a file named by its process's number in a folder."""

    speed_only: ClassVar[frozenset[str]] = frozenset({"batch_size", "seconds", "folder"})
    folder: str

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        (Path(self.folder) / str(os.getpid())).touch()
        return super().process(batch)


class TellsItsLoading(TellsItsProcess):
    """Leaves a file for every time that its models are loaded, too."""

    def setup(self, device: str) -> None:
        (Path(self.folder) / f"loaded-{os.getpid()}-{time.monotonic_ns()}").touch()
