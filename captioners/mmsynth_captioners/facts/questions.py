"""Questions and answers from facts: never ambiguous, yes as often as no, and some about absent things.

Each pair is {"question", "answer", "kind"}. Kinds: `yes_no`, `colour`, `count`, `what`, `where`, `not_present`.
"""

import random
from collections.abc import Callable

from mmsynth.facts import Facts, ObjectFacts
from mmsynth_captioners.facts import reading
from mmsynth_captioners.facts.english import (
    OPPOSITES,
    be,
    capital,
    listed,
    noun,
    number,
    phrase,
    plural,
    relation,
    with_article,
    words,
)

Pair = tuple[str, str]

_OTHER_SIZE = {"small": "large", "large": "small"}


def write_questions(facts: Facts, rng: random.Random, n: int = 4) -> list[dict[str, str]]:
    """Up to `n` different pairs. Fewer if the facts allow no more unambiguous questions."""
    asked: list[dict[str, str]] = []
    waiting: dict[str, list[Pair]] = {}
    weights = dict(_WEIGHTS)
    while weights and len(asked) < n:
        kind = rng.choices(list(weights), list(weights.values()))[0]
        if kind not in waiting:
            waiting[kind] = _KINDS[kind](facts, rng)
        if not waiting[kind]:
            del weights[kind]
            continue
        question, answer = waiting[kind].pop()
        asked.append({"question": question, "answer": answer, "kind": kind})
    return asked


# -- yes or no -------------------------------------------------------------------------------------------------------


def _yes_no(facts: Facts, rng: random.Random) -> list[Pair]:
    """One question of each form. For each, a coin decides which answer is the right one.

    A form is used only if both answers are possible, so that neither the form nor the scene gives the answer away.
    """
    if not facts.objects:
        return []
    pairs = []
    for form in (_is_there, _is_colour, _is_size, _is_count, _is_where):
        yes, no = form(facts, rng)
        if yes and no:
            pairs.append((rng.choice(yes), "Yes") if rng.random() < 0.5 else (rng.choice(no), "No"))
    rng.shuffle(pairs)
    return pairs


Sides = tuple[list[str], list[str]]


def _is_there(facts: Facts, rng: random.Random) -> Sides:
    frame = rng.choice(("Are there any {many}?", "Is there {one}?", "Can you see any {many}?"))
    there = [(group.kind, group.colour) for group in facts.objects] + [(group.kind, "") for group in facts.objects]

    def ask(kind: str, colour: str) -> str:
        return frame.format(many=words(colour, plural(kind)), one=with_article(words(colour, kind)))

    return [ask(*thing) for thing in there], [ask(*thing) for thing in reading.missing(facts)]


def _is_colour(facts: Facts, rng: random.Random) -> Sides:
    known = {group.colour: None for group in facts.objects} | {absent.colour: None for absent in facts.absent}
    yes, no = [], []
    for group in _only_of_kind(facts):
        asked = f"{capital(be(group.count))} the {noun(group.kind, group.count)}"
        if group.colour:
            yes.append(f"{asked} {group.colour}?")
            no += [f"{asked} {colour}?" for colour in known if colour and colour != group.colour]
    return yes, no


def _is_size(facts: Facts, rng: random.Random) -> Sides:
    yes, no = [], []
    for group in _only_of_kind(facts):
        asked = f"{capital(be(group.count))} the {noun(group.kind, group.count)}"
        if group.size in _OTHER_SIZE:
            yes.append(f"{asked} {group.size}?")
            no.append(f"{asked} {_OTHER_SIZE[group.size]}?")
    return yes, no


def _is_count(facts: Facts, rng: random.Random) -> Sides:
    def ask(thing: str, count: int) -> str:
        return f"{capital(be(count))} there exactly {number(count)} {noun(thing, count)}?"

    totals = _totals(facts)
    yes = [ask(thing, count) for thing, count in totals.items()]
    no = [ask(thing, other) for thing, count in totals.items() for other in (count - 1, count + 1) if other > 0]
    return yes, no


def _is_where(facts: Facts, rng: random.Random) -> Sides:
    yes, no = [], []
    for subject, word, other in sorted(reading.relations(facts)):
        names = reading.reference(facts, subject), reading.reference(facts, other)
        if None not in names and word in OPPOSITES:
            asked = f"{capital(be(facts.objects[subject].count))} {names[0]}"
            yes.append(f"{asked} {relation(word)} {names[1]}?")
            no.append(f"{asked} {relation(OPPOSITES[word])} {names[1]}?")
    return yes, no


# -- open questions --------------------------------------------------------------------------------------------------


def _colour(facts: Facts, rng: random.Random) -> list[Pair]:
    groups = [group for group in _only_of_kind(facts) if group.colour]
    return _shuffled([(f"What colour {_the(group)}?", capital(group.colour)) for group in groups], rng)


def _count(facts: Facts, rng: random.Random) -> list[Pair]:
    pairs = [
        (f"How many {plural(thing)} are there?", capital(number(count))) for thing, count in _totals(facts).items()
    ]
    if facts.objects:
        everything = sum(group.count for group in facts.objects)
        pairs.append(("How many objects are there?", capital(number(everything))))
    return _shuffled(pairs, rng)


def _what(facts: Facts, rng: random.Random) -> list[Pair]:
    pairs = [("What is the background like?", capital(facts.background))]
    held = reading.relations(facts)
    for i in range(len(facts.objects)):
        name = reading.reference(facts, i)
        for word in sorted({r for _, r, b in held if b == i}):
            found = [phrase(facts.objects[a]) for a, r, b in sorted(held) if b == i and r == word]
            # an object below may also be to the left without the facts saying so, and then the list is incomplete
            settled = {a for a, r, b in held if b == i and r in {word, OPPOSITES.get(word)}}
            if name and len(settled) == len(facts.objects) - 1:
                pairs.append((f"What is {relation(word)} {name}?", capital(listed(found))))
    if all(group.colour for group in facts.objects):
        for colour in sorted({group.colour for group in facts.objects}):
            alike = [group.model_copy(update={"colour": ""}) for group in facts.objects if group.colour == colour]
            found = [phrase(group, size=False) for group in alike]
            pairs.append((f"Which objects are {colour}?", capital(listed(found))))
    if facts.objects:
        pairs.append(("What objects are there?", capital(listed([phrase(g, size=False) for g in facts.objects]))))
    return _shuffled(pairs, rng)


def _where(facts: Facts, rng: random.Random) -> list[Pair]:
    held = sorted(reading.relations(facts))
    pairs = []
    for i, group in enumerate(facts.objects):
        places = [
            f"{relation(word)} {reading.reference(facts, other)}"
            for a, word, other in held
            if a == i and reading.reference(facts, other)
        ]
        name = reading.reference(facts, i)
        if name and places:
            pairs.append((f"Where {be(group.count)} {name}?", capital(listed(places))))
    return _shuffled(pairs, rng)


def _not_present(facts: Facts, rng: random.Random) -> list[Pair]:
    pairs = []
    for kind, colour in reading.missing(facts):
        one, many = words(colour, kind), words(colour, plural(kind))
        asked = [
            (f"How many {many} are there?", f"There are no {many}."),
            (f"Where is the {one}?", f"There is no {one}."),
        ]
        if not colour:
            asked.append((f"What colour is the {one}?", f"There is no {one}."))
        pairs.append(rng.choice(asked))
    return _shuffled(pairs, rng)


_KINDS: dict[str, Callable[[Facts, random.Random], list[Pair]]] = {
    "yes_no": _yes_no,
    "colour": _colour,
    "count": _count,
    "what": _what,
    "where": _where,
    "not_present": _not_present,
}
_WEIGHTS = {"yes_no": 4, "colour": 2, "count": 2, "what": 1, "where": 2, "not_present": 1}


def _only_of_kind(facts: Facts) -> list[ObjectFacts]:
    """The groups that are the only one of their kind, so that "the stars" is unambiguous."""
    kinds = [group.kind for group in facts.objects]
    return [group for group in facts.objects if kinds.count(group.kind) == 1]


def _totals(facts: Facts) -> dict[str, int]:
    """The number of each kind, and of each kind in each colour: "star" → 3, "red star" → 2."""
    totals: dict[str, int] = {}
    for group in facts.objects:
        totals[group.kind] = totals.get(group.kind, 0) + group.count
    for group in facts.objects:
        # if others have no stated colour, the number of red ones is unknown
        if reading.colours_known(facts, group.kind):
            totals[f"{group.colour} {group.kind}"] = totals.get(f"{group.colour} {group.kind}", 0) + group.count
    return totals


def _the(group: ObjectFacts) -> str:
    """are the stars"""
    return f"{be(group.count)} the {noun(group.kind, group.count)}"


def _shuffled(pairs: list[Pair], rng: random.Random) -> list[Pair]:
    rng.shuffle(pairs)
    return pairs
