"""What nano-vlm is taught to say: prompts and answers about each scene, packed so that one look answers many.

A row is one picture followed by several turns. Every turn sees the picture and itself, not its neighbours, and
counts its positions from the picture on: as if it had been asked alone. And at each token of the picture in which an
object has its middle, the model is asked for a word about the object, its name or its colour or how many like it there
are or where it stands to another: captions alone teach the decoder very slowly where to look for that.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from examples.nano import vlm_model
from examples.nano.fact_heads import cells_of
from examples.nano.scene_pairs import normalised
from mmsynth.facts import Facts
from mmsynth.models.chat.base import CAPTION_PROMPT
from mmsynth_renderers.scenes import COLOURS
from mmsynth_renderers.scenes.shapes import KINDS
from mmsynth_renderers.scenes.vocabulary import NUMBERS, OPPOSITES

#: tokens of text in a row, after the picture
TEXT_TOKENS = 128
_IGNORED = -100

_ONE_SENTENCE = (CAPTION_PROMPT, CAPTION_PROMPT, "Describe the image.", "What does this image show?")
_DETAILED = ("Describe this image in detail.", "Describe the image in detail.", "Write a detailed caption.")
_SHORT = ("Describe this image briefly.", "Write a short caption.", "Describe this image in a few words.")
#: kind of question → what the `ask` stage tells a model about the form of the answer
_FORMS = {
    "yes_no": "Answer yes or no.",
    "colour": "Answer with the colour.",
    "count": "Answer with a number.",
    "what": "Answer in a few words.",
    "where": "Answer in a few words.",
}
_NUMBERS = NUMBERS[1:]
_SIDES = ("left", "right", "above", "below")
_ANIMALS, _VEHICLES = {"fish", "cat"}, {"car", "boat"}


def turns(record: dict[str, Any], rng: random.Random) -> Iterator[tuple[str, str]]:
    """Prompt and answer, for every caption and question-answer pair of a record."""
    for entry in record["captions"]:
        if entry["origin"] == "synthetic":
            yield rng.choice(_prompts(entry["text"])), entry["text"]
    general = rng.sample(list(_general(Facts.model_validate(record["facts"]))), 1)
    for kind, question, answer in [*((p["kind"], p["question"], p["answer"]) for p in record["qa"]), *general]:
        form = _FORMS.get(kind, "") if rng.random() < 0.5 else ""
        yield f"{question} {form}".strip(), answer


def _prompts(caption: str) -> Sequence[str]:
    if "background" not in caption:
        return _SHORT
    return _ONE_SENTENCE if caption.count(".") == 1 else _DETAILED


def _general(facts: Facts) -> Iterator[tuple[str, str, str]]:
    """Kind, question and answer: what `ask` asks of any picture, as far as a drawn scene has an answer."""
    kinds = {group.kind for group in facts.objects}
    total = sum(group.count for group in facts.objects)
    yield "yes_no", "Is there a person in the image?", "No"
    yield "yes_no", "Is there any text in the image?", "No"
    yield "yes_no", "Is this a photograph?", "No"
    yield "yes_no", "Is there an animal in the image?", "Yes" if kinds & _ANIMALS else "No"
    yield "yes_no", "Does the image show a vehicle?", "Yes" if kinds & _VEHICLES else "No"
    yield "yes_no", "Is there more than one object in the image?", "Yes" if total > 1 else "No"
    yield "count", "How many people are in the image?", "None"
    yield "count", "How many different colours do the objects have?", _number(len({g.colour for g in facts.objects}))
    yield "colour", "What colour is the background?", facts.background.capitalize()
    yield "text", "What text can be read in the image?", "None"
    yield "text", "What is written in the image?", "None"


def _number(count: int) -> str:
    return ("None", *_NUMBERS)[count].capitalize()


@dataclass
class Turns:
    """A scene's turns: `ids[i]` is prompt, <assistant>, answer, <end>; its answer is from `starts[i]` on.

    `words` [4, 64]: for each token of the picture the token of the name, the colour and the number of what stands
    there, and of its relation to another group; or -100.
    """

    ids: list[npt.NDArray[np.int16]]
    starts: list[int]
    words: npt.NDArray[np.int16]


def tokenize(records: Sequence[dict[str, Any]], tokenizer: Any, seed: int) -> list[Turns]:
    rng = random.Random(seed)
    facts = [Facts.model_validate(record["facts"]) for record in records]
    word_ids = {w: tokenizer(f" {w}")["input_ids"][0] for w in (*KINDS, *COLOURS, *_NUMBERS, *_SIDES)}
    scenes = []
    for record, there, cells in zip(records, facts, cells_of(facts).tolist(), strict=True):
        said = list(turns(record, rng))
        prompts = tokenizer([prompt + vlm_model.ASSISTANT for prompt, _ in said])["input_ids"]
        answers = tokenizer([answer + vlm_model.END for _, answer in said])["input_ids"]
        ids = [np.array(p + a, dtype=np.int16) for p, a in zip(prompts, answers, strict=True)]
        about = [[word_ids.get(word, _IGNORED) for word in _words_about(there, i)] for i in range(len(there.objects))]
        words = np.array([about[group] if group >= 0 else [_IGNORED] * 4 for group in cells], dtype=np.int16).T
        scenes.append(Turns(ids, [len(prompt) for prompt in prompts], words))
    return scenes


def _words_about(facts: Facts, group: int) -> tuple[str, str, str, str]:
    """Name, colour, number, and the word of its first relation, none where it has none."""
    there = facts.objects[group]
    sides = [r.relation for r in facts.relations if r.subject == group]
    sides += [OPPOSITES[r.relation] for r in facts.relations if r.object == group]
    side = next((word for word in _SIDES if sides and word in sides[0]), "")
    return there.kind, there.colour, _NUMBERS[there.count - 1], side


def deciding_tokens(tokenizer: Any) -> list[int]:
    """Tokens that say how many, where, and yes or no: what is hardest to see."""
    words = (*_NUMBERS, *_SIDES, "yes", "no")
    written = [spelling for word in words for spelling in (f" {word}", word.capitalize())]
    return sorted({ids[0] for ids in tokenizer(written)["input_ids"] if len(ids) == 1})


class PackedScenes(torch.utils.data.Dataset[dict[str, Any]]):
    """Rows for training: the picture's number, and turns chosen anew each time, as many as fit."""

    def __init__(self, pixels: torch.Tensor, scenes: Sequence[Turns], tokenizer: Any) -> None:
        self._pixels, self._scenes = pixels, scenes
        image, user = tokenizer.convert_tokens_to_ids([vlm_model.IMAGE, vlm_model.USER])
        self._prefix = [user, *[image] * vlm_model.GRID**2]
        self._pad = tokenizer.pad_token_id
        self.deciding = deciding_tokens(tokenizer)

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, index: int) -> dict[str, Any]:
        scene = self._scenes[index]
        length = len(self._prefix) + TEXT_TOKENS
        ids = np.full(length, self._pad, dtype=np.int64)
        labels = np.full(length, _IGNORED, dtype=np.int64)
        positions = np.zeros(length, dtype=np.int64)
        turn = np.full(length, -1, dtype=np.int64)
        at = len(self._prefix)
        ids[:at], positions[:at], turn[:at] = self._prefix, range(at), 0
        # a token is asked for its successor's label
        words = scene.words[int(torch.randint(len(scene.words), ()))]
        labels[2 : 2 + len(words)] = words
        for number, chosen in enumerate(torch.randperm(len(scene.ids)).tolist(), 1):
            own, start = scene.ids[chosen], scene.starts[chosen]
            stop = at + len(own)
            if stop > length:
                continue
            ids[at:stop], turn[at:stop] = own, number
            positions[at:stop] = range(len(self._prefix), len(self._prefix) + len(own))
            labels[at + start : stop] = own[start:]
            at = stop
        return {"pixels": self._pixels[index], "ids": ids, "labels": labels, "positions": positions, "turn": turn}


def collate(rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """The model's inputs; the mask [batch, 1, length, length] is 0 where a token may look and very low elsewhere."""
    pixels = torch.stack([row["pixels"] for row in rows])
    ids, labels, positions, turn = (
        torch.from_numpy(np.stack([row[name] for row in rows])) for name in ("ids", "labels", "positions", "turn")
    )
    seen = (turn[:, :, None] == turn[:, None, :]) | (turn[:, None, :] == 0)
    seen &= torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    mask = torch.where(seen, 0.0, torch.finfo(torch.float32).min)[:, None]
    return {
        "pixel_values": normalised(pixels),
        "input_ids": ids,
        "labels": labels,
        "position_ids": positions,
        "attention_mask": mask,
    }
