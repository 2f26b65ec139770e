"""Hard negatives: scenes with one thing changed, so that they are no longer true of the picture."""

import random
from collections.abc import Callable, Iterator

from mmsynth.facts import Facts, ObjectFacts
from mmsynth_renderers.scenes import layout
from mmsynth_renderers.scenes.draw import check_drawable
from mmsynth_renderers.scenes.shapes import KINDS
from mmsynth_renderers.scenes.vocabulary import MAX_COUNT, visible_colours


def hard_negatives(facts: Facts, seed: int) -> dict[str, Facts]:
    """Scenes that differ from `facts` in one thing only, by the kind of change: `colour`, `shape`, `count`, `relation`.

    Each can be drawn, and is false of a picture of `facts`. The change of a relation reverses it, so a scene without
    relations has no such negative. Boxes are removed, and so are absent things that are now present.
    Raises SampleError(`scene_not_drawable`) for facts of another world.
    """
    check_drawable(facts)
    rng = random.Random(seed)  # noqa: S311 - reproducible on purpose
    found: dict[str, Facts] = {}
    for name, changes in _CHANGES.items():
        changed = next((scene for scene in changes(facts, rng) if _can_be_drawn(scene)), None)
        if changed is not None:
            found[name] = _without_stale(changed)
    return found


def _colours(facts: Facts, rng: random.Random) -> Iterator[Facts]:
    for i, group in _shuffled(facts, rng):
        colours = [c for c in visible_colours(facts.background) if c != group.colour]
        rng.shuffle(colours)
        # half of the time, take another group's colour: all words are right, but combined wrongly
        if rng.random() < 0.5:
            others = {other.colour for other in facts.objects}
            colours.sort(key=lambda colour: colour not in others)
        yield from (_with_group(facts, i, colour=colour) for colour in colours)


def _shapes(facts: Facts, rng: random.Random) -> Iterator[Facts]:
    for i, group in _shuffled(facts, rng):
        kinds = [kind for kind in rng.sample(KINDS, len(KINDS)) if kind != group.kind]
        if rng.random() < 0.5:
            others = {other.kind for other in facts.objects}
            kinds.sort(key=lambda kind: kind not in others)
        yield from (_with_group(facts, i, kind=kind) for kind in kinds)


def _counts(facts: Facts, rng: random.Random) -> Iterator[Facts]:
    for i, group in _shuffled(facts, rng):
        counts = [count for count in range(1, MAX_COUNT + 1) if count != group.count]
        rng.shuffle(counts)
        yield from (_with_group(facts, i, count=count) for count in counts)


def _relations(facts: Facts, rng: random.Random) -> Iterator[Facts]:
    turned = list(layout.turned_round(facts.relations))
    for relations in rng.sample(turned, len(turned)):
        yield facts.model_copy(update={"relations": relations})


_CHANGES: dict[str, Callable[[Facts, random.Random], Iterator[Facts]]] = {
    "colour": _colours,
    "shape": _shapes,
    "count": _counts,
    "relation": _relations,
}


def _shuffled(facts: Facts, rng: random.Random) -> list[tuple[int, ObjectFacts]]:
    return rng.sample(list(enumerate(facts.objects)), len(facts.objects))


def _with_group(facts: Facts, i: int, **changed: object) -> Facts:
    groups = list(facts.objects)
    groups[i] = groups[i].model_copy(update=changed)
    return facts.model_copy(update={"objects": tuple(groups)})


def _can_be_drawn(facts: Facts) -> bool:
    """Whether the groups are still distinct, and fit with their relations."""
    looks = {(group.kind, group.colour) for group in facts.objects}
    needs = [(group.count, group.size) for group in facts.objects]
    return len(looks) == len(facts.objects) and layout.fits(needs, facts.relations)


def _without_stale(facts: Facts) -> Facts:
    objects = tuple(group.model_copy(update={"boxes": ()}) for group in facts.objects)
    absent = tuple(
        gone
        for gone in facts.absent
        if not any(group.kind == gone.kind and gone.colour in {"", group.colour} for group in objects)
    )
    return facts.model_copy(update={"objects": objects, "absent": absent})
