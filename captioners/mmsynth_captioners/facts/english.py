"""The English that facts need: plurals, articles, numbers, and names for groups of objects.

Knows no world's vocabulary. Takes any noun, from any renderer.
"""

import re
from collections.abc import Sequence

from mmsynth.facts import ObjectFacts

_IRREGULAR = {
    "child": "children",
    "deer": "deer",
    "fish": "fish",
    "foot": "feet",
    "goose": "geese",
    "half": "halves",
    "knife": "knives",
    "leaf": "leaves",
    "loaf": "loaves",
    "man": "men",
    "mouse": "mice",
    "person": "people",
    "sheep": "sheep",
    "shelf": "shelves",
    "tooth": "teeth",
    "wolf": "wolves",
    "woman": "women",
}
# by sound, not by letter
_AN = re.compile(r"(?!uni|use|euro|one\b|once)[aeiou]|hour|honest|heir", re.IGNORECASE)
# fmt: off
_ONES = (
    "no", "one", "two", "three", "four", "five", "six", "seven",
    "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen",
    "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)
# fmt: on

RELATIONS = {"left of": ("to the left of", "left of"), "right of": ("to the right of", "right of")}
OPPOSITES = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


def plural(noun: str) -> str:
    """star → stars, cross → crosses, fish → fish. Of several words, the last one changes."""
    *before, last = noun.split(" ")
    if last in _IRREGULAR:
        last = _IRREGULAR[last]
    elif re.search(r"(s|x|z|ch|sh)$", last):
        last += "es"
    elif re.search(r"[^aeiou]y$", last):
        last = f"{last[:-1]}ies"
    else:
        last += "s"
    return " ".join((*before, last))


def with_article(words: str) -> str:
    """a star, an orange star, an hourglass, a unicorn"""
    return f"{'an' if _AN.match(words) else 'a'} {words}"


def number(count: int) -> str:
    """The number, in words up to twenty."""
    return _ONES[count] if count < len(_ONES) else str(count)


def noun(kind: str, count: int) -> str:
    return kind if count == 1 else plural(kind)


def words(*parts: str) -> str:
    """The non-empty parts, joined by spaces."""
    return " ".join(part for part in parts if part)


def phrase(group: ObjectFacts, size: bool = True) -> str:
    """three large red stars; a small red star"""
    described = words(group.size if size else "", group.colour, noun(group.kind, group.count))
    return with_article(described) if group.count == 1 else f"{number(group.count)} {described}"


def listed(items: Sequence[str]) -> str:
    """a, b and c"""
    return " and ".join(filter(None, (", ".join(items[:-1]), items[-1]))) if items else ""


def sentence(text: str) -> str:
    """The text with a capital and a full stop."""
    return f"{capital(text)}."


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def be(count: int) -> str:
    return "is" if count == 1 else "are"


def relation(word: str) -> str:
    """left of → to the left of; above stays above"""
    return RELATIONS.get(word, (word,))[0]
