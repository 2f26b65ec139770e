"""Places the objects of a scene, as squares in 64ths of the image's side, from facts and a seed.

The image is cut into one region for each group, side by side or one above the other. So a relation stated between two
groups holds for all of their objects. Inside its region, a group stays together on a loose grid.
Knows counts, sizes and relations; knows nothing of kinds, colours or pixels.
"""

import random
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import permutations, product
from math import ceil

from mmsynth.facts import Relation
from mmsynth_renderers.scenes.vocabulary import MAX_GROUPS, OPPOSITES, SIZES, UNITS

#: the least units between any two objects, and twice the free rim
GAP = 2
#: the smallest image in which the gap is at least a pixel
MIN_PIXELS = UNITS // GAP

#: left, top and side of an object's square, in units; the side is a whole number, so that outlines can be cached
Place = tuple[float, float, int]
#: a group's number, or an axis (0: from left to right, 1: from top to bottom) and the trees along it
Tree = int | tuple[int, tuple["Tree", ...]]
#: columns and rows of a group's grid
Grid = tuple[int, int]


#: a group's number of objects and their size, which decide whether it fits
Need = tuple[int, str]


class NoLayout(Exception):
    """These groups cannot be placed so that the relations hold."""


def place(
    needs: Sequence[Need], relations: Sequence[Relation], rng: random.Random, gap: int = GAP
) -> list[list[Place]]:
    """The places of each group's objects, with `gap` units or more between any two. Raises NoLayout."""
    if not needs:
        return []
    trees = arrangements(len(needs), stated(relations))
    if not trees:
        raise NoLayout("the relations contradict each other, or need more than one cut between two groups")
    for tree in rng.sample(trees, len(trees)):
        choices = _grids_that_fit(tree, tuple(needs), gap)
        if choices:
            grids = rng.choice(choices)
            return _placed(tree, needs, grids, rng, gap)
    raise NoLayout("the objects do not fit: fewer or smaller ones, or a smaller gap, would")


def fits(needs: Sequence[Need], relations: Sequence[Relation]) -> bool:
    """Whether `place` would find a layout with the least gap."""
    trees = arrangements(len(needs), stated(relations))
    return not needs or any(_grids_that_fit(tree, tuple(needs), GAP) for tree in trees)


def turned_round(relations: Sequence[Relation]) -> Iterator[tuple[Relation, ...]]:
    """The relations with one of them reversed, for each in turn."""
    for i, relation in enumerate(relations):
        turned = relation.model_copy(update={"relation": OPPOSITES[relation.relation]})
        yield (*relations[:i], turned, *relations[i + 1 :])


# -- the possible arrangements ---------------------------------------------------------------------------------------

Stated = tuple[tuple[int, str, int], ...]


def stated(relations: Sequence[Relation]) -> Stated:
    """Relations as plain tuples, which can be cache keys."""
    return tuple((r.subject, r.relation, r.object) for r in relations)


@lru_cache(maxsize=4096)
def arrangements(groups: int, relations: Stated) -> tuple[Tree, ...]:
    """Every way to divide the image among the groups so that all relations hold."""
    return tuple(tree for tree in _trees(groups) if set(relations) <= relations_of(tree))


@lru_cache(maxsize=8)
def _trees(groups: int) -> tuple[Tree, ...]:
    if groups > MAX_GROUPS:
        return ()
    if groups == 1:
        return (0,)
    trees: list[Tree] = []
    for axis, order in product((0, 1), permutations(range(groups))):
        trees.append((axis, order))
        if groups == 3:
            first, second, third = order
            pair: Tree = (1 - axis, (second, third))
            trees += [(axis, (first, pair)), (axis, (pair, first))]
    return tuple(trees)


_BEFORE, _AFTER = ("left of", "above"), ("right of", "below")


@lru_cache(maxsize=64)
def relations_of(tree: Tree) -> frozenset[tuple[int, str, int]]:
    """All relations between the groups of an arrangement: one for every two groups, in both directions."""
    if isinstance(tree, int):
        return frozenset()
    axis, branches = tree
    found: set[tuple[int, str, int]] = set()
    for i, branch in enumerate(branches):
        found |= relations_of(branch)
        for other in branches[i + 1 :]:
            for a, b in product(_groups(branch), _groups(other)):
                found |= {(a, _BEFORE[axis], b), (b, _AFTER[axis], a)}
    return frozenset(found)


def _groups(tree: Tree) -> list[int]:
    if isinstance(tree, int):
        return [tree]
    return [group for branch in tree[1] for group in _groups(branch)]


# -- what fits -------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=2**15)
def _grids_that_fit(tree: Tree, needs: tuple[Need, ...], gap: int) -> tuple[tuple[Grid, ...], ...]:
    """The choices of grids, one per group, with which everything fits at the least size."""
    cells = [SIZES[size][0] + gap for _, size in needs]
    choices = product(*(_grids(count) for count, _ in needs))
    return tuple(grids for grids in choices if max(_extent(tree, grids, cells)) <= UNITS)


@lru_cache(maxsize=32)
def _grids(count: int) -> tuple[Grid, ...]:
    """Grids for `count` cells, without a spare row or column."""
    return tuple({(columns, ceil(count / columns)): None for columns in range(1, count + 1)})


def _extent(tree: Tree, grids: Sequence[Grid], cells: Sequence[int]) -> tuple[int, int]:
    """Width and height that the groups of `tree` take up with these grids and cells."""
    if isinstance(tree, int):
        columns, rows = grids[tree]
        return columns * cells[tree], rows * cells[tree]
    axis, branches = tree
    extents = [_extent(branch, grids, cells) for branch in branches]
    along, across = sum(e[axis] for e in extents), max(e[1 - axis] for e in extents)
    return (along, across) if axis == 0 else (across, along)


# -- placing ---------------------------------------------------------------------------------------------------------


def _placed(
    tree: Tree, needs: Sequence[Need], grids: Sequence[Grid], rng: random.Random, gap: int
) -> list[list[Place]]:
    least = [SIZES[size][0] for _, size in needs]
    sides = [rng.randint(*SIZES[size]) for _, size in needs]
    # draw sizes freely, then shrink them towards the least ones until everything fits
    for share in (1.0, 0.75, 0.5, 0.25, 0.0):
        cells = [low + int(share * (side - low)) + gap for low, side in zip(least, sides, strict=True)]
        if share == 0 or max(_extent(tree, grids, cells)) <= UNITS:
            break
    places: list[list[Place]] = [[] for _ in needs]
    for group, region in _regions(tree, (0.0, 0.0, float(UNITS), float(UNITS)), grids, cells, rng):
        places[group] = _in_region(region, needs[group][0], grids[group], (cells[group] - gap, gap), rng)
    return places


Region = tuple[float, float, float, float]


def _regions(
    tree: Tree, region: Region, grids: Sequence[Grid], cells: Sequence[int], rng: random.Random
) -> list[tuple[int, Region]]:
    """Divide `region` (left, top, width, height) among the groups. Each gets its need and a share of the rest."""
    if isinstance(tree, int):
        return [(tree, region)]
    axis, branches = tree
    needed = [_extent(branch, grids, cells)[axis] for branch in branches]
    weights = [0.5 + rng.random() for _ in branches]
    spare = max(0.0, region[2 + axis] - sum(needed)) / sum(weights)
    found: list[tuple[int, Region]] = []
    start = region[axis]
    for branch, need, weight in zip(branches, needed, weights, strict=True):
        length = need + spare * weight
        left, top, width, height = region
        part = (start, top, length, height) if axis == 0 else (left, start, width, length)
        found += _regions(branch, part, grids, cells, rng)
        start += length
    return found


def _in_region(
    region: Region, count: int, grid: Grid, side_and_gap: tuple[int, int], rng: random.Random
) -> list[Place]:
    """The objects of one group, on a grid a little looser than needed, each moved at random in its cell."""
    left, top, width, height = region
    side, gap = side_and_gap
    cell = side + gap
    columns, rows = grid
    across, down = columns * cell, rows * cell
    loose_x = min(width / across, rng.uniform(1, 1.3))
    loose_y = min(height / down, rng.uniform(1, 1.3))
    # closer to the middle of the region than to its rim, so that a relation is visible along its own axis
    x0 = left + (width - across * loose_x) * (0.1 + 0.8 * rng.random())
    y0 = top + (height - down * loose_y) * (0.1 + 0.8 * rng.random())
    pitch_x, pitch_y = cell * loose_x, cell * loose_y
    spots = list(product(range(columns), range(rows)))
    if count < len(spots):
        spots = rng.sample(spots, count)
    return [
        (
            x0 + column * pitch_x + gap / 2 + (pitch_x - cell) * rng.random(),
            y0 + row * pitch_y + gap / 2 + (pitch_y - cell) * rng.random(),
            side,
        )
        for column, row in spots
    ]
