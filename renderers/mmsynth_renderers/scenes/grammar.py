"""Random scenes, and the prompt that states everything in one: the world's grammar.

Knows what a scene may hold and how to say it in English. Knows nothing of places or pixels, except whether things fit.
"""

import random
from collections.abc import Sequence
from typing import NamedTuple

from mmsynth.facts import Absent, Facts, ObjectFacts, Relation
from mmsynth_renderers.scenes import layout
from mmsynth_renderers.scenes.shapes import KINDS
from mmsynth_renderers.scenes.vocabulary import (
    BACKGROUNDS,
    COLOURS,
    MAX_COUNT,
    MAX_GROUPS,
    NUMBERS,
    OPPOSITES,
    plural,
    visible_colours,
)

_BACKGROUND_NAMES = tuple(BACKGROUNDS)
_GROUPS_WEIGHTS = (35, 40, 25)
_ABSENT = 4

Group = tuple[str, str]  # kind and colour


class World(NamedTuple):
    """The content of random scenes: kinds and sizes of objects, number of groups, and number of objects in a group."""

    kinds: tuple[str, ...] = KINDS
    sizes: tuple[str, ...] = ("small", "large")
    max_groups: int = MAX_GROUPS
    max_count: int = MAX_COUNT


#: name → world; `nano` is the part that nano-diffusion learned to draw
WORLDS = {
    "whole": World(),
    "nano": World(
        ("circle", "square", "triangle", "star", "heart", "cross", "ring", "moon", "tree", "fish"),
        sizes=("large",),
        max_groups=2,
        max_count=3,
    ),
}


def random_facts(rng: random.Random, world: World = WORLDS["whole"]) -> Facts:
    """A scene that can be drawn: groups that differ in kind or colour, with their relations."""
    background = rng.choice(_BACKGROUND_NAMES)
    groups = rng.choices(range(1, world.max_groups + 1), _GROUPS_WEIGHTS[: world.max_groups])[0]
    looks = _random_looks(rng, groups, world.kinds, visible_colours(background))
    counts = [rng.randint(1, world.max_count) for _ in looks]
    relations = _random_relations(rng, groups)
    sizes = _sizes_that_fit(rng, counts, relations, world.sizes)
    objects = tuple(
        ObjectFacts(kind=kind, colour=colour, size=size, count=count)
        for (kind, colour), size, count in zip(looks, sizes, counts, strict=True)
    )
    return Facts(background=background, objects=objects, relations=relations, absent=random_absent(rng, looks))


def _random_looks(rng: random.Random, groups: int, kinds: Sequence[str], colours: Sequence[str]) -> list[Group]:
    looks: list[Group] = []
    while len(looks) < groups:
        kind, colour = rng.choice(kinds), rng.choice(colours)
        # a kind or a colour that comes twice makes a scene worth reading closely
        if looks and rng.random() < 0.3:
            kind, colour = (looks[-1][0], colour) if rng.random() < 0.5 else (kind, looks[-1][1])
        if (kind, colour) not in looks:
            looks.append((kind, colour))
    return looks


def _random_relations(rng: random.Random, groups: int) -> tuple[Relation, ...]:
    """Just enough relations to connect the groups, each either way round, taken from an arrangement that exists."""
    if groups == 1:
        return ()
    holding = sorted(layout.relations_of(rng.choice(layout.arrangements(groups, ()))))
    rng.shuffle(holding)
    chosen: list[Relation] = []
    tied: set[int] = set()
    while len(chosen) < groups - 1:
        # each relation after the first connects a new group to the others
        subject, relation, other = next(h for h in holding if not chosen or len({h[0], h[2]} & tied) == 1)
        chosen.append(Relation(subject=subject, relation=relation, object=other))
        tied |= {subject, other}
    return tuple(chosen)


def _sizes_that_fit(
    rng: random.Random, counts: Sequence[int], relations: Sequence[Relation], known: Sequence[str]
) -> list[str]:
    sizes = [rng.choice(known) for _ in counts]
    # they must also fit with any relation reversed, so that every scene has a drawable hard negative
    wanted = [relations, *layout.turned_round(relations)]
    # the largest crowd becomes small first: a scene of small objects always fits
    while not all(layout.fits(list(zip(counts, sizes, strict=True)), each) for each in wanted):
        crowd = max((i for i, size in enumerate(sizes) if size == "large"), key=lambda i: counts[i])
        sizes[crowd] = "small"
    return sizes


def random_absent(rng: random.Random, looks: Sequence[Group]) -> tuple[Absent, ...]:
    """Things that are certainly absent: half are near misses (a present kind in another colour), half absent kinds."""
    there = {kind for kind, _ in looks}
    absent: dict[Absent, None] = {}
    while len(absent) < _ABSENT // 2:
        kind, colour = rng.choice(looks)[0], rng.choice(tuple(COLOURS))
        if (kind, colour) not in looks:
            absent[Absent(kind=kind, colour=colour)] = None
    while len(absent) < _ABSENT:
        kind = rng.choice(KINDS)
        if kind not in there:
            absent[Absent(kind=kind)] = None
    return tuple(absent)


# -- the prompt ------------------------------------------------------------------------------------------------------


def prompt(facts: Facts, rng: random.Random) -> str:
    """One phrase that states everything: counts, sizes, colours, kinds, relations and the background."""
    things = _things(facts, rng)
    article = "an" if facts.background[:1] in "aeiou" else "a"
    background = f"{article} {facts.background} background"
    if not facts.objects:
        return background
    return rng.choice((f"{things} on {background}", f"{things}, {background}", f"on {background}, {things}"))


def _things(facts: Facts, rng: random.Random) -> str:
    phrases = [_phrase(group) for group in facts.objects]
    said: list[int] = []
    parts: list[str] = []
    for relation in rng.sample(facts.relations, len(facts.relations)):
        subject, word, other = relation.subject, relation.relation, relation.object
        if rng.random() < 0.5:
            subject, word, other = other, OPPOSITES[word], subject
        # refer back to a known group, and put the new one first
        if subject in said and other not in said:
            subject, word, other = other, OPPOSITES[word], subject
        ends = [_reference(facts, i) if i in said else phrases[i] for i in (subject, other)]
        parts.append(f"{'with ' if said else ''}{ends[0]} {_RELATION_WORDS.get(word, word)} {ends[1]}")
        said += [subject, other]
    parts += [phrase for i, phrase in enumerate(phrases) if i not in said]
    return ", ".join(parts) if facts.relations else " and ".join(parts)


_RELATION_WORDS = {"left of": "to the left of", "right of": "to the right of"}


def _phrase(group: ObjectFacts) -> str:
    """three large red stars"""
    words = [word for word in (group.size, group.colour) if word]
    if group.count > 1:
        return " ".join((NUMBERS[group.count], *words, plural(group.kind)))
    words.append(group.kind)
    return f"{'an' if words[0][0] in 'aeiou' else 'a'} {' '.join(words)}"


def _reference(facts: Facts, group: int) -> str:
    """the stars, or the red stars if there are others"""
    meant = facts.objects[group]
    noun = plural(meant.kind) if meant.count > 1 else meant.kind
    alone = sum(other.kind == meant.kind for other in facts.objects) == 1
    return f"the {noun}" if alone else f"the {meant.colour} {noun}"
