"""The ranks of a launched run: `accelerate launch -m mmsynth run recipe.yaml`, or torchrun, on one machine or on many.

Every rank does the blocks whose number is its own modulo the count of ranks, and talks to no other. A rank that finds
every block done at its end writes the indexes. So a rank that dies loses nothing but its unfinished blocks, and the
same command does those.
"""

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rank:
    """One process of a launched run: `number` of `count` in all, `local` on its machine."""

    number: int
    count: int
    local: int

    @property
    def share(self) -> tuple[int, int]:
        return self.number, self.count

    def does(self, block: int) -> bool:
        return block % self.count == self.number

    def device(self, device: str) -> str:
        """Each rank of a machine has a CUDA device of its own; anything else they share."""
        if device not in ("cuda", "cuda:0"):
            return device
        import torch

        return f"cuda:{self.local % max(1, torch.cuda.device_count())}"


def launched_rank() -> Rank | None:
    """The rank that a launcher gave this process; None without a launcher, or for a single process."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count < 2 or "RANK" not in os.environ:
        return None
    return Rank(int(os.environ["RANK"]), count, int(os.environ.get("LOCAL_RANK", "0")))
