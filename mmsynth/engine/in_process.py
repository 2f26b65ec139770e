"""The executor for this process."""

from collections.abc import Iterator
from itertools import chain

from mmsynth.blocks import Block
from mmsynth.engine.work import Job, Watcher, do_blocks


def run_here(job: Job, blocks: Iterator[Block], workers: int, device: str, watcher: Watcher) -> None:
    """Run all blocks in this process. `workers` is 1."""
    first = next(blocks, None)
    if first is None:
        return  # nothing left to do: load no models
    job.setup(device)
    do_blocks(job, chain([first], blocks), watcher)
