"""Stages that misbehave on purpose."""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from mmsynth.sample import Result, Sample
from mmsynth.stage import Captioner


class NeedsSmallBatches(Captioner):
    """Runs out of memory, as torch says it, on batches of more than `most`."""

    most: int = 2

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        if len(batch) > self.most:
            raise MemoryError("no room for so many")
        return [sample.with_caption("fits") for sample in batch]


class Slow(Captioner):
    """Takes its time with every sample."""

    speed_only: ClassVar[frozenset[str]] = frozenset({"batch_size", "seconds"})
    seconds: float = 0.01

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        time.sleep(self.seconds * len(batch))
        return [sample.with_caption(f"seed {self.seed(sample)}") for sample in batch]


class Dies(Captioner):
    """Kills its own process on the sample `on`, for as long as a file exists."""

    on: str
    while_exists: str

    def process(self, batch: Sequence[Sample]) -> list[Result]:
        if Path(self.while_exists).exists() and any(sample.key == self.on for sample in batch):
            os.kill(os.getpid(), signal.SIGKILL)
        return [sample.with_caption("alive") for sample in batch]
