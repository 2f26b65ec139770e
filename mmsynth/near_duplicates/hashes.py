"""Perceptual hashes: 64 bits of a picture, and which of many hashes differ in few bits.

The hash is imagehash's phash (the signs of a picture's low frequencies) after uniform borders are cut off. It survives
recompression, resizing and small changes of colour. It does not survive crops, and it ignores colour. A picture has no
hash if it is flat (one colour, or colours of equal lightness) or has hardly any of these frequencies (the stripes of
flags). Otherwise all such pictures would be duplicates of each other.

Pairs are found without comparing all: two hashes within distance d differ in at most d/m bits in one of m bands
(multi-index hashing, Norouzi et al. 2012, arXiv 1307.2982).
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mmsynth.near_duplicates.chunks import CHUNK, Numbers, Pairs, equal_rows, joined, paired, runs
from mmsynth.near_duplicates.needs import need

if TYPE_CHECKING:
    import PIL.Image

Hashes: TypeAlias = npt.NDArray[np.uint64]

#: bits that near-duplicates may differ in
DISTANCE = 6
BITS = 64
#: stands for "no hash" beside a shard. No hash is 0, since some of a picture's frequencies are always above the median
NO_HASH = 0
#: the side to which imagehash shrinks a picture; with a smaller spread of pixels there (of 255), the picture is flat
_HASHED_SIDE, _FLAT = 32, 1.0
#: the fewest set bits of a meaningful hash. Half of all frequencies are above the median. But if most frequencies are
#: zero, so is the median: the stripes of a flag have 7 bits set, whatever their colours, and few have more
_FEWEST_SET = 12
#: the frequencies whose sign turns when a picture is mirrored: the odd columns of the 8×8
_MIRROR = np.uint64(0x5555555555555555)
#: the side of the square in which to look for borders, and the most of it that a border may take
_SIDE, _MOST_BORDER = 256, 0.48
#: how many borders may lie inside one another: a letterbox, a frame, a margin
_NESTED = 3
#: how far pixels may differ from the border's colour (of 255), and how far they must differ beyond its edge. So many
#: pixels of a line are enough, since a drawing may start with a tip
_BORDER_SPREAD, _EDGE = 11.0, 40.0
_SOME_PIXELS = 2
#: lines that JPEG and resizing blur at the edge; a slower change is not a border
_BLURRED = 8


# -- one picture --------------------------------------------------------------------------------------------------


def hash_of(picture: "PIL.Image.Image") -> int | None:
    """The picture's 64 bits, never NO_HASH, or None for flat pictures and stripes. Cuts off uniform borders first."""
    import imagehash

    grey = without_borders(picture)
    if np.asarray(grey.resize((_HASHED_SIDE,) * 2, reducing_gap=3.0), dtype=np.float32).std() < _FLAT:
        return None
    bits = imagehash.phash(grey).hash
    return int.from_bytes(np.packbits(bits).tobytes(), "big") if bits.sum() >= _FEWEST_SET else None


def check_hashing() -> None:
    """Raise PluginError if imagehash is not installed."""
    need("imagehash", "perceptual hashing")


def to_hex(value: int) -> str:
    """The hash as 16 hex digits, as imagehash prints it."""
    return f"{int(value):016x}"


def from_hex(digits: Iterable[str]) -> Hashes:
    """Hashes from their hex digits."""
    return np.array([int(text, 16) for text in digits], dtype=np.uint64)


def without_borders(picture: "PIL.Image.Image") -> "PIL.Image.Image":
    """The picture in grey, or if it has borders of one colour, a small grey copy without them.

    Borders (letterboxes, frames, a drawing's margins) may lie inside one another. They are found at one fixed size, so
    that a resized copy loses the same borders.
    """
    grey = picture.convert("L")
    small = grey.resize((_SIDE, _SIDE), reducing_gap=3.0)
    pixels = np.asarray(small, dtype=np.float32)
    left, top, right, bottom = 0, 0, _SIDE, _SIDE
    for _ in range(_NESTED):
        inner = pixels[top:bottom, left:right]
        sides = _border(inner.T), _border(inner.T[::-1])
        inner = inner[:, sides[0] : inner.shape[1] - sides[1]]
        ends = _border(inner), _border(inner[::-1])
        left, right, top, bottom = left + sides[0], right - sides[1], top + ends[0], bottom - ends[1]
        if not any((*sides, *ends)) or min(right - left, bottom - top) < _HASHED_SIDE:
            break
    cut = (left, top, right, bottom)
    return grey if cut == (0, 0, _SIDE, _SIDE) else small.crop(cut)


def _border(lines: npt.NDArray[np.float32]) -> int:
    """How many lines from the start have the first line's colour and end at an edge. 0 if they fade out."""
    differs = np.abs(lines - np.median(lines[0]))[: int(len(lines) * _MOST_BORDER)]
    ends, edge = (np.flatnonzero((differs > least).sum(axis=1) >= _SOME_PIXELS) for least in (_BORDER_SPREAD, _EDGE))
    if not len(edge) or edge[0] - ends[0] > _BLURRED:
        return 0
    return int(edge[0]) if ends[0] else 0


# -- many ---------------------------------------------------------------------------------------------------------


def pairs_within(hashes: Hashes, distance: int = DISTANCE, *, mirrored: bool = False) -> Pairs:
    """Pairs of rows whose hashes differ in at most `distance` bits.

    The first row stands for all rows with the same hash, and each of the others is paired with it. With `mirrored`, a
    picture and a mirror image are a pair too, by the hash that `mirror` gives.
    """
    return joined(iter_pairs(hashes, distance, mirrored=mirrored))


def iter_pairs(hashes: Hashes, distance: int = DISTANCE, *, mirrored: bool = False) -> Iterator[Pairs]:
    """Like `pairs_within`, in chunks, for more pairs than fit into memory. With `mirrored`, a pair may come twice."""
    values, first, inverse = np.unique(np.asarray(hashes, dtype=np.uint64), return_index=True, return_inverse=True)
    yield equal_rows(first, inverse)
    for one in (values, mirror(values)) if mirrored else (values,):
        for a, b in matches_within(one, values, distance):
            once = a < b  # each pair is found from both sides
            yield paired(first[a[once]], first[b[once]])


def mirror(hashes: Hashes) -> Hashes:
    """The hashes of the mirrored pictures, give or take 2 to 4 bits: phash compares with a median, not with zero."""
    return hashes ^ _MIRROR


def nearest_within(hashes: Hashes, others: Hashes, distance: int = DISTANCE, *, mirrored: bool = False) -> Numbers:
    """For each hash, the nearest row in `others` within `distance` (the first on a tie), or -1."""
    values, inverse = np.unique(np.asarray(hashes, dtype=np.uint64), return_inverse=True)
    kinds, first = np.unique(np.asarray(others, dtype=np.uint64), return_index=True)
    nothing = np.iinfo(np.int64).max
    best = np.full(len(values), nothing)
    for one in (values, mirror(values)) if mirrored else (values,):
        for a, b in matches_within(one, kinds, distance):
            # distance first, then row, in one number, so that the minimum decides both
            np.minimum.at(best, a, ones(one[a] ^ kinds[b]).astype(np.int64) * len(others) + first[b])
    return np.where(best == nothing, -1, best % max(len(others), 1))[inverse.reshape(-1)]


def ones(values: Hashes) -> npt.NDArray[Any]:
    """How many bits are set in each value."""
    counts: npt.NDArray[Any] = _count(values)
    return counts


def _count_by_bytes(values: Hashes) -> npt.NDArray[Any]:
    in_bytes: npt.NDArray[np.uint8] = _ONES_IN_BYTE[values[:, None].view(np.uint8)]
    counts: npt.NDArray[Any] = in_bytes.sum(axis=1, dtype=np.uint8)
    return counts


_ONES_IN_BYTE = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)
#: numpy 2 counts bits itself
_count: Callable[[Hashes], npt.NDArray[Any]] = getattr(np, "bitwise_count", _count_by_bytes)


# -- multi-index hashing ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Band:
    """A run of neighbouring bits of a hash, and how many of them may differ."""

    shift: int
    width: int
    radius: int

    def of(self, hashes: Hashes) -> Numbers:
        return ((hashes >> np.uint64(self.shift)) & np.uint64((1 << self.width) - 1)).astype(np.int64)

    def flips(self) -> list[int]:
        """Every way to differ in at most `radius` bits."""
        return [
            sum(1 << bit for bit in bits) for n in range(self.radius + 1) for bits in combinations(range(self.width), n)
        ]


def matches_within(hashes: Hashes, others: Hashes, distance: int) -> Iterator[tuple[Numbers, Numbers]]:
    """Rows of `hashes` and rows of `others` that differ in at most `distance` bits, in chunks, each pair once."""
    if distance < 0 or not len(hashes) or not len(others):
        return
    bands = plan(len(hashes), len(others), distance)
    for number, band in enumerate(bands):
        for a, b in _in_band(band, hashes, others, distance):
            differ = hashes[a] ^ others[b]
            fresh = np.ones(len(a), dtype=bool)
            for earlier in bands[:number]:  # an earlier band has found the pair
                fresh &= ones(earlier.of(differ).astype(np.uint64)) > earlier.radius
            yield a[fresh], b[fresh]


def plan(n: int, m: int, distance: int) -> list[Band]:
    """The cheapest bands for comparing n hashes with m. One band without bits compares all with all."""
    plans = [_bands(number, distance) for number in range(3, min(distance + 1, 16) + 1)]
    plans += [_bands(number, distance) for number in (3, 4) if distance < number - 1]
    return min([[Band(0, 0, 0)], *plans], key=lambda bands: sum(_cost(band, n, m) for band in bands))


def _bands(number: int, distance: int) -> list[Band]:
    """`number` bands; of distance d = number·r + rest, rest + 1 bands have radius r and the others r - 1."""
    radius, rest = divmod(distance, number)
    edges = [round(i * BITS / number) for i in range(number + 1)]
    bands = [Band(edges[i], edges[i + 1] - edges[i], radius - (i > rest)) for i in range(number)]
    return [band for band in bands if band.radius >= 0]


def _cost(band: Band, n: int, m: int) -> float:
    """The approximate cost in comparisons. Looking up a flip costs as much as a few comparisons."""
    flips = sum(math.comb(band.width, k) for k in range(band.radius + 1))
    return flips * n * (5 + m / (1 << band.width)) + (1 << band.width)


def _in_band(band: Band, hashes: Hashes, others: Hashes, distance: int) -> Iterator[tuple[Numbers, Numbers]]:
    """Pairs within `distance` whose bits in this band differ in at most its radius."""
    order, mine = _by_band(band, hashes)
    other_order, theirs = _by_band(band, others)
    edges = np.concatenate([[0], np.cumsum(np.bincount(theirs, minlength=1 << band.width))])
    sorted_hashes, sorted_others = hashes[order], others[other_order]
    for flip in band.flips():
        wanted = mine ^ flip
        starts = edges[wanted]
        for rows, begins, positions in runs(starts, edges[wanted + 1] - starts, CHUNK):
            counts = np.diff(begins, append=len(positions))
            near = ones(np.repeat(sorted_hashes[rows], counts) ^ sorted_others[positions]) <= distance
            hits = np.flatnonzero(near)
            which = np.searchsorted(begins, hits, side="right") - 1
            yield order[rows][which], other_order[positions[hits]]


def _by_band(band: Band, hashes: Hashes) -> tuple[Numbers, Numbers]:
    bits = band.of(hashes)
    order = np.argsort(bits, kind="stable")
    return order, bits[order]
