"""Drawing from several sources by weight: what `mix` plans with, a bounded number of samples of each part at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmsynth.errors import SourceError
from mmsynth.sources.base import Slice, Source


@dataclass(frozen=True, slots=True)
class Drawn:
    """A sample in the order of a mixture: where it stands in which slice of which part."""

    part: int
    key: str
    slice: Slice
    position: int


class Rest:
    """What is left of a part, a slice at a time. False where nothing is."""

    def __init__(self, part: int, source: Source, grain: int) -> None:
        self._part, self._source = part, source
        self._slices = source.slices(grain)
        self._slice = Slice(None, 0)
        self._keys: list[str] = []
        self._position = 0
        self._refill()

    def __bool__(self) -> bool:
        return self._position < len(self._keys)

    def take(self) -> Drawn:
        drawn = Drawn(self._part, self._keys[self._position], self._slice, self._position)
        self._position += 1
        self._refill()
        return drawn

    def _refill(self) -> None:
        while not self:
            one = next(self._slices, None)
            if one is None:
                return
            if one.size is None:
                raise SourceError(
                    f"mix cannot cut sources[{self._part}]: only reading its tars tells how many samples there are. "
                    "Give local, uncompressed tars, or use concat"
                )
            self._slice, self._keys, self._position = one, list(self._source.keys(one)), 0


def chosen(weights: Mapping[int, float], draw: float) -> int:
    """The part that a draw from [0, 1) falls on."""
    left = draw * sum(weights.values())
    for part, weight in weights.items():
        left -= weight
        if left < 0:
            return part
    return list(weights)[-1]  # rounding


def pieces_of(drawn: Sequence[Drawn]) -> list[list[Any]]:
    """Part, payload and size of its slice, start and stop in it; each part's in order."""
    pieces: list[list[Any]] = []
    latest: dict[int, list[Any]] = {}
    for one in drawn:
        piece = latest.get(one.part)
        if piece is not None and piece[1] is one.slice.payload:
            piece[-1] = one.position + 1
        else:
            latest[one.part] = [one.part, one.slice.payload, one.slice.size, one.position, one.position + 1]
            pieces.append(latest[one.part])
    return pieces
