"""Questions that fit any picture, by kind, in several wordings, and the form of the answers to each kind.

Knows nothing of the picture. `facts` asks about known content.
"""

import random
from typing import Literal, NamedTuple

Kind = Literal["yes_no", "what", "colour", "count", "where", "text", "why"]


class Question(NamedTuple):
    """One question: its words, its kind, and the instruction to a chat model on the form of the answer."""

    text: str
    kind: str
    instruction: str = ""


#: kind → the form of its answers, and its wordings
KINDS: dict[Kind, tuple[str, tuple[str, ...]]] = {
    "yes_no": (
        "Answer yes or no.",
        (
            "Is there a person in the image?",
            "Is there an animal in the image?",
            "Was this picture taken outdoors?",
            "Is there any text in the image?",
            "Is there more than one object in the image?",
            "Does the image show a vehicle?",
            "Is this a photograph?",
        ),
    ),
    "what": (
        "Answer in a few words.",
        (
            "What is the main subject of the image?",
            "What is shown in this picture?",
            "What is happening in the image?",
            "What is in the foreground of the image?",
            "What can be seen in the background?",
            "What kind of place is this?",
        ),
    ),
    "colour": (
        "Answer with the colour.",
        (
            "What is the main colour of the image?",
            "What colour is the background?",
            "What colour is the largest object in the image?",
            "What colour is the main subject?",
            "Which colour stands out most in the image?",
        ),
    ),
    "count": (
        "Answer with a number.",
        (
            "How many people are in the image?",
            "How many objects are in the image?",
            "How many animals can be seen in the picture?",
            "How many main subjects does the image have?",
            "How many different colours do the objects have?",
        ),
    ),
    "where": (
        "Answer in a few words.",
        (
            "Where in the image is the main subject?",
            "Where was this picture taken?",
            "Where is the largest object in the image?",
            "Where is the brightest part of the image?",
            "Where would one find a scene like this?",
        ),
    ),
    "text": (
        "Answer with the text alone, or none if there is no text.",
        (
            "What text can be read in the image?",
            "What does the writing in the picture say?",
            "Which words or numbers are visible in the image?",
            "What is written in the image?",
        ),
    ),
    "why": (
        "Answer in one sentence.",
        (
            "Why might this picture have been taken?",
            "Why does the scene look the way it does?",
            "Why might someone find this image interesting?",
            "Why are the things in the image together?",
        ),
    ),
}


def draw(kinds: list[Kind], n: int, rng: random.Random) -> list[Question]:
    """`n` different questions, or as many as there are, spread evenly over `kinds`."""
    piles = [[Question(text, kind, KINDS[kind][0]) for text in KINDS[kind][1]] for kind in dict.fromkeys(kinds)]
    rng.shuffle(piles)
    for pile in piles:
        rng.shuffle(pile)
    rounds = [pile[i] for i in range(max(map(len, piles))) for pile in piles if i < len(pile)]
    return rounds[:n]
