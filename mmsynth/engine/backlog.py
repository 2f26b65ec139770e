"""The blocks that workers take: who dies has its blocks done again, each alone, so that it shows which of them kills.

A block that has been there at three deaths is set aside and named. Every executor with workers uses this; it knows
neither processes nor clusters.
"""

from collections import Counter, deque
from collections.abc import Iterator, Sequence

from mmsynth.blocks import Block
from mmsynth.errors import WorkerError
from mmsynth.layout import numbered

_MOST_DEATHS = 3


class Backlog:
    """Gives out blocks, in order, and again where a worker has died of them."""

    def __init__(self, blocks: Iterator[Block]) -> None:
        self._rest = blocks
        self._next = next(blocks, None)
        #: blocks that were there when a worker died
        self._suspects: deque[Block] = deque()
        self._deaths: Counter[int] = Counter()
        self._set_aside: list[int] = []
        self._why = ""

    def __bool__(self) -> bool:
        return self._next is not None or bool(self._suspects)

    def take(self, holding: Sequence[Block]) -> Block | None:
        """A block for a worker that has those in hand; None where there is none that it may have beside them."""
        if self._suspects:
            return None if holding else self._suspects.popleft()
        if any(self._deaths[block.index] for block in holding):
            return None
        block, self._next = self._next, next(self._rest, None) if self._next else None
        return block

    def died(self, holding: Sequence[Block], why: str) -> None:
        """A worker has died with these in hand."""
        self._why = why
        for block in holding:
            self._deaths[block.index] += 1
            if self._deaths[block.index] < _MOST_DEATHS:
                self._suspects.append(block)
            else:
                self._set_aside.append(block.index)

    def judge(self) -> None:
        """Raise WorkerError if blocks were set aside; to be called when all others are done."""
        if self._set_aside:
            named = ", ".join(numbered(index) for index in sorted(self._set_aside))
            raise WorkerError(
                f"{len(self._set_aside)} blocks were set aside, since {_MOST_DEATHS} workers died of each "
                f"({self._why}: killed, or out of memory?): shards {named}; the others are written, and the same "
                "command tries these again"
            )
