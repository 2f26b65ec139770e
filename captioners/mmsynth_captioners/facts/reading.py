"""Conclusions from facts: how to refer to a group unambiguously, and which relations hold.

Facts name everything in a scene, so whatever they do not name is absent. But if no relation between two groups is
stated or follows, their relation is unknown.
"""

from collections.abc import Iterable

from mmsynth.facts import Facts
from mmsynth_captioners.facts.english import OPPOSITES, noun, words

Held = tuple[int, str, int]


def reference(facts: Facts, group: int) -> str | None:
    """The shortest "the …" that means this group and no other, or None if nothing tells it apart."""
    meant = facts.objects[group]
    for parts in (("kind",), ("colour", "kind"), ("size", "colour", "kind")):
        alike = [other for other in facts.objects if all(getattr(other, p) == getattr(meant, p) for p in parts)]
        if len(alike) == 1:
            said = [getattr(meant, part) for part in parts[:-1]]
            return f"the {words(*said, noun(meant.kind, meant.count))}"
    return None


def relations(facts: Facts) -> frozenset[Held]:
    """Every relation that is stated or follows, by reversal or through a third group."""
    held: set[Held] = set()
    for stated in facts.relations:
        held.add((stated.subject, stated.relation, stated.object))
    held |= _converse(held)
    while True:
        through = {(a, r, d) for a, r, b in held for c, s, d in held if b == c and r == s and r in OPPOSITES and a != d}
        if through <= held:
            return frozenset(held)
        held |= through


def _converse(held: Iterable[Held]) -> set[Held]:
    return {(b, OPPOSITES[r], a) for a, r, b in held if r in OPPOSITES}


def missing(facts: Facts) -> list[tuple[str, str]]:
    """(kind, colour) of absent things. The colour is empty if the kind is absent altogether.

    They are the things listed as absent, and kinds of the scene in another kind's colour.
    """
    there = {(group.kind, group.colour) for group in facts.objects}
    kinds = {kind for kind, _ in there}
    gone = {(a.kind, a.colour): None for a in facts.absent if a.colour or a.kind not in kinds}
    for kind in sorted(kinds):
        if colours_known(facts, kind):
            gone |= {(kind, other.colour): None for other in facts.objects if other.colour}
    return [thing for thing in gone if thing not in there]


def colours_known(facts: Facts, kind: str) -> bool:
    """Whether the facts give a colour to every object of this kind."""
    return all(group.colour for group in facts.objects if group.kind == kind)
