"""The queue of blocks that workers take from. A dead worker's blocks are retried, each alone, to find which one kills.

A block that crashes three workers is skipped and reported. Every executor with workers uses this; it knows neither
processes nor clusters.
"""

from collections import Counter, deque
from collections.abc import Iterator, Sequence

from mmsynth.blocks import Block
from mmsynth.errors import WorkerError
from mmsynth.layout import numbered

_MOST_CRASHES = 3


class BlockQueue:
    """Gives out blocks in order, and again after a worker has died with them."""

    def __init__(self, blocks: Iterator[Block]) -> None:
        self._rest = blocks
        self._next = next(blocks, None)
        #: blocks that a dead worker held
        self._suspects: deque[Block] = deque()
        self._crashes: Counter[int] = Counter()
        self._skipped: list[int] = []
        self._why = ""

    def __bool__(self) -> bool:
        return self._next is not None or bool(self._suspects)

    def take(self, holding: Sequence[Block]) -> Block | None:
        """A block for a worker that holds these, or None if nothing may run beside them."""
        if self._suspects:
            return None if holding else self._suspects.popleft()
        if any(self._crashes[block.index] for block in holding):
            return None
        block, self._next = self._next, next(self._rest, None) if self._next else None
        return block

    def died(self, holding: Sequence[Block], why: str) -> None:
        """A worker has died while it held these."""
        self._why = why
        for block in holding:
            self._crashes[block.index] += 1
            if self._crashes[block.index] < _MOST_CRASHES:
                self._suspects.append(block)
            else:
                self._skipped.append(block.index)

    def raise_if_skipped(self) -> None:
        """Raise WorkerError if blocks were skipped. Call it when all others are done."""
        if self._skipped:
            named = ", ".join(numbered(index) for index in sorted(self._skipped))
            raise WorkerError(
                f"{len(self._skipped)} blocks were skipped because each crashed {_MOST_CRASHES} workers "
                f"({self._why}: killed, or out of memory?): shards {named}; the others are written, and the same "
                "command tries these again"
            )
