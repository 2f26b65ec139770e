"""Reads a model's statements about a drawn scene, and judges each by the scene's facts.

Knows the English of the scene world (it is small, and nano-vlm says nothing else) and geometry: "left of" is true if
every object of one group lies left of every object of the other, whether the facts state it or not.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from mmsynth.facts import Facts, ObjectFacts
from mmsynth_renderers.scenes.shapes import KINDS
from mmsynth_renderers.scenes.vocabulary import BACKGROUNDS, COLOURS, OPPOSITES, plural

_SINGULAR = {form: kind for kind in KINDS for form in (plural(kind), kind)}
_COUNTS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5}


def _any(words: dict[str, object] | tuple[str, ...]) -> str:
    return "|".join(sorted(words, key=len, reverse=True))


_MENTION = re.compile(
    rf"\b(?:(?P<count>{_any(tuple(_COUNTS))})|(?P<the>the)) (?:(?P<size>small|large) )?"
    rf"(?:(?P<colour>{_any(tuple(COLOURS))}) )?(?P<kind>{_any(tuple(_SINGULAR))})\b"
)
_RELATION = re.compile(r"^(?:is |are )?(?:to the )?(left of|right of|above|below)$")
_BACKGROUND = re.compile(
    rf"\b(?P<a>{_any(tuple(BACKGROUNDS))}) background\b|\bbackground is (?P<b>{_any(tuple(BACKGROUNDS))})\b"
)


@dataclass(frozen=True)
class Mention:
    """ "three large red stars", or "the stars", which states no count. Empty or 0 means not stated."""

    kind: str
    colour: str
    size: str
    count: int

    def means(self, group: ObjectFacts) -> bool:
        """Whether the group looks as stated. Ignores the count."""
        return group.kind == self.kind and self.colour in {"", group.colour} and self.size in {"", group.size}


class Placed(NamedTuple):
    """One mention in relation to another, both as indices. `end` is where the words of the relation end."""

    subject: int
    relation: str
    object: int
    end: int


@dataclass
class Said:
    """The statements of a text. `ends` says where each mention's words end."""

    mentions: list[Mention] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    relations: list[Placed] = field(default_factory=list)
    background: str = ""


def read(text: str) -> Said:
    """The statements of a caption or an answer. Positions refer to the text with single spaces."""
    text = " ".join(text.lower().split())
    said = Said()
    end = 0
    for found in _MENTION.finditer(text):
        between = text[end : found.start()].rstrip()
        relation = _RELATION.match(between.lstrip(" ,"))
        number = len(said.mentions)
        if relation and number:
            said.relations.append(Placed(number - 1, relation[1], number, end + len(between)))
        count = _COUNTS[found["count"]] if found["count"] else 0
        said.mentions.append(Mention(_SINGULAR[found["kind"]], found["colour"] or "", found["size"] or "", count))
        end = found.end()
        said.ends.append(end)
    background = _BACKGROUND.search(text)
    if background:
        said.background = background["a"] or background["b"]
    return said


Verdicts = Iterator[tuple[str, bool]]


def statements(said: Said, facts: Facts) -> Verdicts:
    """The statements by sort (`object`, `colour`, `count`, `size`, `relation`, `background`), and which are true."""
    for mention in said.mentions:
        of_kind = [group for group in facts.objects if group.kind == mention.kind]
        yield "object", bool(of_kind)
        for sort in ("colour", "size"):
            if getattr(mention, sort):
                yield sort, any(getattr(group, sort) == getattr(mention, sort) for group in of_kind)
        if mention.count:
            meant = [group for group in of_kind if mention.colour in {"", group.colour}]
            yield "count", any(group.count == mention.count for group in meant)
    for subject, relation, other, _ in said.relations:
        yield "relation", holds(said.mentions[subject], relation, said.mentions[other], facts)
    if said.background:
        yield "background", said.background == facts.background


def holds(subject: Mention, relation: str, other: Mention, facts: Facts) -> bool:
    pairs = [(a, b) for a in facts.objects for b in facts.objects if a is not b and subject.means(a) and other.means(b)]
    return any(lies(a, relation, b) for a, b in pairs)


def lies(a: ObjectFacts, relation: str, b: ObjectFacts) -> bool:
    """Whether, by the boxes, every object of `a` lies beyond every object of `b`."""
    if relation in {"right of", "below"}:
        a, b, relation = b, a, OPPOSITES[relation]
    low, high = (0, 2) if relation == "left of" else (1, 3)
    return max(box[high] for box in a.boxes) <= min(box[low] for box in b.boxes)


def stated(said: Said, facts: Facts) -> Verdicts:
    """The facts, by sort, and whether the text states each."""
    for group in facts.objects:
        meant = [m for m in said.mentions if m.kind == group.kind and m.colour == group.colour]
        yield "object", any(m.kind == group.kind for m in said.mentions)
        yield "colour", bool(meant)
        yield "size", any(m.size == group.size for m in meant)
        yield "count", any(m.count == group.count for m in meant)
    for held in facts.relations:
        yield "relation", _is_stated(said, held.subject, held.relation, held.object, facts)
    yield "background", said.background == facts.background


def _is_stated(said: Said, subject: int, relation: str, other: int, facts: Facts) -> bool:
    """Whether the text states the relation, in either direction."""
    ends = {(subject, relation, other), (other, OPPOSITES[relation], subject)}
    return any(
        said.mentions[a].means(facts.objects[s]) and r == word and said.mentions[b].means(facts.objects[o])
        for a, r, b, _ in said.relations
        for s, word, o in ends
    )


_PLACE = re.compile(r"(left of|right of|above|below) (the .+?)(?=,| and |$)")


def is_right(kind: str, question: str, answer: str, expected: str, facts: Facts) -> bool:
    """Whether an answer is true: the expected one, a list in another order, or another true place."""
    given, wanted = (text.lower().strip(" .") for text in (answer, expected))
    if given == wanted:
        return True
    if kind == "where":
        return _true_places(question, given, facts)
    return kind == "what" and Counter(re.split(r", | and ", given)) == Counter(re.split(r", | and ", wanted))


def _true_places(question: str, answer: str, facts: Facts) -> bool:
    subject = read(question).mentions
    places = [(relation, read(name).mentions) for relation, name in _PLACE.findall(answer)]
    return bool(
        subject and places and all(other and holds(subject[0], word, other[0], facts) for word, other in places)
    )
