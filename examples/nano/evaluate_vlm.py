"""Measure nano-vlm on scenes it has not seen: is what it says true, does it say everything, are its answers right.

    python -m examples.nano.evaluate_vlm --json figures.json

`caption_…`: the share of the statements of one sort that are true of the scene. `states_…`: the share of the scene's
facts that a caption asked for in detail states. `answer_…`: the share of right answers to the facts captioner's
questions, by kind. `one_of_4` and `best_of_4`: the share of true statements in captions drawn at a temperature, and in
the best of four by CLIP score. Everything through the engine that the `vlm` stage has.
"""

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import PIL.Image
import torch

import mmsynth as mm
from examples.nano.scene_pairs import read_scenes
from mmsynth.facts import Facts
from mmsynth.image import Image
from mmsynth.models import resolve_device
from mmsynth.models.chat import ModelSpec, Request
from mmsynth.models.chat.base import CAPTION_PROMPT
from mmsynth.models.chat.transformers_engine import TransformersChat, TransformersEngine
from mmsynth_renderers.scenes import judge

#: at which captions differ enough for the best of several to be better
_TEMPERATURE = 1.0
DETAILED = "Describe this image in detail."


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure nano-vlm.")
    parser.add_argument("--model", default="nano", help="nano (the shipped one), or a folder")
    parser.add_argument("--heldout", type=Path, default=Path("runs/nano/scenes_heldout"))
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--show", type=int, default=0, help="print what is said of so many scenes")
    options = parser.parse_args()
    pixels, records = read_scenes(options.heldout, options.scenes)
    figures = evaluate(options.model, pixels, records, options.batch, options.show)
    for name, value in figures.items():
        print(f"{name:24} {value:.4f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def evaluate(
    model: str, pixels: torch.Tensor, records: list[dict[str, Any]], batch: int, show: int = 0
) -> dict[str, float]:
    chat = load(model)
    images = [PIL.Image.fromarray(picture) for picture in pixels.permute(0, 2, 3, 1).numpy()]
    scenes = [Facts.model_validate(record["facts"]) for record in records]
    started = time.monotonic()
    captions = say(chat, images, [CAPTION_PROMPT] * len(images), batch)
    rate = len(images) / (time.monotonic() - started)
    detailed = say(chat, images, [DETAILED] * len(images), batch)
    for facts, caption, more in list(zip(scenes, captions, detailed, strict=True))[:show]:
        print(
            f"{[(g.count, g.size, g.colour, g.kind) for g in facts.objects]}, {facts.background}\n  {caption}\n  {more}"
        )
    said = [(judge.read(text), facts) for text, facts in zip(captions + detailed, scenes * 2, strict=True)]
    true = shares(verdict for text, facts in said for verdict in judge.statements(text, facts))
    whole = shares(verdict for text, facts in said[len(scenes) :] for verdict in judge.stated(text, facts))
    answers = _answers(chat, images, records, scenes, batch)
    figures = {f"caption_{sort}": share for sort, share in true.items()}
    figures |= {f"states_{sort}": share for sort, share in whole.items()}
    figures |= {f"answer_{kind}": share for kind, share in answers.items()}
    figures |= {f"{name}_of_4": sampled(model, len(images) // 4, n) for name, n in (("one", 1), ("best", 4))}
    return {**{name: round(value, 4) for name, value in figures.items()}, "captions_per_second": round(rate, 1)}


def sampled(model: str, n: int, candidates: int) -> float:
    """The share of true statements in captions drawn at random, or in the best of several by CLIP score."""
    pipeline = mm.scenes(n, seed=5).render("scenes")
    if candidates > 1:
        pipeline = pipeline.repeat(candidates)
    pipeline = pipeline.caption("vlm", model=model, temperature=_TEMPERATURE).filter("scene_truth").filter("clip")
    if candidates > 1:
        pipeline = pipeline.best_of("clip")
    with tempfile.TemporaryDirectory() as folder:
        pipeline.write(folder)
        found = [record["truth"] for record in read_scenes(folder)[1]]
    return sum(truth["true"] for truth in found) / max(1, sum(truth["stated"] for truth in found))


def _answers(
    chat: TransformersChat,
    images: list[PIL.Image.Image],
    records: list[dict[str, Any]],
    scenes: list[Facts],
    batch: int,
) -> dict[str, float]:
    asked = [(i, pair) for i, record in enumerate(records) for pair in record["qa"]]
    answers = say(chat, [images[i] for i, _ in asked], [pair["question"] for _, pair in asked], batch)
    return shares(
        (pair["kind"], judge.is_right(pair["kind"], pair["question"], answer, pair["answer"], scenes[i]))
        for (i, pair), answer in zip(asked, answers, strict=True)
    )


def load(model: str) -> TransformersChat:
    return TransformersEngine().load(ModelSpec(model), resolve_device())


def say(chat: TransformersChat, images: list[PIL.Image.Image], prompts: list[str], batch: int) -> list[str]:
    """What the model says to each prompt about its image, the likeliest tokens."""
    requests = [
        Request(
            [{"role": "user", "content": [{"type": "image", "image": ""}, {"type": "text", "text": prompt}]}],
            {"": Image.from_pixels(image)},
        )
        for image, prompt in zip(images, prompts, strict=True)
    ]
    texts = []
    for start in range(0, len(requests), batch):
        some = requests[start : start + batch]
        for reply in chat.answer(some, chat.assemble(some)):
            if isinstance(reply, Exception):
                raise reply
            texts.append(reply.text)
    return texts


def shares(verdicts: Iterable[tuple[str, bool]]) -> dict[str, float]:
    """By sort, and `all` together."""
    counted: dict[str, list[bool]] = defaultdict(list)
    for sort, true in verdicts:
        counted[sort].append(true)
        counted["all"].append(true)
    return {sort: sum(found) / len(found) for sort, found in sorted(counted.items())}


if __name__ == "__main__":
    main()
