"""Captions from facts: exact by construction, in several phrasings."""

import random
from collections.abc import Sequence
from typing import Literal, NamedTuple

from mmsynth.facts import Facts
from mmsynth_captioners.facts.english import (
    OPPOSITES,
    RELATIONS,
    be,
    listed,
    phrase,
    sentence,
    with_article,
)
from mmsynth_captioners.facts.reading import reference

Detail = Literal["short", "full", "mixed"]


def write_caption(facts: Facts, rng: random.Random, detail: Detail = "full") -> str:
    """A caption of `facts`.

    "full" states every fact: counts, sizes, colours, kinds, relations and the background. "short" leaves out sizes,
    relations and the background. "mixed" picks either, at even odds.
    """
    if detail == "mixed":
        detail = rng.choice(("short", "full"))
    if not facts.objects:
        return sentence(f"nothing on {with_article(facts.background)} background")
    if detail == "short":
        return _short(facts, rng)
    return _in_sentences(facts, rng) if rng.random() < 0.3 else _in_one_phrase(facts, rng)


def _short(facts: Facts, rng: random.Random) -> str:
    order = rng.sample(facts.objects, len(facts.objects))
    things = listed([phrase(group, size=False) for group in order])
    frames = (things, things, f"a picture of {things}", f"there {be(order[0].count)} {things}")
    return sentence(rng.choice(frames))


def _in_one_phrase(facts: Facts, rng: random.Random) -> str:
    clauses = _clauses(facts, rng)
    said = [f"{c.subject} {c.relation} {c.object}".strip() for c in clauses]
    things = ", with ".join(said) if facts.relations else listed(said)
    background = f"{with_article(facts.background)} background"
    # after two clauses, a plain "on" would seem to refer to the last one only
    on = f"{things}, all on {background}" if len(said) > 1 else f"{things} on {background}"
    frames = (
        on,
        on,
        f"on {background}, {things}",
        f"a picture of {on}",
        f"there {be(clauses[0].number)} {on}",
    )
    return sentence(rng.choice(frames))


def _in_sentences(facts: Facts, rng: random.Random) -> str:
    told = []
    for clause in _clauses(facts, rng):
        verb = be(clause.number)
        if clause.relation:
            told.append(sentence(f"{clause.subject} {verb} {clause.relation} {clause.object}"))
        else:
            told.append(sentence(f"there {verb} {clause.subject}"))
    ground = sentence(f"the background is {facts.background}")
    return " ".join([*told, ground] if rng.random() < 0.7 else [ground, *told])


class _Clause(NamedTuple):
    """A subject, its number, and the relation with its object (empty for a group on its own)."""

    subject: str
    number: int
    relation: str = ""
    object: str = ""


def _clauses(facts: Facts, rng: random.Random) -> list[_Clause]:
    """Every relation once, either way round, then the groups without a relation. Each group is introduced once."""
    said: set[int] = set()
    clauses: list[_Clause] = []
    for stated in _connected(facts, rng):
        subject, word, other = stated
        # a group introduced before comes last: "with two cups above the ring"
        turn = (subject in said and other not in said) or ((subject in said) == (other in said) and rng.random() < 0.5)
        if turn and word in OPPOSITES:
            subject, word, other = other, OPPOSITES[word], subject
        names = [_name(facts, i, known=i in said) for i in (subject, other)]
        spoken = rng.choice(RELATIONS.get(word, (word,)))
        clauses.append(_Clause(names[0], facts.objects[subject].count, spoken, names[1]))
        said |= {subject, other}
    alone = [i for i in range(len(facts.objects)) if i not in said]
    rng.shuffle(alone)
    return clauses + [_Clause(phrase(facts.objects[i]), facts.objects[i].count) for i in alone]


def _connected(facts: Facts, rng: random.Random) -> Sequence[tuple[int, str, int]]:
    """The stated relations in a random order in which each, if possible, mentions a group introduced before."""
    waiting = [(r.subject, r.relation, r.object) for r in rng.sample(facts.relations, len(facts.relations))]
    order: list[tuple[int, str, int]] = []
    met: set[int] = set()
    while waiting:
        following = next((held for held in waiting if {held[0], held[2]} & met), waiting[0])
        waiting.remove(following)
        order.append(following)
        met |= {following[0], following[2]}
    return order


def _name(facts: Facts, group: int, known: bool) -> str:
    whole = phrase(facts.objects[group])
    return (reference(facts, group) or whole) if known else whole
