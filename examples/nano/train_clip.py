"""Train nano CLIP on shards that mmsynth wrote. Stops and goes on: run it again with the same folder.

    mmsynth run examples/nano/scenes_train.yaml
    python -m examples.nano.train_towers image & python -m examples.nano.train_towers text & wait
    torchrun --nproc-per-node 2 -m examples.nano.train_clip     # on two cores, or two GPUs

open_clip gives the model, the tokenizer wrapper and the format. The loop is ours and short, because the loss needs
things that open_clip_train does not do: every picture also sees almost-true captions of itself (one colour, shape,
count or relation changed) among the texts it must not choose, after NegCLIP (Yuksekgonul et al. 2023), and both towers
are asked for the scene's facts (see `fact_heads`), as `train_towers` asked them before.
"""

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from examples.nano import clip_model
from examples.nano.claims import Claims
from examples.nano.evaluate_clip import evaluate
from examples.nano.fact_heads import FactHeads, FactTargets, cells_of
from examples.nano.muon import Muon
from examples.nano.options import training_options
from examples.nano.ranks import Ranks
from examples.nano.scene_pairs import ScenePairs, normalised, read_pairs
from examples.nano.train_towers import TOWERS, state_file


def main() -> None:
    parser = training_options(
        "Train nano CLIP.",
        shards=Path("runs/nano/scenes_train"),
        folder=Path("runs/nano/clip"),
        steps=2000,
        batch=128,
        lr=1e-3,
    )
    parser.add_argument("--heldout", type=Path, default=Path("runs/nano/scenes_heldout"))
    options = parser.parse_args()

    ranks = Ranks.join()
    pairs = read_pairs(options.shards, options.limit, shared=True)
    ranks.say(f"{len(pairs):,} scenes in each of {ranks.count} processes")
    if ranks.first:
        clip_model.create_if_missing(options.folder, pairs, options.seed)
    ranks.wait()
    Training(options, pairs, ranks).run(read_pairs(options.heldout, limit=1000))


class Training(nn.Module):
    """Model, heads, optimizer and step; everything that a checkpoint holds."""

    def __init__(self, options: argparse.Namespace, pairs: ScenePairs, ranks: Ranks) -> None:
        super().__init__()
        self.options, self.pairs, self.ranks = options, pairs, ranks
        torch.manual_seed(options.seed)
        self.model, tokenizer = clip_model.load(options.folder)
        self.heads = FactHeads(*clip_model.widths(self.model))
        #: of the sigmoid that judges a picture's own captions: the same threshold for every picture
        self.judge = nn.Parameter(torch.tensor([10.0, -5.0]))
        self.to(ranks.device)
        self.texts = TokenizedScenes(pairs, tokenizer)
        self.targets, self.cells = FactTargets.of(pairs.facts), cells_of(pairs.facts)
        self.optimizer = Muon(self, options.lr, weight_decay=0.05)
        self.step = 0
        self.state_file = options.folder / "training.pt"
        self._start_from_towers()
        if self.state_file.exists():
            state = torch.load(self.state_file, map_location=ranks.device, weights_only=True)
            self.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = state["step"]

    def _start_from_towers(self) -> None:
        """With what `train_towers` taught each of them, if it did."""
        for tower in TOWERS:
            file = state_file(self.options.folder, tower)
            if not file.exists():
                continue
            state = torch.load(file, map_location=self.ranks.device, weights_only=True)
            own = {
                name: value
                for name, value in state["model"].items()
                if name.startswith("visual.") == (tower == "image")
            }
            self.model.load_state_dict(own, strict=False)
            if tower == "image":
                self.heads.load_state_dict(state["heads"])

    def run(self, heldout: ScenePairs) -> None:
        stop = time.monotonic() + 60 * self.options.minutes
        self.train()
        started, first = time.monotonic(), self.step
        while self.step < self.options.steps and not self.ranks.any(time.monotonic() > stop):
            losses = self._train_step()
            if self.step % 20 == 0:
                rate = (self.step - first) * self.options.batch / (time.monotonic() - started)
                self._save()
                self._log(step=self.step, scenes_per_second=round(rate, 1), **losses)
            if self.step % 200 == 0:
                self._evaluate(heldout)
        self._save()
        self._evaluate(heldout)

    def _train_step(self) -> dict[str, float]:
        """One step. Its scenes come from the seed and the step number, so going on is as if never stopped."""
        seed = (self.options.seed * 1_000_003 + self.step) * self.ranks.count + self.ranks.rank
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randint(len(self.pairs), (self.options.batch // self.ranks.count,), generator=generator)
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.lr * clip_model.schedule(self.step, self.options.steps)
        losses = self._losses(chosen, generator)
        self.optimizer.zero_grad(set_to_none=True)
        sum(losses.values(), start=torch.zeros(())).backward()
        self.ranks.average_gradients(self)
        nn.utils.clip_grad_norm_(self.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, math.log(100))
        self.step += 1
        return {name: round(float(loss.detach()), 4) for name, loss in losses.items()}

    def _losses(self, chosen: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        device = self.ranks.device
        targets = self.targets.of_scenes(chosen, device)
        images, seen = clip_model.encode_with_cells(self.model, normalised(self.pairs.pixels[chosen]).to(device))
        ids, claims = self.texts.batch(chosen.tolist(), generator)
        texts = encode_texts(self.model, ids, device)
        true, false = texts[: len(images)], texts[len(images) :]
        return {
            "contrast": contrast_loss(self.model.logit_scale.exp(), images, true, false),
            "own": own_loss(self.judge, images, true, false),
            "image_facts": self.heads.embedding_loss(images, targets) / 2,
            "text_facts": self.heads.embedding_loss(texts, claims.of_scenes(torch.arange(len(texts)), device)) / 2,
            "cells": self.heads.cell_loss(seen, self.cells[chosen].long().to(device), targets),
        }

    def _evaluate(self, heldout: ScenePairs) -> None:
        if self.ranks.first:
            self._log(step=self.step, **evaluate(self.options.folder, heldout))
        self.ranks.wait()

    def _save(self) -> None:
        state = {"model": self.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.step}
        self.ranks.save(state, self.state_file)
        if self.ranks.first:
            clip_model.save_weights(self.options.folder, self.model, torch.float16)

    def _log(self, **values: Any) -> None:
        self.ranks.say(json.dumps(values))
        if self.ranks.first:
            with (self.options.folder / "log.jsonl").open("a") as file:
                file.write(json.dumps(values) + "\n")


_NEGATIVES = 2


class TokenizedScenes:
    """Every caption as token ids, with what it claims, made once."""

    def __init__(self, pairs: ScenePairs, tokenizer: Any) -> None:
        captions: list[str] = []
        self._true, self._false = [], []
        for true, false in zip(pairs.captions, pairs.negatives, strict=True):
            start = len(captions)
            captions += [*true, *false.values()]
            self._true.append(range(start, start + len(true)))
            self._false.append(range(start + len(true), len(captions)))
        self._ids = clip_model.token_ids(tokenizer, captions)
        self._claims = Claims.of(captions, tokenizer.tokenizer).by_end

    def batch(self, scenes: list[int], generator: torch.Generator) -> tuple[Tensor, FactTargets]:
        """[3·batch, context]: a true caption of each scene, then two almost-true ones of each, scene by scene."""
        rows = [self._true[i][int(torch.randint(len(self._true[i]), (1,), generator=generator))] for i in scenes]
        for i in scenes:
            chosen = torch.randperm(len(self._false[i]), generator=generator)[:_NEGATIVES]
            rows += [self._false[i][int(j)] for j in chosen]
        chosen_rows = torch.tensor(rows)
        return self._ids[chosen_rows].long(), self._claims.of_scenes(chosen_rows, "cpu")


def encode_texts(model: Any, texts: Tensor, device: str, parts: int = 4) -> Tensor:
    """open_clip's `encode_text(normalize=True)`, in parts of like length."""
    order = (texts != 0).sum(1).argsort()
    embedded = []
    for part in order.chunk(parts):
        ids = texts[part].to(device)
        ends = clip_model.text_features(model, ids)[torch.arange(len(ids), device=ids.device), ids.argmax(dim=-1)]
        embedded.append(functional.normalize(ends @ model.text_projection, dim=-1))
    return torch.cat(embedded)[order.argsort()]


def contrast_loss(scale: Tensor, images: Tensor, true: Tensor, false: Tensor) -> Tensor:
    """Pictures against all texts, true and almost true; true texts against all pictures."""
    logits = scale * images @ torch.cat([true, false]).T
    truth = torch.arange(len(images), device=logits.device)
    return (functional.cross_entropy(logits, truth) + functional.cross_entropy(logits[:, : len(true)].T, truth)) / 2


def own_loss(judge: Tensor, images: Tensor, true: Tensor, false: Tensor) -> Tensor:
    """A picture's own caption above one threshold, its almost-true ones below, so that cosines compare."""
    cosines = torch.cat([(images * true).sum(-1), (images.repeat_interleave(_NEGATIVES, 0) * false).sum(-1)])
    truth = torch.zeros_like(cosines)
    truth[: len(true)] = 1
    weight = torch.tensor(float(_NEGATIVES), device=cosines.device)
    return functional.binary_cross_entropy_with_logits(judge[0] * cosines + judge[1], truth, pos_weight=weight)


if __name__ == "__main__":
    main()
